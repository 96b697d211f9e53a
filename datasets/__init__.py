"""TFDS builders that make named datasets with the readers, image rules and record schema of tfr."""
