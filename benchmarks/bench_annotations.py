"""Rows a second and peak memory of reading annotations, beside csv.DictReader, pandas and json.loads.

Usage:
  python benchmarks/bench_annotations.py --rows=5000000
  python benchmarks/bench_annotations.py --rows=200000 --only=csv,jsonl

Every measurement runs in a process of its own, so that its peak memory is its own. What counts is the ratio to the
peers of the same run: absolute figures depend on the machine. Seconds are of processor time, of which all tasks use
one core, so that what else the machine does matters less.
"""

import argparse
import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

LABELS = [f"label {i}" for i in range(40)]


def write_files(folder: str, rows: int) -> None:
    """Writes the same rows as CSV (labels around '|'), as CSV with 40 flag columns (a tenth of them), and as JSONL."""
    chance = random.Random(1)
    with (
        open(f"{folder}/rows.csv", "w", encoding="utf-8", newline="") as text,
        open(f"{folder}/flags.csv", "w", encoding="utf-8", newline="") as flags,
        open(f"{folder}/rows.jsonl", "w", encoding="utf-8") as lines,
    ):
        writer, flag_writer = csv.writer(text), csv.writer(flags)
        writer.writerow(["image_path", "labels", "split", "year"])
        flag_writer.writerow(["image_path", *LABELS])
        for i in range(rows):
            image, labels = f"images/{i // 1000:05d}/{i:09d}.jpg", chance.sample(LABELS, chance.randint(1, 3))
            split, year = ("train", "train", "validation", "test")[i % 4], 1950 + i % 70
            writer.writerow([image, "|".join(labels), split, year])
            lines.write(json.dumps({"image": image, "labels": labels, "split": split, "year": year}) + "\n")
            if i % 10 == 0:
                flag_writer.writerow([image, *(int(label in labels) for label in LABELS)])


def tfr_read(file: str, **options: object) -> Callable[[str], int]:
    """Reads with tfr.annotations.read."""

    def run(folder: str) -> int:
        from tfr import annotations

        read_options = annotations.ReadOptions(**options)  # type: ignore[arg-type]
        events = annotations.read(f"{folder}/{file}", options=read_options)
        return sum(isinstance(event, annotations.Annotation) for event in events)

    return run


def tfr_store(folder: str) -> int:
    """Reads and stores, as a conversion does before it looks at images."""
    from tfr import annotations, row_store

    options = annotations.ReadOptions(label_delimiter="|", split_column="split")
    with row_store.RowStore("salt") as store:
        return store.add_annotations(annotations.read(f"{folder}/rows.csv", options=options))


def dict_reader(file: str) -> Callable[[str], int]:
    """Reads with csv.DictReader and splits the labels where there is a column of them."""

    def run(folder: str) -> int:
        count = 0
        with open(f"{folder}/{file}", encoding="utf-8", newline="") as opened:
            for row in csv.DictReader(opened):
                row.get("labels", "").split("|")
                count += 1
        return count

    return run


def pandas_chunks(folder: str) -> int:
    """Reads with pandas in chunks, and splits the labels."""
    import pandas as pd

    count = 0
    for chunk in pd.read_csv(f"{folder}/rows.csv", dtype=str, chunksize=50_000):
        for _, labels, _, _ in chunk.itertuples(index=False, name=None):
            labels.split("|")
            count += 1
    return count


def json_loop(folder: str) -> int:
    """Reads with json.loads in a loop."""
    count = 0
    with open(f"{folder}/rows.jsonl", encoding="utf-8") as opened:
        for line in opened:
            json.loads(line)
            count += 1
    return count


# name: (group, function); the first of a group is ours.
TASKS: dict[str, tuple[str, Callable[[str], int]]] = {
    "tfr csv": ("csv", tfr_read("rows.csv", label_delimiter="|", split_column="split")),
    "tfr csv, kept columns": ("csv", tfr_read("rows.csv", label_delimiter="|", keep_columns=("year",))),
    "tfr csv, --where": ("csv", tfr_read("rows.csv", label_delimiter="|", where="year >= 1960 and split != 'test'")),
    "csv.DictReader": ("csv", dict_reader("rows.csv")),
    "pandas.read_csv in chunks": ("csv", pandas_chunks),
    "tfr csv, 40 flags": ("flags", tfr_read("flags.csv", label_columns=(f"{LABELS[0]}:{LABELS[-1]}",))),
    "csv.DictReader, 40 flags": ("flags", dict_reader("flags.csv")),
    "tfr jsonl": ("jsonl", tfr_read("rows.jsonl", split_column="split")),
    "json.loads in a loop": ("jsonl", json_loop),
    "tfr csv into the row store": ("store", tfr_store),
}


def measure(name: str, folder: str) -> None:
    """Runs one task and prints rows, processor seconds and peak MiB; imports count as memory, but not as time."""
    from tfr import annotations, row_store  # noqa: F401

    start = time.process_time()
    rows = TASKS[name][1](folder)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([rows, seconds, peak]))


def main() -> None:
    """Writes the files, runs every task in a process of its own, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--only", default="csv,flags,jsonl,store", help="groups to run")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(folder, arguments.rows)
        print(f"{'':30}{'rows/CPU s':>12}{'of ours':>9}{'peak MiB':>10}")
        ours: dict[str, float] = {}
        for name, (group, _) in TASKS.items():
            if group not in arguments.only.split(","):
                continue
            command = [sys.executable, os.path.abspath(__file__), f"--measure={name}", f"--folder={folder}"]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            rows, seconds, peak = json.loads(output)
            rate = rows / seconds
            print(f"{name:30}{rate:12,.0f}{rate / ours.setdefault(group, rate):9.2f}{peak:10.0f}", flush=True)


if __name__ == "__main__":
    main()
