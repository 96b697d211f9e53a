"""How many planted label errors `tfr errors --label_issues` finds, and how many of its suggestions are such.

    python benchmarks/bench_label_issues.py --dataset=data/posters/1.0.0 --share=0.1

Of a share of the images of every split one label is made wrong: in a multi-label dataset one that it has goes, or one
that it has not comes, drawn evenly; in a single-label dataset it is exchanged for another. The planted dataset is
trained on with the defaults, and all splits are looked at. Errors that were there before count as false alarms.
"""

import argparse
import csv
import os
import tempfile

import numpy as np

from tfr import conversion, dataset_dir
from tfr.annotations import ReadOptions
from tfr.config import ConvertConfig
from tfr.train import label_issues, run_dir, training
from tfr.train.config import DataConfig, TrainConfig
from tfr.train.label_issues import ABSENT, PRESENT

_DEPTHS = (50, 100, 200, 400)


def plant(dataset, share, seed, output):
    """Converts a dataset with wrong labels; returns its directory and {(id, label): whether it is present now}."""
    builder, rng, wrong = dataset_dir.open_builder(dataset), np.random.default_rng(seed), {}
    names, key = dataset_dir.label_names(builder), dataset_dir.label_key(builder)
    rows = [["id", "label", "present", "replaces"]]
    for split in builder.info.splits:
        for example in dataset_dir.read_split(builder, split):
            carried = np.atleast_1d(example[key])
            others = np.setdiff1d(np.arange(len(names)), carried)
            adds = key == "label" or not len(carried) or rng.random() < 0.5
            if rng.random() < share:
                label = names[rng.choice(others if adds else carried)]
                id_ = example["id"].decode()
                wrong[id_, label] = adds
                rows.append([id_, label, int(adds), names[carried[0]] if key == "label" else ""])
    with open(f"{output}/planted.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    config = ConvertConfig(
        annotations=os.fspath(builder.data_path),
        data_dir=f"{output}/data",
        name="planted",
        label_mode="single" if key == "label" else "multi",
        labels=tuple(names),
        corrections=f"{output}/planted.csv",
        read=ReadOptions(id_column="id"),
    )
    return conversion.convert(config).dataset_dir, wrong


def report(title, issues, wrong, num_labels):
    """Prints how many of the first issues are planted errors, and how many of these are among all issues."""
    hits = np.array([(one.id, one.replaces or one.label) in wrong for one in issues])
    shown = [f"{hits[:depth].mean():.2f} of the first {depth}" for depth in _DEPTHS if depth <= len(hits)]
    print(f"{title}: {len(wrong)} of {num_labels} are planted errors ({len(wrong) / num_labels:.4f})")
    print(f"  {len(issues)} issues; planted are {', '.join([*shown, f'{hits.mean():.3f} of all'])}")
    print(f"  found are {hits.sum()} planted errors ({hits.sum() / len(wrong):.2f})")


def main():
    """Prints precision and recall."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        planted, wrong = plant(args.dataset, args.share, args.seed, folder)
        training.train(TrainConfig(run_dir=f"{folder}/run", data=DataConfig(dataset=planted)))
        run, splits = run_dir.load(f"{folder}/run"), dataset_dir.open_builder(planted).info.splits
        issues = label_issues.find_issues(run, list(splits))
        num_present = sum(counts["total"] for counts in dataset_dir.read_label_counts(planted).values())
    given = [one for one in issues if one.given == PRESENT or one.replaces]
    report("labels given", given, {key for key, is_given in wrong.items() if is_given}, num_present)
    if run.multi_label:
        num_pairs = sum(split.num_examples for split in splits.values()) * len(run.labels)
        removed = {key for key, is_given in wrong.items() if not is_given}
        missing = [one for one in issues if one.given == ABSENT]
        report("labels not given", missing, removed, num_pairs - num_present)
        report("both", issues, wrong, num_pairs)


if __name__ == "__main__":
    main()
