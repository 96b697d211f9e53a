"""The builder of MIRFLICKR-25k: on its dummy data, and through the download of archives of the same layout."""

import functools
import hashlib
import http.server
import pathlib
import threading
import zipfile

import pytest
import tensorflow_datasets as tfds

from tfr.datasets.mirflickr25k import archives
from tfr.datasets.mirflickr25k import mirflickr25k_dataset_builder as mirflickr
from tfr.errors import AnnotationError, DatasetError

DUMMY_DATA = pathlib.Path(mirflickr.Builder.code_path.parent, "dummy_data")
LISTS = "mirflickr25k_annotations_v080"


class PotentialTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = mirflickr.Builder  # all four configs
    SPLITS = {"train": 12, "validation": 3, "test": 1}


@pytest.fixture
def build(tmp_path):
    """build(config, cls, manual_dir, **options): a prepared builder."""

    def make(config="potential", cls=mirflickr.Builder, manual_dir=DUMMY_DATA, **options):
        builder = cls(data_dir=tmp_path / "data", config=config)
        config = tfds.download.DownloadConfig(manual_dir=manual_dir, **options)
        builder.download_and_prepare(download_config=config)
        return builder

    return make


@pytest.fixture
def packed(tmp_path):
    """A folder with the two archives, flat and as deep as the published ones, made of the dummy data."""
    folder = tmp_path / "packed"
    folder.mkdir()
    for name, root, pattern in (
        ("mirflickr25k.zip", DUMMY_DATA, "mirflickr/**/*"),
        (f"{LISTS}.zip", DUMMY_DATA / LISTS, "*.txt"),
    ):
        with zipfile.ZipFile(folder / name, "w") as file:
            for path in sorted(root.glob(pattern)):
                file.write(path, path.relative_to(root))
    return folder


@pytest.fixture
def served(packed):
    """A builder whose archives come from a server on this machine; `requests` has the paths that were asked for."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            super().do_GET()

        def log_message(self, *args):
            del args

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=packed)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield _builder_for(packed, f"http://127.0.0.1:{server.server_port}/"), requests
        server.shutdown()
        thread.join()


def _builder_for(packed, url):
    class Local(mirflickr.Builder, skip_registration=True):
        name = "mirflickr25k"
        ARCHIVES = {
            key: archives.Archive(
                url + archive.name,
                (packed / archive.name).stat().st_size,
                hashlib.md5((packed / archive.name).read_bytes()).hexdigest(),
            )
            for key, archive in archives.MIRFLICKR25K.items()
        }

    Local.code_path, Local.pkg_dir_path = packed / "builder.py", mirflickr.Builder.pkg_dir_path
    return Local


def examples(builder, key):
    names = builder.info.features[key].feature.names
    return {
        example["id"].decode(): {names[i] for i in example[key]}
        for split in builder.info.splits
        for example in tfds.as_numpy(builder.as_dataset(split=split))
    }


def listed(label):
    """The images that a label's file lists."""
    return {f"im{number}.jpg" for number in (DUMMY_DATA / LISTS / f"{label}.txt").read_text().split()}


def images_with(label, labels):
    return {id_ for id_, names in labels.items() if label in names}


def test_the_published_archives():
    assert {key: (archive.name, archive.size) for key, archive in archives.MIRFLICKR25K.items()} == {
        "images": ("mirflickr25k.zip", 3_069_184_257),
        "lists": ("mirflickr25k_annotations_v080.zip", 207_220),
    }
    assert len(list((DUMMY_DATA / LISTS).iterdir())) == 39, "24 potential and 14 relevant labels, and a README"


@pytest.mark.parametrize(("config", "num_labels"), [("potential", 24), ("all", 38)])
def test_labels_are_those_of_the_files(build, config, num_labels):
    labels = examples(build(config), "labels")
    names = mirflickr.Builder.builder_configs[config].names
    assert len(names) == num_labels
    assert {name: images_with(name, labels) for name in names} == {name: listed(name) for name in names}


