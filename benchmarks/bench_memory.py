"""Peak memory of a conversion against the number of rows: of the launching process, and of a worker.

    python benchmarks/bench_memory.py --rows=1000,10000,100000,1000000

Every row has an image file of its own: a JPEG of 16 x 16 pixels. Two worker processes write the shards; each number of
rows runs in a new process. A worker's memory is read from /proc while it runs, of the largest one: what the operating
system says at its end includes the process that it was forked from.
"""

import argparse
import contextlib
import glob
import io
import json
import os
import re
import resource
import shutil
import tempfile
import threading
import time

import peers


def _make_input(folder, rows):
    """Tiny JPEGs in folders of a thousand, and a table of them with 40 labels."""
    from PIL import Image

    encoded = []
    for shade in range(256):
        buffer = io.BytesIO()
        Image.new("RGB", (16, 16), (shade, 255 - shade, 90)).save(buffer, "JPEG")
        encoded.append(buffer.getvalue())
    with open(f"{folder}/rows.csv", "w", encoding="utf-8") as table:
        table.write("image,labels\n")
        for number in range(rows):
            path = f"{number // 1000:04d}/{number:07d}.jpg"
            if number % 1000 == 0:
                os.makedirs(f"{folder}/images/{number // 1000:04d}")
            with open(f"{folder}/images/{path}", "wb") as file:
                file.write(encoded[number % 256])
            table.write(f"{path},l{number % 7}|l{7 + number % 33}\n")


class _Watch:
    """The peak resident memory, in MiB, of any process that this one starts."""

    def __init__(self):
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        self._thread.join()

    def _sample(self):
        while not self._stop.wait(0.2):
            for pid in self._children(os.getpid()):
                with contextlib.suppress(OSError, TypeError), open(f"/proc/{pid}/status", encoding="ascii") as file:
                    self.peak = max(self.peak, int(re.search(r"VmHWM:\s+(\d+)", file.read())[1]) // 1024)

    def _children(self, pid):
        for path in glob.glob(f"/proc/{pid}/task/*/children"):
            with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
                for child in file.read().split():
                    yield child
                    yield from self._children(child)


def _run(args):
    from tfr import annotations, config, conversion, splits

    rows = int(args.case)
    folder = tempfile.mkdtemp(prefix="bench-memory-")
    try:
        _make_input(folder, rows)
        job = config.ConvertConfig(
            annotations=f"{folder}/rows.csv",
            images=f"{folder}/images",
            data_dir=f"{folder}/data",
            name="bench",
            read=annotations.ReadOptions(label_columns=("labels",), label_delimiter="|"),
            split_ratios=splits.parse_ratios("train=1"),
            num_workers=2,
        )
        started = time.perf_counter()
        with _Watch() as watch:
            result = conversion.convert(job)
        assert result.records_written == rows, result
        seconds = time.perf_counter() - started
    finally:
        shutil.rmtree(folder)
    launcher = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": seconds, "launcher_mib": launcher, "worker_mib": watch.peak}))


def main():
    """Runs one number of rows, or all of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1000,10000,100000")
    parser.add_argument("--case", help="one number of rows, in this process")
    args = parser.parse_args()
    if args.case:
        _run(args)
        return
    print(f"{'rows':>10}{'launching process, MiB':>26}{'worker, MiB':>14}{'rows/s':>10}")
    for rows in args.rows.split(","):
        found = peers.run_case(__file__, rows)
        rate = int(rows) / found["seconds"]
        print(f"{rows:>10}{found['launcher_mib']:>26}{found['worker_mib']:>14}{rate:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
