"""Heat maps: which part of an image speaks for a label."""
