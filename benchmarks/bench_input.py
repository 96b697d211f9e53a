"""Images per second into batches of 224 pixels, against other ways to read the same pictures, as ratios in one run.

  python benchmarks/bench_input.py --images=FOLDER --repeats=3

FOLDER holds folders of JPEGs, one for each label. They are converted twice at the start, as they are and with
--image_size=256, into --scratch. Every case decodes, resizes and batches, in two threads or processes, steady state.

limit              simplejpeg (libjpeg-turbo) decodes from memory in two threads and throws the pixels away
limit_crops        the same of what tfr_crops decodes, which cannot be faster: random windows, some at 1/2,
                   by TensorFlow's libjpeg-turbo, as simplejpeg decodes no parts
limit_256          as limit, on the conversion with --image_size=256: tfr_256 cannot be faster
tfr_evaluation     input_pipeline.for_evaluation
tfr_crops          input_pipeline.for_training with --augment=crop,flip: fused random-resized crops
tfr_medium, tfr_strong   the same with these presets
tfr_256            for_evaluation on the conversion with --image_size=256
tfds_default       as_dataset, then tf.image.resize in a parallel map, all left to AUTOTUNE; without its cache of
                   decoded images, which is for datasets below 250 MiB
keras_directory    keras.utils.image_dataset_from_directory on the folders
webdataset         tar files, Pillow, two processes (needs `pip install webdataset`; left out without it)

CPU is what a case and its processes used for an image: on a machine that others use too it is the steadier figure.
"""

import argparse
import functools
import glob
import importlib.util
import json
import os
import resource
import statistics
import tarfile
import threading
import time

import peers

SIZE, BATCH, WARM_UP = 224, 32, 12  # pixels, images, batches
CASES = [
    "limit", "limit_crops", "limit_256", "tfr_evaluation", "tfr_crops", "tfr_medium", "tfr_strong", "tfr_256",
    "tfds_default", "keras_directory", "webdataset",
]  # fmt: skip


def _limit(args):
    import simplejpeg

    if args.case == "limit_256":
        from tfr.train import input_pipeline, records

        builder = input_pipeline.open_dataset(f"{args.scratch}/data/photos256")
        data = records.StoredImages(builder, "train").read(range(input_pipeline.num_examples(builder, "train")))
    else:
        data = [open(path, "rb").read() for path in _paths(args.images)]  # noqa: SIM115
    _decode_all([functools.partial(simplejpeg.decode_jpeg, image) for image in data], args.count)


