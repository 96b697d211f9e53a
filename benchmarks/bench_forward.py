"""Embedding a dataset against the bare forward pass of the same backbone at the same batch size, as ratios in one run.

  python benchmarks/bench_forward.py --dataset=data/posters/1.0.0 --split=train --batch_size=32 --repeats=3

tfr_embed      bottlenecks.embed: reads TFRecords, decodes, resizes, runs the backbone, collects the embeddings
bare_forward   tf.function(model) over as many images that are in memory already
bare_folded    the same with the weights folded into constants, as tfr runs it: the limit
keras_predict  model.predict over the same tf.data pipeline
"""

import argparse
import time

import peers

CASES = ["tfr_embed", "bare_forward", "bare_folded", "keras_predict"]


def _run(args):
    import numpy as np

    from tfr.train import backbones, bottlenecks, forward, input_pipeline

    builder = input_pipeline.open_dataset(args.dataset)
    backbone = backbones.build_backbone(args.backbone or backbones.default_backbone())
    total = input_pipeline.num_examples(builder, args.split)
    side = backbone.input_shape[1]
    shape = input_pipeline.BatchShape(side, args.batch_size)
    images = np.random.default_rng(0).uniform(0, 255, (args.batch_size, side, side, 3)).astype("float32")
    step = forward.compile_forward(backbone, freeze=args.case == "bare_folded")
    if args.case == "tfr_embed":
        started = time.perf_counter()
        bottlenecks.embed(backbone, builder, args.split, batch_size=args.batch_size, resize="squash")
    elif args.case.startswith("bare"):
        import tensorflow as tf

        batch = tf.constant(images)
        step(batch)
        started = time.perf_counter()
        for _ in range(total // args.batch_size):
            step(batch).numpy()
        total = total // args.batch_size * args.batch_size
    else:
        backbone.predict(images, verbose=0)
        dataset = input_pipeline.for_evaluation(builder, args.split, shape).map(lambda batch: batch["image"])
        started = time.perf_counter()
        backbone.predict(dataset, verbose=0)
    peers.report_case(total, time.perf_counter() - started)


def main():
    """Runs one case, or all of them in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="train")
    parser.add_argument("--backbone", default="")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", choices=CASES)
    args = parser.parse_args()
    if args.case:
        _run(args)
        return
    options = {"dataset": args.dataset, "split": args.split, "batch_size": args.batch_size, "backbone": args.backbone}
    peers.print_table(peers.in_turn(__file__, CASES, args.repeats, **options), "tfr_embed", "images/s")


if __name__ == "__main__":
    main()
