"""A small HTTP server for a trained tagger on one machine."""