def _limit_crops(args):
    import tensorflow as tf

    from tfr.train import augmentation, config, preprocessing

    least_area, draws = dict(config.parse_augment("crop"))["crop"], augmentation.random_rows(0, 0, args.count, 4)
    decode = []
    for path, numbers in zip(_paths(args.images), draws, strict=False):
        data = tf.io.read_file(path)
        height, width, _ = tf.image.extract_jpeg_shape(data)
        window = augmentation.random_window(height, width, numbers, "squash", least_area)
        ratio = preprocessing.DCT_SCALES[preprocessing.dct_scale(window[2:], tf.constant([SIZE, SIZE]))]
        decode.append(functools.partial(tf.io.decode_and_crop_jpeg, data, window // ratio, channels=3, ratio=ratio))
    _decode_all(decode, args.count)


def _decode_all(decode, count):
    """Calls `count` functions, from the start again when there are fewer, in two threads."""

    def work(start):
        for i in range(start, count, 2):
            decode[i % len(decode)]()

    for function in decode[:WARM_UP]:
        function()
    threads = [threading.Thread(target=work, args=(start,)) for start in range(2)]
    with _measured(count):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _tfr(args):
    from tfr.train import input_pipeline

    name = "photos256" if args.case == "tfr_256" else "photos"
    builder = input_pipeline.open_dataset(f"{args.scratch}/data/{name}")
    shape = input_pipeline.BatchShape(SIZE, BATCH)
    augment = {"tfr_crops": "crop,flip", "tfr_medium": "medium", "tfr_strong": "strong"}.get(args.case)
    if augment:
        return input_pipeline.for_training(builder, "train", shape, augment=augment)
    return input_pipeline.for_evaluation(builder, "train", shape).repeat()


def _tfds_default(args):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(glob.glob(f"{args.scratch}/data/photos/*")[0])
    config = tfds.ReadConfig(try_autocache=False)
    dataset = builder.as_dataset(split="train", read_config=config).repeat()
    dataset = dataset.map(lambda e: (tf.image.resize(e["image"], (SIZE, SIZE)), e["label"]), tf.data.AUTOTUNE)
    return dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE)


def _keras_directory(args):
    import keras

    return keras.utils.image_dataset_from_directory(
        args.images, image_size=(SIZE, SIZE), batch_size=BATCH, shuffle=False, verbose=False
    ).repeat()


def _run_dataset(args, make):
    batches = iter(make(args))
    for _ in range(WARM_UP):
        next(batches)
    with _measured(args.count // BATCH * BATCH):
        for _ in range(args.count // BATCH):
            next(batches)


def _webdataset(args):
    import multiprocessing

    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    for number, (_, sender) in enumerate(pipes):
        context.Process(target=_webdataset_worker, args=(args, number, sender), daemon=True).start()
    receivers = [receiver for receiver, _ in pipes]
    cpu = [[receiver.recv()[1] for receiver in receivers] for _ in range(WARM_UP)][-1]
    rounds = args.count // BATCH // 2
    measured = _measured(rounds * 2 * BATCH)
    with measured:
        for _ in range(rounds):
            last = [receiver.recv()[1] for receiver in receivers]
        measured.add_cpu(sum(last) - sum(cpu))


def _webdataset_worker(args, number, sender):
    """Sends batches, and the CPU seconds used so far."""
    import numpy as np
    import webdataset
    from PIL import Image

    def resize(image):
        return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    shard = f"{args.scratch}/shard-{number}.tar"
    dataset = webdataset.WebDataset([shard], shardshuffle=False).repeat().decode("pil").to_tuple("jpg", "cls")
    for images, _ in dataset.map_tuple(resize, lambda label: label).batched(BATCH):
        sender.send((np.stack(images), time.process_time()))


class _measured:
    """Prints images per second of wall time, and CPU milliseconds an image, of what happens inside."""

    def __init__(self, count):
        self._count, self._elsewhere = count, 0.0

    def add_cpu(self, seconds):
        """Counts what other processes used."""
        self._elsewhere += seconds

    def __enter__(self):
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_):
        seconds = time.perf_counter() - self._wall
        cpu = time.process_time() - self._cpu + self._elsewhere
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(json.dumps({"rate": self._count / seconds, "cpu_ms": cpu / self._count * 1e3, "peak_mib": peak}))


def _paths(folder):
    return sorted(glob.glob(f"{folder}/*/*.jpg"))


def _prepare(args):
    """Converts the pictures both ways, and packs them into tar files."""
    import tfr

    for name, size in (("photos", None), ("photos256", 256)):
        options = {"split_ratios": "train=1", "image_size": size, "overwrite": True}
        tfr.convert(args.images, data_dir=f"{args.scratch}/data", name=name, **options)
    paths = _paths(args.images)
    for number in range(2):
        with tarfile.open(f"{args.scratch}/shard-{number}.tar", "w") as tar:
            for i, path in enumerate(paths[number::2]):
                tar.add(path, f"{i:06d}.jpg")
                with open(f"{args.scratch}/label", "w", encoding="utf-8") as file:
                    file.write("0")
                tar.add(f"{args.scratch}/label", f"{i:06d}.cls")


def _print_table(results):
    print(f"{'case':<18}{'images/s':>10}{'CPU ms/image':>14}{'peak MiB':>10}{'of the limit':>26}{'by CPU':>8}")
    for case, rounds in results.items():
        ratios = [r["rate"] / limit["rate"] for r, limit in zip(rounds, results["limit"], strict=True)]
        cpu = [limit["cpu_ms"] / r["cpu_ms"] for r, limit in zip(rounds, results["limit"], strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        middle = {key: statistics.median(r[key] for r in rounds) for key in ("rate", "cpu_ms", "peak_mib")}
        print(
            f"{case:<18}{middle['rate']:>10.0f}{middle['cpu_ms']:>14.2f}{middle['peak_mib']:>10.0f}{spread:>26}"
            f"{statistics.median(cpu):>8.2f}",
            flush=True,
        )


def _run_case(args):
    others = {"limit": _limit, "limit_256": _limit, "limit_crops": _limit_crops, "webdataset": _webdataset}
    if args.case in others:
        others[args.case](args)
    else:
        makers = {"tfds_default": _tfds_default, "keras_directory": _keras_directory}
        _run_dataset(args, makers.get(args.case, _tfr))


def main():
    """Runs one case, or all of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--scratch", default="bench_input_scratch")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--case", choices=CASES)
    args = parser.parse_args()
    if args.case:
        _run_case(args)
        return
    os.makedirs(args.scratch, exist_ok=True)
    _prepare(args)
    cases = [case for case in args.cases.split(",") if case != "webdataset" or importlib.util.find_spec("webdataset")]
    options = {"images": args.images, "scratch": args.scratch, "count": args.count}
    _print_table(peers.in_turn(__file__, cases, args.repeats, **options))


if __name__ == "__main__":
    main()
