"""Training: a dataset directory to a trained, measured, deployed tagger. Imports nothing at import time."""
