"""`tfr train` with its defaults against LogisticRegression on plain embeddings, on the same folds of a dataset.

    python benchmarks/bench_folds.py --dataset=data/decor_patterns/products/1.0.0
    python benchmarks/bench_folds.py --dataset=data/posters/1.0.0 --flags="--finetune_epochs=3 --unfreeze=5"

All examples of the dataset, whatever split they are in, are dealt into folds by their stored order, which is random.
Each fold is tested once; of the other examples a tenth of the whole decides (C and scaling; which epoch is kept), the
rest is trained on. Plain embeddings are those of the backbone at its own size, images squashed. With --flags each fold
is trained a second time, with these flags added. CPU time is that of this process, all its threads.
"""

import argparse
import itertools
import shlex
import tempfile
import time
import warnings

import numpy as np
from bench_quality import logistic_regression

from tfr import dataset_dir
from tfr.train import backbones, bottlenecks, evaluation, input_pipeline, training
from tfr.train.commands import train as train_command

_MULTI = ("macro_map", "micro_map", "macro_roc_auc")
_SINGLE = ("accuracy", "macro_map", "macro_roc_auc")


def folds(splits, count):
    """Triples of splits: to train on, to decide by, to test on."""
    step = 100 / count
    for number in range(count):
        start, end = round(number * step), round((number + 1) * step)
        decide = (end % 100, end % 100 + 10)
        bounds = sorted({0, start, end, *decide, 100})
        rest = [
            (low, high)
            for low, high in itertools.pairwise(bounds)
            if not start <= low < end and not decide[0] <= low < decide[1]
        ]
        yield tuple(
            "+".join(f"{split}[{low}%:{high}%]" for split in splits for low, high in ranges)
            for ranges in (rest, [decide], [(start, end)])
        )


def train_and_test(dataset, split, flags, seed):
    """Trains as the command does, and measures on the test fold."""
    train, validation, test = split
    with tempfile.TemporaryDirectory() as folder:
        words = [f"--dataset={dataset}", f"--run_dir={folder}/run", f"--seed={seed}", *flags]
        words += [f"--train_split={train}", f"--validation_split={validation}"]
        result = training.train(train_command.build_config(train_command.FLAGS.parse(words)))
        print("epochs", result.epochs, "in", round(result.seconds), "s", flush=True)
        return evaluation.evaluate(result.run_dir, split=test)


def plain_embeddings(builder, splits):
    """The embeddings of the three parts of a fold by the backbone as it is."""
    backbone = backbones.build_backbone(backbones.default_backbone())
    return [bottlenecks.embed(backbone, builder, split, batch_size=32, resize="squash") for split in splits]


def measure(runs, figures):
    """Runs functions by name; returns the figures and the CPU seconds of each."""
    found = {}
    for name, run in runs.items():
        started = time.process_time()
        measured = run()
        found[name] = [*(measured[figure] for figure in figures), time.process_time() - started]
        print(f"  {name:<40}" + "".join(f"{value:>15.4f}" for value in found[name]), flush=True)
    return found


def main():
    """Prints a row a fold and model, then means, and differences with their standard deviation over the folds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", default="", help="numbers of folds, with commas; default: all")
    parser.add_argument("--regression", type=int, default=1, help="0: leave LogisticRegression out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base_flags", default="", help="flags of `tfr train` for all runs")
    parser.add_argument("--flags", help="flags of `tfr train` for a second run of each fold")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    builder = input_pipeline.open_dataset(args.dataset)
    names = dataset_dir.label_names(builder)
    figures = _MULTI if dataset_dir.label_key(builder) == "labels" else _SINGLE
    base = shlex.split(args.base_flags)
    everything = []
    only = [int(number) for number in args.only.split(",") if number] or range(args.folds)
    for number, split in enumerate(folds(list(builder.info.splits), args.folds)):
        if number not in only:
            continue
        print(f"fold {number}" + f"{'':<36}" + "".join(f"{figure:>15}" for figure in (*figures, "CPU seconds")))
        runs = {}
        if args.regression:
            runs["LogisticRegression"] = lambda split=split: logistic_regression(
                *plain_embeddings(builder, split), names, multi_label=figures is _MULTI
            )[1]
        runs["tfr train"] = lambda split=split: train_and_test(args.dataset, split, base, args.seed)
        if args.flags:
            flags = [*base, *shlex.split(args.flags)]
            runs[f"tfr train {args.flags}"] = lambda split=split, flags=flags: train_and_test(
                args.dataset, split, flags, args.seed
            )
        everything.append(measure(runs, figures))
    print("mean over folds, CPU seconds in all")
    for name in everything[0]:
        rows = np.array([fold[name] for fold in everything])
        print(f"  {name:<40}" + "".join(f"{value:>15.4f}" for value in [*rows[:, :-1].mean(0), rows[:, -1].sum()]))
    previous = None
    for name in everything[0]:
        if previous:
            gains = np.array([np.subtract(fold[name], fold[previous])[:-1] for fold in everything])
            shown = "".join(f"{gain.mean():>+9.4f} ±{gain.std(ddof=min(1, len(gain) - 1)):.4f}" for gain in gains.T)
            print(f"  {name} - {previous}: {shown}")
        previous = name


if __name__ == "__main__":
    main()
