"""`tfr predict` over files against the bare compiled forward pass on a batch in memory, as ratios in one run.

  python benchmarks/bench_predict.py --run=runs/posters --images=FOLDER --count=1500 --repeats=5

One process does both in turn, `--repeats` times over the same number of images: Tagger.stream, which reads, verifies,
decodes and resamples files on all cores beside the network, and forward.compile_forward at the same batch size on
tensors that are in memory already. Each in images per second of wall time, and per second of CPU time, which other work
on the machine changes less. (The network's own threads wait actively, which counts as CPU time, of both.)
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TFR_PROGRESS", "0")

import peers


def _measure(work, count):
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)


def main():
    """Measures both in turn and prints medians, and the median of the ratios of each round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--count", type=int, default=1500)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    import numpy as np
    import tensorflow as tf

    import tfr
    from tfr.train import forward

    tagger = tfr.load_tagger(args.run, batch_size=args.batch_size)
    count = args.count // args.batch_size * args.batch_size
    paths = peers.jpeg_paths(args.images, count)
    side = tagger.run.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (args.batch_size, side, side, 3), dtype=np.uint8)
    batch, step = tf.constant(pixels), forward.compile_forward(tagger.run.load_model(), dtype=tf.uint8)

    def predict():
        for found in tagger.stream(paths):
            assert found.error is None, found.error

    def bare():
        for _ in range(count // args.batch_size):
            step(batch).numpy()

    for warm in (predict, bare):
        warm()
    rounds = [(*_measure(predict, count), *_measure(bare, count)) for _ in range(args.repeats)]
    print(f"{'':<24}{'images/s':>12}{'images/CPU-s':>14}")
    for name, first in (("tfr predict", 0), ("bare forward pass", 2)):
        wall, cpu = (statistics.median(values[first + i] for values in rounds) for i in (0, 1))
        print(f"{name:<24}{wall:>12.1f}{cpu:>14.1f}")
    for name, at in (("wall", 0), ("CPU", 1)):
        ratios = [values[at] / values[at + 2] for values in rounds]
        print(f"ratio by {name} time: {statistics.median(ratios):.3f}  ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
