"""TFDS builders that make named datasets with the readers, image rules and record schema of tfr.

Importing this package registers them with TFDS: `import tfr.datasets; tfds.load("movie_posters")`.
"""

import importlib

NAMES = (
    "annotated_images",
    "decor_patterns",
    "image_tag_vectors",
    "mirflickr25k",
    "movie_posters",
    "synthetic_shapes",
)

for _name in NAMES:
    importlib.import_module(f"{__name__}.{_name}.{_name}_dataset_builder")
