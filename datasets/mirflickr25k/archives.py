"""The archives of MIRFLICKR-25k: where they are, whether they are whole, and what is in them."""

import dataclasses
import hashlib

import tensorflow_datasets as tfds
from etils import epath

from tfr import progress
from tfr.annotations import mirflickr_reader
from tfr.errors import DatasetError

_URL = "https://press.liacs.nl/mirflickr/mirflickr25k.v3b/"
_CHUNK_BYTES = 1 << 20  # what progress is counted in


@dataclasses.dataclass(frozen=True)
class Archive:
    """A file to download.

    Attributes:
      url: where it is.
      size: in bytes.
      md5: hex digest. TFDS itself checks SHA-256 only, which nobody has published of these files.
    """

    url: str
    size: int
    md5: str

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


MIRFLICKR25K = {
    "images": Archive(f"{_URL}mirflickr25k.zip", 3_069_184_257, "a23d0a8564ee84cda5622a6c2f947785"),
    "lists": Archive(f"{_URL}mirflickr25k_annotations_v080.zip", 207_220, "aa0138c79892b1b670184d142380948f"),
}


def fetch(dl_manager: tfds.download.DownloadManager, archives: dict[str, Archive]) -> tuple[str, str]:
    """Finds what is in the archives in the manual directory, or downloads, checks and unpacks them.

    Returns:
      The folder of the label files, and the folder that `mirflickr/` is in.

    Raises:
      DatasetError: an archive is not the file that was published.
    """
    manual = _manual_dir(dl_manager)
    if manual and (manual / "mirflickr").exists():
        return mirflickr_reader.find_lists(str(manual)) or str(manual), str(manual)
    paths = {key: manual / archive.name for key, archive in archives.items()} if manual else {}
    if not paths or not all(path.exists() for path in paths.values()):
        paths = dl_manager.download({key: archive.url for key, archive in archives.items()})
    for key, archive in archives.items():
        _check(epath.Path(paths[key]), archive)
    folders = {key: str(path) for key, path in dl_manager.extract(paths).items()}
    return mirflickr_reader.find_lists(folders["lists"]) or folders["lists"], folders["images"]


def _manual_dir(dl_manager: tfds.download.DownloadManager) -> epath.Path | None:
    try:
        return dl_manager.manual_dir
    except AssertionError:  # how TFDS says that it is missing or empty
        return None


def _check(path: epath.Path, archive: Archive) -> None:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with path.open("rb") as file:
        chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
        for chunk in progress.count(chunks, f"checking {archive.name}", "MiB"):
            digest.update(chunk)
            size += len(chunk)
    if (size, digest.hexdigest()) != (archive.size, archive.md5):
        raise DatasetError(
            f"{path}: not the {archive.name} that was published: {size} bytes with MD5 {digest.hexdigest()}, where "
            f"{archive.size} bytes with MD5 {archive.md5} are expected. Remove it and fetch it again."
        )
