"""An object store in memory, registered with Beam as flaky://, that fails now and then."""

import errno
import io
import random

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem


class ServerError(Exception):
    """What a cloud client raises: an HTTP status, and no OSError."""

    def __init__(self, code):
        super().__init__(f"{code} of the server")
        self.code = code


def _transient(number):
    return (
        TimeoutError("the store did not answer"),
        BeamIOError("Operation failed", {"flaky://b/x": ServerError(503)}),
        ServerError(429),
        OSError(errno.EIO, "Input/output error"),
        ConnectionResetError("by the store"),
    )[number % 5]


class Store:
    """The content, and when to fail: that share of the calls; `broken` makes every call fail with that error."""

    def __init__(self):
        self.blobs, self.rate, self.broken, self.failures = {}, 0, None, 0
        self._random = random.Random(1)

    def call(self):
        if self.broken is not None:
            raise self.broken
        if self._random.random() < self.rate:
            self.failures += 1
            raise _transient(self.failures)


STORE = Store()


class _Reader(io.BytesIO):
    def read(self, size=-1):
        STORE.call()
        return super().read(size)


class _Writer(io.BytesIO):
    """Like a stream to a store, what is written counts on closing, even of a writer that failed."""

    def __init__(self, path):
        super().__init__()
        self._path = path

    def write(self, data):
        STORE.call()
        return super().write(data)

    def close(self):
        if not self.closed:
            STORE.blobs[self._path] = self.getvalue()
        super().close()


class FlakyFileSystem(FileSystem):
    @classmethod
    def scheme(cls):
        return "flaky"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        pass

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        STORE.call()
        for path, data in sorted(STORE.blobs.items()):
            if path.startswith(dir_or_prefix):
                yield FileMetadata(path, len(data))

    def create(self, path, mime_type="application/octet-stream", compression_type="auto"):
        STORE.call()
        return _Writer(path)

    def open(self, path, mime_type="application/octet-stream", compression_type="auto"):
        STORE.call()
        if path not in STORE.blobs:
            raise ServerError(404)
        return _Reader(STORE.blobs[path])

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            STORE.call()
            if source not in STORE.blobs:
                raise BeamIOError("Rename operation failed", {(source, target): ServerError(404)})
            STORE.blobs[target] = STORE.blobs.pop(source)
            STORE.call()  # the answer can get lost as well

    def exists(self, path):
        STORE.call()
        return path in STORE.blobs

    def size(self, path):
        return len(STORE.blobs[path])

    def last_updated(self, path):
        return 0

    def checksum(self, path):
        return str(hash(STORE.blobs[path]))

    def metadata(self, path):
        return FileMetadata(path, len(STORE.blobs[path]))

    def delete(self, paths):
        for path in paths:
            STORE.call()
            if path not in STORE.blobs:
                raise BeamIOError("Delete operation failed", {path: ServerError(404)})
            del STORE.blobs[path]
