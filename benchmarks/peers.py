"""What the benchmarks share: input, timing in turn, and a table of ratios."""

import argparse
import glob
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time


def jpeg_paths(folder: str, count: int) -> list[str]:
    """`count` image paths of a folder, from the start again when it has fewer."""
    found = sorted(glob.glob(os.path.join(folder, "*.jpg")))
    if not found:
        raise SystemExit(f"No *.jpg in {folder}.")
    return [found[i % len(found)] for i in range(count)]


def link(source: str, target: str) -> None:
    """Gives a file another name, without its bytes once more where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def files_below(folder: str) -> list[str]:
    """The paths of all files below a folder."""
    return [os.path.join(path, name) for path, _, names in os.walk(folder) for name in names]


def run_case(script: str, case: str, **options: object) -> dict:
    """Runs one case in a process of its own; returns what it prints as its last line of JSON."""
    arguments = [f"--{key}={value}" for key, value in options.items()]
    finished = subprocess.run(
        [sys.executable, script, f"--case={case}", *arguments], capture_output=True, text=True, env=_environment()
    )
    if finished.returncode:
        raise SystemExit(f"{case} failed:\n{finished.stderr[-3000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def _environment() -> dict[str, str]:
    return {**os.environ, "TFR_PROGRESS": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}


def clock(args: argparse.Namespace) -> float:
    """Seconds on the wall; with --cpu=1, of processor time of this process and of those that it has seen end."""
    if not getattr(args, "cpu", 0):
        return time.perf_counter()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def report_case(count: int, seconds: float, **more: float) -> None:
    """Prints a case's result as JSON: items per second, and the peak memory of its largest process in MiB."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) // 1024
    print(json.dumps({"rate": count / seconds, "seconds": seconds, "peak_mib": peak, **more}))


def in_turn(script: str, cases: list[str], repeats: int, **options: object) -> dict[str, list[dict]]:
    """Runs the cases one after the other, several times round, so that all of them meet the machine's moods."""
    results: dict[str, list[dict]] = {case: [] for case in cases}
    for _ in range(repeats):
        for case in cases:
            results[case].append(run_case(script, case, **options))
            time.sleep(0.5)
    return results


def print_table(results: dict[str, list[dict]], reference: str, unit: str) -> None:
    """Prints median rates, peak memory, and the median over rounds of the ratio to the reference of that round."""
    print(f"{'case':<28}{unit + ' (median)':>22}{'peak MiB':>10}{'ratio of ' + reference + ' to it':>40}")
    for case, rounds in results.items():
        rate = statistics.median(r["rate"] for r in rounds)
        ratios = [ours["rate"] / r["rate"] for ours, r in zip(results[reference], rounds, strict=True)]
        peak = max(r["peak_mib"] for r in rounds)
        spread = f"{statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{case:<28}{rate:>22.0f}{peak:>10}{spread:>40}")
