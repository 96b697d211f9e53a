"""A run as files that are used without tfr."""
