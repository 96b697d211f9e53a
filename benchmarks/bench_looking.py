"""`tfr verify` and `tfr stats` against the conversion that made the dataset, on the same images, as ratios in one run.

    python benchmarks/bench_looking.py --images=FOLDER_OF_JPEGS --count=12000 --repeats=3

Each case runs in a process of its own; imports are not timed. With --cpu=1 rates are per second of processor time.

  stats      labels counted, image sizes from the headers; no image decoded
  verify     every shard read, both checksums of every record, every image decoded, all counts compared
  convert    planning, the Beam job and publishing, every image verified
"""

import argparse
import os
import shutil
import tempfile

import bench_conversion
import peers

CASES = ["verify", "stats", "convert"]


def _verify(args, folder):
    from tfr import verification

    started = peers.clock(args)
    result = verification.verify(folder)
    assert not result.num_problems, verification.text(result)
    return peers.clock(args) - started


def _stats(args, folder):
    from tfr import statistics_report

    started = peers.clock(args)
    report = statistics_report.make(folder)
    assert report.to_text()
    return peers.clock(args) - started


def _run(args):
    folder = tempfile.mkdtemp(prefix="bench-looking-")
    try:
        seconds = bench_conversion.convert(args, folder)
        dataset = os.path.join(folder, "data")
        runs = {
            "convert": lambda: seconds,
            "verify": lambda: _verify(args, dataset),
            "stats": lambda: _stats(args, dataset),
        }
        peers.report_case(args.count, runs[args.case]())
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
    peers.print_table(peers.in_turn(__file__, CASES, args.repeats, **options), "verify", "images/s")


if __name__ == "__main__":
    main()
