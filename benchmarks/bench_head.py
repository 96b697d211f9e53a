"""Training a head on embeddings in memory against its bare matrix products, by CPU time, in one run.

    python benchmarks/bench_head.py --examples=25000 --width=2048 --hidden_units=1500 --epochs=100

The bare products are those of the first layer: its outputs and the gradient of its kernel, for batches that are in
memory already; the gradient of the embeddings is not needed. Of the epochs only --steps steps are taken, --repeats
times; what all of them cost is worked out from the fastest. The embeddings are random numbers, which cost the same.
"""

import argparse
import time

import numpy as np


def _seconds_a_step(take_steps, steps, repeats):
    """CPU seconds, the least of the repeats; the first call, which traces, is not counted."""
    take_steps(2)
    times = []
    for _ in range(repeats):
        started = time.process_time()
        take_steps(steps)
        times.append(time.process_time() - started)
    return min(times) / steps


def _head_steps(args, batch_size):
    """Takes steps of the head phase as `tfr train` takes them."""
    import keras
    import tensorflow as tf

    from tfr.train import bottlenecks, losses, models, optimizers
    from tfr.train.loop import Loop

    keras.config.set_dtype_policy("mixed_bfloat16" if args.precision == "bfloat16" else "float32")
    rng = np.random.default_rng(0)
    values = rng.standard_normal((args.examples, args.width), dtype=np.float32)
    targets = (rng.random((args.examples, args.labels)) < 0.1).astype(np.float32)
    head = models.build_head(
        args.width,
        args.labels,
        hidden_units=(args.hidden_units,),
        num_members=args.ensemble_size,
        dropout=args.dropout,
        mean=values.mean(axis=0),
        variance=values.var(axis=0),
    )
    schedule = optimizers.Schedule(1e-3, total_steps=args.epochs * (args.examples // batch_size))
    optimizer = optimizers.make_optimizer("adamw", schedule, head.trainable_variables, weight_decay=0.1)
    loop = Loop(head, losses.TaggerLoss(multi_label=True), optimizer, tf.distribute.get_strategy())
    embeddings = bottlenecks.Embeddings(values, targets)
    batches = iter(bottlenecks.training_batches(embeddings, batch_size, seed=0))
    return lambda count: loop.run(batches, count)


def _bare_products(args, batch_size):
    """The two matrix products of a step and nothing else."""
    import tensorflow as tf

    dtype = tf.bfloat16 if args.precision == "bfloat16" else tf.float32
    units = args.hidden_units * args.ensemble_size
    shapes = (batch_size, args.width), (args.width, units), (batch_size, units)
    inputs, kernel, gradients = (tf.cast(tf.random.normal(shape), dtype) for shape in shapes)

    @tf.function
    def take_steps(count):
        seen = tf.zeros([], dtype)
        for _ in tf.range(count):  # each step depends on the one before, so that none is left out
            outputs = tf.matmul(inputs + 0 * seen, kernel)
            seen = outputs[0, 0] + tf.matmul(inputs, gradients + 0 * outputs[0, 0], transpose_a=True)[0, 0]
        return seen

    return lambda count: take_steps(tf.constant(count)).numpy()


def main():
    """Prints a line a batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=25_000)
    parser.add_argument("--width", type=int, default=2048, help="numbers in an embedding")
    parser.add_argument("--labels", type=int, default=22)
    parser.add_argument("--hidden_units", type=int, default=1500)
    parser.add_argument("--ensemble_size", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.7)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch_sizes", default="64,512")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"{'batch':>6}{'':<16}{'CPU ms a step':>14}{'GFLOP per CPU s':>17}{'all epochs, CPU s':>19}")
    for batch_size in map(int, args.batch_sizes.split(",")):
        flops = 4 * batch_size * args.width * args.hidden_units * args.ensemble_size
        for name, make in (("head", _head_steps), ("bare products", _bare_products)):
            cpu = _seconds_a_step(make(args, batch_size), args.steps, args.repeats)
            whole = cpu * args.epochs * (args.examples // batch_size)
            print(f"{batch_size:>6}  {name:<14}{cpu * 1e3:>14.1f}{flops / cpu / 1e9:>17.0f}{whole:>19.0f}", flush=True)


if __name__ == "__main__":
    main()
