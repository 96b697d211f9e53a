"""Commands of the conversion side."""
