"""One process with threads against several processes, by number of images: where processes are worth their start.

    python benchmarks/bench_runners.py --images=FOLDER_OF_JPEGS --counts=300,3000,12000 --repeats=3

Every case is a whole conversion (planning, Beam's start, verified images, metadata) in a process of its own; imports of
the launcher are not timed, those of worker processes are. CPU seconds are those of the launcher and of its children:
they tell what a noisy machine hides.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile

import bench_conversion
import peers

# name: (processes, threads that read and verify ahead in each)
CASES = {
    "1 process, no threads": (1, 0),
    "1 process, 2 threads": (1, 2),
    "1 process, 4 threads": (1, 4),
    "2 processes, no threads": (2, 0),
    "2 processes, 2 threads": (2, 2),
}


def _run(args):
    args.num_workers, args.threads = CASES[args.case]
    folder = tempfile.mkdtemp(prefix="bench-runners-")
    try:
        seconds = bench_conversion.convert(args, folder)
    finally:
        shutil.rmtree(folder)
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_seconds = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}))


def _print_table(count, results):
    reference = results["1 process, 2 threads"]
    print(f"\n{count} images{'seconds (median)':>30}{'images/s':>12}{'CPU seconds':>14}{'time of 1 x 2 to its':>24}")
    for case, rounds in results.items():
        seconds = statistics.median(r["seconds"] for r in rounds)
        cpu_seconds = statistics.median(r["cpu_seconds"] for r in rounds)
        ratios = [ours["seconds"] / r["seconds"] for ours, r in zip(reference, rounds, strict=True)]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{case:<28}{seconds:>11.2f}{count / seconds:>12.0f}{cpu_seconds:>14.2f}{spread:>24}")


def main():
    """Runs one case, or all of them in turn for every count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True)
    parser.add_argument("--counts", default="300,3000,12000")
    parser.add_argument("--count", type=int, help="Of one case.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", choices=CASES)
    args = parser.parse_args()
    if args.case:
        _run(args)
        return
    print(f"{len(os.sched_getaffinity(0))} cores")
    for count in map(int, args.counts.split(",")):
        _print_table(count, peers.in_turn(__file__, list(CASES), args.repeats, images=args.images, count=count))


if __name__ == "__main__":
    main()
