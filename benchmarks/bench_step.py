"""A fine-tuning step on real input against the same step on a batch that is in memory already, as a ratio in one run.

  python benchmarks/bench_step.py --dataset=data/posters/1.0.0 --augment=light --repeats=5

Both train all layers of the same network in one process, in turn, a few steps each. On a CPU whose cores the step
fills, CPU time is the steadier figure; it holds the reading ahead of as many batches as were used.
"""

import argparse
import statistics
import time


def main():
    """Measures and prints the medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--augment", default="light")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    import keras
    import tensorflow as tf

    from tfr import dataset_dir
    from tfr.train import backbones, input_pipeline, losses, models

    builder = input_pipeline.open_dataset(args.dataset)
    backbone = backbones.build_backbone(args.backbone, weights=None)
    models.set_trainable(backbone, None)
    head = models.build_head(backbone.output_shape[-1], len(dataset_dir.label_names(builder)))
    model = models.join(backbone, head)
    multi_label = dataset_dir.label_key(builder) == "labels"
    model.compile(keras.optimizers.AdamW(1e-5), losses.TaggerLoss(multi_label), jit_compile=False)

    shape = input_pipeline.BatchShape(backbone.input_shape[1], args.batch_size)
    real = input_pipeline.for_training(builder, args.split, shape, augment=args.augment)
    batches = {"real": iter(real), "in memory": iter(tf.data.Dataset.from_tensors(next(iter(real))).repeat())}
    step = tf.function(lambda x, y: model.train_step((x, y)), jit_compile=False)
    times = {name: [] for name in batches}  # (wall, CPU) milliseconds a step
    for number in range(args.repeats + 1):
        for name in batches if number % 2 else reversed(batches):
            started = time.perf_counter(), time.process_time()
            for _ in range(args.steps):
                step(*next(batches[name]))
            wall = time.perf_counter() - started[0]
            cpu = _idle_since() - started[1]
            if number:  # the first round traces
                times[name].append([value / args.steps * 1e3 for value in (wall, cpu)])
    print(f"{'':<8}{'real':>12}{'in memory':>12}   ratio")
    for column, kind in enumerate(("wall ms", "CPU ms")):
        real_times, memory_times = ([row[column] for row in rows] for rows in times.values())
        ratios = [a / b for a, b in zip(real_times, memory_times, strict=True)]
        print(
            f"{kind:<8}{statistics.median(real_times):>12.1f}{statistics.median(memory_times):>12.1f}"
            f"   {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )


def _idle_since():
    """Waits until the input has read ahead, which would else count for the next; returns the CPU seconds used then."""
    used, before = time.process_time(), -1.0
    while used - before > 0.005:
        time.sleep(0.5)
        used, before = time.process_time(), used
    return used


if __name__ == "__main__":
    main()
