"""Images inside TFRecord files, by URI: what lets a dataset be converted again without unpacking it."""

from tensorflow_datasets.proto import tf_example_pb2

from tfr import files

IMAGE_FEATURE = "image"


def make_uri(path: str, offset: int, length: int) -> str:
    """The URI of the image in the record whose data are `length` bytes at `offset` of a TFRecord file."""
    return f"{files.RECORD_SCHEME}{path}#{offset}+{length}"


def split_uri(uri: str) -> tuple[str, int, int]:
    """(path, offset, length) of a URI that `make_uri` made."""
    path, _, place = uri.removeprefix(files.RECORD_SCHEME).rpartition("#")
    offset, _, length = place.partition("+")
    return path, int(offset), int(length)


def read_image(uri: str) -> bytes:
    """The encoded image in a record; FileNotFoundError where the file or the feature is missing."""
    path, offset, length = split_uri(uri)
    with files.open_binary(path) as file:
        file.seek(offset)
        example = tf_example_pb2.Example.FromString(file.read(length))
    values = example.features.feature[IMAGE_FEATURE].bytes_list.value
    if not values:
        raise FileNotFoundError(f"{uri}: the record has no feature {IMAGE_FEATURE!r}")
    return values[0]
