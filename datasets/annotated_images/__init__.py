"""Images with annotations in any format that tfr reads."""
