"""Images that were uploaded, in memory, to be found by their tags; the oldest make room for new ones."""

import collections
import io
import threading
import uuid
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from tfr import image_decoding
from tfr.images import ImageOptions

from ..prediction.tags import Tag

_THUMBNAIL = 360  # pixels of the longer side


class Entry(NamedTuple):
    """An uploaded image: its key, file name, the tags that it has, and a small JPEG of it."""

    key: str
    name: str
    tags: list[Tag]
    thumbnail: bytes


class Gallery:
    """At most `size` entries. Any number of threads may use one gallery."""

    def __init__(self, size: int):
        self._size = size
        self._entries: collections.OrderedDict[str, Entry] = collections.OrderedDict()
        self._lock = threading.Lock()

    def add(self, name: str, tags: Sequence[Tag], data: bytes, limits: ImageOptions) -> Entry:
        """Keeps a small copy of an image that is known to be sound."""
        entry = Entry(uuid.uuid4().hex, name, list(tags), _thumbnail(data, limits))
        with self._lock:
            self._entries[entry.key] = entry
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)
        return entry

    def get(self, key: str) -> Entry | None:
        """The entry of a key; None where there is none any more."""
        with self._lock:
            return self._entries.get(key)

    def find(self, tag: str | None = None) -> list[Entry]:
        """The entries with a tag, likeliest first; without one all, newest first."""
        with self._lock:
            entries = list(reversed(self._entries.values()))
        if tag is None:
            return entries
        found = [(dict(entry.tags)[tag], entry) for entry in entries if tag in dict(entry.tags)]
        return [entry for _, entry in sorted(found, key=lambda pair: -pair[0])]

    def counts(self) -> dict[str, int]:
        """How many entries have each tag, the most frequent tags first."""
        with self._lock:
            entries = list(self._entries.values())
        counter = collections.Counter(tag.label for entry in entries for tag in entry.tags)
        return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _thumbnail(data: bytes, limits: ImageOptions) -> bytes:
    picture = image_decoding.decode_rgb(data, limits)
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BILINEAR)
    picture.info = {}  # where it was taken is nobody's business
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
