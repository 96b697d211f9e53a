"""What an image costs, for estimates: CPU time of planning and of writing without threads, bytes of plan and records.

python benchmarks/bench_cost.py --images=FOLDER_OF_JPEGS --count=2000
"""

import argparse
import glob
import os
import shutil
import tempfile
import time

import bench_conversion

from tfr import write_job


def _measured_run(run, found):
    """`write_job.run`, which leaves CPU seconds and file sizes in `found`."""

    def wrapped(runner, plan, settings):
        started = time.process_time()
        run(runner, plan, settings)
        found["write"] = time.process_time() - started
        found["plan"] = sum(map(os.path.getsize, glob.glob(f"{settings.plan_dir}/*.jsonl")))
        found["records"] = sum(map(os.path.getsize, glob.glob(f"{settings.dataset_dir}/*.tfrecord-*")))

    return wrapped


def main():
    """Converts once, and prints costs by image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=2000)
    args = parser.parse_args()
    args.threads, args.num_workers = 0, 1
    found: dict[str, float] = {}
    write_job.run = _measured_run(write_job.run, found)
    folder = tempfile.mkdtemp(prefix="bench-cost-")
    started = time.process_time()
    try:
        bench_conversion.convert(args, folder)
    finally:
        shutil.rmtree(folder)
    rest = time.process_time() - started - found["write"]
    print(f"verify and write  {1e6 * found['write'] / args.count:.0f} us of a core an image")
    print(f"plan and the rest {1e6 * rest / args.count:.0f} us of a core an image")
    print(f"plan              {found['plan'] / args.count:.0f} bytes a row")
    print(f"shards            {found['records'] / args.count:.0f} bytes an image")


if __name__ == "__main__":
    main()
