"""Embedding a dataset against the bare forward pass of the same backbone at the same batch size, as ratios in one run.

  python benchmarks/bench_forward.py --dataset=data/posters/1.0.0 --split=validation --repeats=5

embed          what `tfr embed` does: reads, decodes, resizes, runs the backbone, writes shards of embeddings
folded         the bare forward pass that it uses, weights folded into constants, over a batch that is in memory
bare           tf.function(model) over that batch
keras predict  model.predict over the tf.data pipeline of evaluation

All in one process, in turn. On a CPU whose cores the network fills, CPU time is the steadier figure.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable


def main():
    """Measures and prints the medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases, count = _cases(args, folder)
        times = {name: [] for name in cases}  # (wall, CPU) milliseconds an image
        for number in range(args.repeats + 1):
            for name in cases if number % 2 else reversed(cases):
                measured = _measure(cases[name], count)
                if number:  # the first round traces
                    times[name].append(measured)
    _print_table(times)


def _cases(args: argparse.Namespace, folder: str) -> tuple[dict[str, Callable[[], object]], int]:
    """What to measure, each over all images of the split, and how many those are."""
    import tensorflow as tf

    from tfr.train import backbones, forward, input_pipeline
    from tfr.train.embedding import plan, writer
    from tfr.train.embedding.config import EmbedConfig
    from tfr.train.embedding.directory import EmbeddingDir
    from tfr.train.embedding.embed import make_recipe

    builder = input_pipeline.open_dataset(args.dataset)
    count = input_pipeline.num_examples(builder, args.split)
    backbone = backbones.build_backbone(args.backbone)
    recipe = make_recipe(EmbedConfig(dataset=args.dataset), backbone)
    planned = [shard for shard in plan.plan(builder, "benchmark") if shard.split == args.split]
    target = EmbeddingDir(folder)
    os.makedirs(target.plan_dir)
    settings = writer.Settings(target, recipe, args.dataset, args.batch_size)
    shape = input_pipeline.BatchShape(recipe.image_size, args.batch_size)
    batch = next(iter(input_pipeline.for_evaluation(builder, args.split, shape)))["image"]
    folded, bare = (forward.compile_forward(backbone, freeze=freeze, dtype=tf.uint8) for freeze in (True, False))
    evaluation = input_pipeline.for_evaluation(builder, args.split, shape).map(lambda example: example["image"])

    def over_memory(function: Callable) -> Callable[[], object]:
        return lambda: [function(batch[:n]) for n in [len(batch)] * (count // len(batch)) + [count % len(batch)] if n]

    return {
        "embed": lambda: writer.write_shards(settings, folded, planned, show=False),
        "folded": over_memory(folded),
        "bare": over_memory(bare),
        "keras predict": lambda: backbone.predict(evaluation, verbose=0),
    }, count


def _measure(function: Callable[[], object], count: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return (time.perf_counter() - wall) / count * 1e3, (time.process_time() - cpu) / count * 1e3


def _print_table(times: dict[str, list[tuple[float, float]]]) -> None:
    """Medians, and the median over rounds of the share of its time that embedding would have needed."""
    print(f"{'':<15}{'wall ms':>10}{'CPU ms':>10}   of embed's, wall and CPU, an image")
    for name, rounds in times.items():
        middle = [statistics.median(column) for column in zip(*rounds, strict=True)]
        ratios = [
            [own / ours for own, ours in zip(row, embed, strict=True)]
            for row, embed in zip(rounds, times["embed"], strict=True)
        ]
        shares = [
            f"{statistics.median(column):.3f} ({min(column):.3f} to {max(column):.3f})"
            for column in zip(*ratios, strict=True)
        ]
        print(f"{name:<15}{middle[0]:>10.2f}{middle[1]:>10.2f}   {'   '.join(shares)}")


if __name__ == "__main__":
    main()
