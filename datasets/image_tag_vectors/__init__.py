"""Images in split folders, with a pickled vector of tags for each."""
