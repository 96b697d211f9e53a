"""The trained head against scikit-learn's LogisticRegression on the same embeddings, on the test split.

    python benchmarks/bench_quality.py --dataset=data/posters/1.0.0 --seeds=3

LogisticRegression is fitted for each label, on plain and on standardised embeddings, with C chosen on the validation
split by macro mAP; the better of the two on validation is what the head has to match. The head is trained as `tfr
train` does with its defaults, once a seed; --base_flags adds flags. CPU time is that of this process, all its threads,
what reads and embeds the images included.
"""

import argparse
import shlex
import tempfile
import time
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tfr import dataset_dir
from tfr.train import backbones, bottlenecks, evaluation, input_pipeline, metrics, training
from tfr.train.commands import train as train_command

_FIGURES = ("macro_map", "micro_map", "macro_roc_auc")
_CS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def _probabilities(train, others, c, scaled):
    """LogisticRegression a label; a label without positives gets zeros."""
    found = [np.zeros_like(other.targets) for other in others]
    for label in range(train.targets.shape[1]):
        if not 0 < train.targets[:, label].sum() < len(train.targets):
            continue
        model = LogisticRegression(C=c, max_iter=1000)
        model = make_pipeline(StandardScaler(), model) if scaled else model
        model.fit(train.values, train.targets[:, label])
        for place, other in zip(found, others, strict=True):
            place[:, label] = model.predict_proba(other.values)[:, 1]
    return found


def _softmax_probabilities(train, others, c, scaled):
    """One LogisticRegression over all labels; the plain embeddings, which are small, want a larger C."""
    model = LogisticRegression(C=c if scaled else 300 * c, max_iter=1000)
    model = make_pipeline(StandardScaler(), model) if scaled else model
    model.fit(train.values, train.targets.argmax(axis=1))
    found = [np.zeros_like(other.targets) for other in others]
    for place, other in zip(found, others, strict=True):
        place[:, model.classes_] = model.predict_proba(other.values)
    return found


def logistic_regression(train, validation, test, names, *, multi_label=True):
    """Test metrics of the best (C, scaling) on validation, by macro mAP, or by accuracy for single labels."""
    best = None
    fit = _probabilities if multi_label else _softmax_probabilities
    for scaled in (False, True):
        for c in _CS:
            on_validation, on_test = fit(train, (validation, test), c, scaled)
            measured = metrics.compute_metrics(validation.targets, on_validation, names, multi_label=multi_label)
            score = measured["macro_map" if multi_label else "accuracy"]
            if best is None or score > best[0]:
                best = score, f"C={c}, {'standardised' if scaled else 'plain'}", on_test
    return best[1], metrics.compute_metrics(test.targets, best[2], names, multi_label=multi_label)


def main():
    """Prints a line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base_flags", default="", help="flags of `tfr train`, such as --features=last")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    builder = input_pipeline.open_dataset(args.dataset)
    names = dataset_dir.label_names(builder)
    started = time.process_time()
    backbone = backbones.build_backbone(backbones.default_backbone())
    sets = [
        bottlenecks.embed(backbone, builder, split, batch_size=32, resize="squash")
        for split in ("train", "validation", "test")
    ]
    chosen, measured = logistic_regression(*sets, names)
    rows = [(f"LogisticRegression ({chosen})", {**measured, "CPU seconds": time.process_time() - started})]
    for seed in range(args.seeds):
        with tempfile.TemporaryDirectory() as folder:
            words = [f"--dataset={args.dataset}", f"--run_dir={folder}/run", f"--seed={seed}"]
            words += shlex.split(args.base_flags)
            started = time.process_time()
            training.train(train_command.build_config(train_command.FLAGS.parse(words)))
            seconds = time.process_time() - started
            measured = evaluation.evaluate(f"{folder}/run", split="test")
            rows.append((f"tfr train --seed={seed}", {**measured, "CPU seconds": seconds}))
    columns = (*_FIGURES, "CPU seconds")
    print(f"{'':<60}" + "".join(f"{column:>15}" for column in columns))
    for name, row in rows:
        print(f"{name:<60}" + "".join(f"{row[column]:>15.4f}" for column in columns))


if __name__ == "__main__":
    main()
