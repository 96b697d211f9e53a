"""The conversion against TFDS's builders and against bare loops, on the same images, as ratios in one run.

    python benchmarks/bench_conversion.py --images=FOLDER_OF_JPEGS --count=12000 --repeats=3

Every case reads `count` files (the folder's, over and over) and writes the same records. Each runs in a process of its
own, on two images first: what that takes, imports above all (TFDS imports TensorFlow when it first needs it), is not in
the first table and is in the second one. Everything else is timed: planning, Beam's start, metadata. With --cpu=1 rates
are per second of processor time, of all threads and processes together: the steadier figure where other work shares the
cores.

  tfr              tfr's conversion, every image verified
  tfr_header       the same with --check_images=header
  bare_loop        no framework, both cores: read, verify at 1/8 scale, serialise, frame, write; the best of threads
                   and processes is the limit to hold against
  bare_processes   the same with two processes instead of two threads
  tfds_generator   tfds.core.GeneratorBasedBuilder from a plain generator; verifies nothing
  tfds_beam        the same builder returning a Beam PTransform; verifies nothing
"""

import argparse
import concurrent.futures
import functools
import itertools
import os
import shutil
import struct
import tempfile

import numpy as np
import peers

CASES = ["tfr", "tfr_header", "bare_loop", "bare_processes", "tfds_generator", "tfds_beam"]
_LABELS = ("a", "b", "c")
_FINGERPRINT = 0x3C3C1E0F0F1E3C3C  # what the others write; tfr alone computes it


def _rows(args):
    for number, path in enumerate(peers.jpeg_paths(args.images, args.count)):
        yield f"{number:07d}", path, [number % 3]


def convert(args, folder, check="decode"):
    from tfr import annotations, config, conversion, images

    links = os.path.join(folder, "images")
    os.makedirs(links)
    table = os.path.join(folder, "rows.csv")
    with open(table, "w", encoding="utf-8") as file:
        file.write("image,label,keep\n")
        for id_, path, labels in _rows(args):
            peers.link(os.path.abspath(path), os.path.join(links, f"{id_}.jpg"))
            file.write(f"{id_}.jpg,{_LABELS[labels[0]]},x\n")
    job = config.ConvertConfig(
        annotations=table,
        images=links,
        data_dir=os.path.join(folder, "data"),
        name="bench",
        label_mode="multi",
        read=annotations.ReadOptions(label_columns=("label",)),
        split_ratios=config.splits.parse_ratios("train=1"),
        image=images.ImageOptions(check_images=check),
        threads_per_worker=args.threads,
        num_workers=getattr(args, "num_workers", None),
    )
    started = peers.clock(args)
    result = conversion.convert(job)
    assert result.records_written == args.count, result
    return peers.clock(args) - started


def _write_bare(rows, path):
    """The bare loop of one core: what the conversion does to an image, and nothing else."""
    import google_crc32c
    import simplejpeg
    from tensorflow_datasets.proto import tf_example_pb2

    def masked(data):
        crc = google_crc32c.value(data)
        return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    with open(path, "wb", buffering=1 << 20) as out:
        for id_, source, labels in rows:
            with open(source, "rb") as file:
                data = file.read()
            simplejpeg.decode_jpeg(data, "GRAY", min_height=16, min_width=16, min_factor=1)
            example = tf_example_pb2.Example()
            feature = example.features.feature
            feature["id"].bytes_list.value.append(id_.encode())
            feature["image"].bytes_list.value.append(data)
            feature["labels"].int64_list.value.extend(labels)
            feature["fingerprint"].int64_list.value.append(_FINGERPRINT)
            record = example.SerializeToString()
            length = struct.pack("<Q", len(record))
            out.write(length + masked(length))
            out.write(record)
            out.write(masked(record))


def _bare(pool_class, args, folder):
    rows = list(_rows(args))
    parts = [rows[i::2] for i in range(2)]
    with pool_class(2) as pool:
        list(pool.map(_write_bare, [[], []], [os.path.join(folder, f"warm-{i}") for i in range(2)]))
        started = peers.clock(args)
        list(pool.map(_write_bare, parts, [os.path.join(folder, f"part-{i}") for i in range(2)]))
        return peers.clock(args) - started


def _tfds_example(row):
    id_, path, labels = row
    return id_, {"id": id_, "image": path, "labels": labels, "fingerprint": _FINGERPRINT}


def _tfds(use_beam, args, folder):
    import tensorflow_datasets as tfds

    class Bench(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """The same records as TFDS writes them."""

        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = None

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "labels": tfds.features.Sequence(tfds.features.ClassLabel(names=list(_LABELS))),
                    "fingerprint": tfds.features.Scalar(np.int64),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):  # noqa: ARG002 - TFDS fixes the signature
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            if not use_beam:
                return map(_tfds_example, _rows(args))
            import apache_beam as beam

            return beam.Create(list(_rows(args))) | beam.Map(_tfds_example)

    config = tfds.download.DownloadConfig()
    if use_beam:
        from apache_beam.options.pipeline_options import PipelineOptions

        options = PipelineOptions(["--runner=FnApiRunner"])
        config = tfds.download.DownloadConfig(beam_runner="FnApiRunner", beam_options=options)
    builder = Bench(data_dir=folder)
    started = peers.clock(args)
    builder.download_and_prepare(download_config=config)
    return peers.clock(args) - started


def _run(args):
    runners = {
        "tfr": convert,
        "tfr_header": functools.partial(convert, check="header"),
        "bare_loop": functools.partial(_bare, concurrent.futures.ThreadPoolExecutor),
        "bare_processes": functools.partial(_bare, concurrent.futures.ProcessPoolExecutor),
        "tfds_generator": functools.partial(_tfds, False),
        "tfds_beam": functools.partial(_tfds, True),
    }
    few = argparse.Namespace(**{**vars(args), "count": 2})
    started = peers.clock(args)
    _in_new_folder(runners[args.case], few)
    start = peers.clock(args) - started
    peers.report_case(args.count, _in_new_folder(runners[args.case], args), start=start)


def _in_new_folder(run, args):
    folder = tempfile.mkdtemp(prefix="bench-conversion-")
    try:
        return run(args, folder)
    finally:
        shutil.rmtree(folder)


def main():
    """Runs one case, or all of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", type=int, default=0)
    parser.add_argument("--case", choices=CASES)
    args = parser.parse_args()
    if args.case:
        _run(args)
        return
    options = {"images": args.images, "count": args.count, "threads": args.threads, "cpu": args.cpu}
    cases = [case for case in CASES if not (args.cpu and case == "bare_processes")]  # theirs is known when they end
    results = peers.in_turn(__file__, cases, args.repeats, **options)
    peers.print_table(results, "tfr", "images/s")
    print("\nImports and two images more included")
    for found in itertools.chain.from_iterable(results.values()):
        found["rate"] = args.count / (found["start"] + found["seconds"])
    peers.print_table(results, "tfr", "images/s")


if __name__ == "__main__":
    main()