def test_relevant_leaves_open_what_is_only_potential(build):
    builder = build("relevant")
    labels, unknown = (examples(builder, key) for key in ("labels", "labels_unknown"))
    for name in mirflickr.RELEVANT:
        assert images_with(name, labels) == listed(f"{name}_r1")
        assert images_with(name, unknown) == listed(name) - listed(f"{name}_r1")


def test_tags_are_the_common_ones(build):
    builder = build("tags")
    labels = examples(builder, "labels")
    assert builder.info.features["labels"].feature.names == ["sky", "blue", "nikon", "macro"]
    assert set.union(*labels.values()) == {"sky", "blue", "nikon", "macro"}
    written = (DUMMY_DATA / "mirflickr/meta/tags/tags3.txt").read_text().split()
    assert labels["im3.jpg"] == set(written) - {"rare3"}
    assert builder.info.metadata["dropped_labels"]["rare3"] == 1


def test_licence_and_photographer_are_carried_along(build):
    (example,) = tfds.as_numpy(build().as_dataset(split="test"))
    number = example["id"].decode().removeprefix("im").removesuffix(".jpg")
    assert example["photographer"].decode() == f"photographer {number}"
    assert example["license"].decode().startswith("License: Attribution-NonCommercial http://creativecommons.org")


def test_download(served, build):
    cls, requests = served
    builder = build(cls=cls, manual_dir=None)
    labels = examples(builder, "labels")
    assert {name: images_with(name, labels) for name in mirflickr.POTENTIAL} == {
        name: listed(name) for name in mirflickr.POTENTIAL
    }
    assert builder.info.download_size == sum(archive.size for archive in cls.ARCHIVES.values())
    build("tags", cls=cls, manual_dir=None)
    assert sorted(requests) == ["/mirflickr25k.zip", f"/{LISTS}.zip"], "each archive once for all configs"


def test_download_registers_checksums_that_tfds_then_checks(served, build, packed):
    cls, requests = served
    (packed / "checksums.tsv").touch()
    build(cls=cls, manual_dir=None, register_checksums=True)
    lines = (packed / "checksums.tsv").read_text().splitlines()
    assert {line.split("\t")[2] for line in lines} == {
        hashlib.sha256((packed / archive.name).read_bytes()).hexdigest() for archive in cls.ARCHIVES.values()
    }
    assert len(requests) == 2


def test_a_changed_archive_is_refused(served, build, packed):
    cls, _ = served
    with zipfile.ZipFile(packed / f"{LISTS}.zip", "a") as file:
        file.writestr("more.txt", "1\n")
    with pytest.raises(DatasetError, match=f"not the {LISTS}.zip that was published: .* bytes are|expected"):
        build(cls=cls, manual_dir=None)


def test_archives_in_the_manual_directory_are_not_fetched(served, build, packed):
    cls, requests = served
    builder = build("all", cls=cls, manual_dir=packed)
    assert not requests
    assert builder.info.splits["train"].num_examples == 12


def test_a_missing_list_is_an_error(build, tmp_path):
    manual = tmp_path / "manual"
    (manual / "mirflickr").mkdir(parents=True)
    (manual / "annotations").mkdir()
    (manual / "mirflickr/im1.jpg").write_bytes((DUMMY_DATA / "mirflickr/im1.jpg").read_bytes())
    (manual / "annotations/sky.txt").write_text("1\n")
    (manual / "annotations/sea_r1.txt").write_text("1\n")
    with pytest.raises(AnnotationError, match=r"no files for the labels \['animals', .*Is the archive complete"):
        build(manual_dir=manual)


@pytest.mark.parametrize(("labels", "num_labels"), [("potential", 20), ("all", 34), ("relevant", 14), ("tags", 10)])
def test_real_sample(shared_data, build, labels, num_labels):
    config = mirflickr.MirflickrConfig(name="sample", labels=labels)
    builder = build(config, manual_dir=shared_data / "mirflickr_sample")
    assert builder.info.splits.total_num_examples == 300
    assert {example["license"] for example in tfds.as_numpy(builder.as_dataset(split="test"))} == {b""}, "it has none"
    assert builder.info.features["labels"].feature.num_classes == num_labels
