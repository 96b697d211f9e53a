"""Images inside the records of shards, by URI: what lets a dataset be converted again without unpacking it."""

from tensorflow_datasets.proto import tf_example_pb2

from tfr import files, shards

IMAGE_FEATURE = "image"


def make_uri(path: str, place: int, length: int) -> str:
    """The URI of the image in a record of `length` bytes at a place of a shard (see `shards.read_placed`)."""
    return f"{files.RECORD_SCHEME}{path}#{place}+{length}"


def split_uri(uri: str) -> tuple[str, int, int]:
    """(path, place, length) of a URI that `make_uri` made."""
    path, _, place = uri.removeprefix(files.RECORD_SCHEME).rpartition("#")
    start, _, length = place.partition("+")
    return path, int(start), int(length)


def read_image(uri: str) -> bytes:
    """The encoded image in a record; FileNotFoundError where the file or the feature is missing."""
    example = tf_example_pb2.Example.FromString(shards.read_at(*split_uri(uri)))
    values = example.features.feature[IMAGE_FEATURE].bytes_list.value
    if not values:
        raise FileNotFoundError(f"{uri}: the record has no feature {IMAGE_FEATURE!r}")
    return values[0]
