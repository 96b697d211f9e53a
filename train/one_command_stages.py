"""The stages of the whole way: check, convert, count, train, evaluate, report.

They call what the commands call, and import it when they run: looking whether there is anything to do needs neither
Beam nor TensorFlow.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from tfr import dataset_dir, files
from tfr.config import ConvertConfig, digest
from tfr.errors import AnnotationError, RunDirError, UsageError

from . import run_dir
from .config import DataConfig, TrainConfig
from .pipeline import Stage

_SAID_BY_INPUT = ("data.dataset", "data.data_dir")  # settings of a training


class Check(Stage):
    """Looks at the first rows and some images; see preflight.check."""

    name, title = "check", "Check annotations and images before the long work"

    def __init__(self, config: ConvertConfig, data: DataConfig, output: str):
        """`data` says what the training wants of it; `output` is the text file for what was found."""
        self._config, self._data, self.place = config, data, output

    def settings(self) -> dict[str, Any]:
        return _conversion_settings(self._config)

    def inputs(self) -> Any:
        return _conversion_inputs(self._config)

    def outputs(self) -> Any:
        return _file_digest(self.place)

    def run(self, *, is_resumed: bool) -> str:
        del is_resumed
        from tfr import preflight

        checked = preflight.check(self._config)
        if checked.is_whole:
            self._check_training(checked.splits)
        text = preflight.text(checked)
        files.write_text(self.place, f"{text}\n")
        return text

    def _check_training(self, splits: Mapping[str, int]) -> None:
        """Raises where there is too little to train on."""
        batch_size, count = self._data.batch_size, 0
        for split in (part.partition("[")[0].strip() for part in self._data.train_split.split("+")):
            if split not in [*splits, "all"]:
                raise UsageError(
                    f"No row is in a split called {split!r}, to train on; the annotations name {list(splits)}. Give "
                    "--ignore_splits to convert, to split anew, or --train_split to train."
                )
            count += sum(splits.values()) if split == "all" else splits[split]
        if batch_size and count < batch_size:
            raise UsageError(
                f"There are {count} images to train on, fewer than a batch of {batch_size}. Give more images, "
                "or a smaller --batch_size to train (--set=train.batch_size=8)."
            )


class Convert(Stage):
    """Makes the dataset."""

    name, title, is_exclusive = "convert", "Convert to TFRecords, every image verified", True

    def __init__(self, config: ConvertConfig):
        self._config, self.place = config, config.dataset_dir

    def settings(self) -> dict[str, Any]:
        return _conversion_settings(self._config)

    def inputs(self) -> Any:
        return _conversion_inputs(self._config)

    def outputs(self) -> Any:
        return dataset_digest(self._config.dataset_dir)

    def clear(self) -> None:
        files.remove(f"{self._config.dataset_dir}/{dataset_dir.INFO_FILE}")  # first: from here on there is no dataset
        files.remove_tree(self._config.dataset_dir)

    def run(self, *, is_resumed: bool) -> str:
        del is_resumed  # it finds out by itself
        from tfr import conversion  # imports Beam

        return conversion.summary(conversion.convert(self._config))


class Statistics(Stage):
    """Counts the dataset, and writes its page."""

    name, title = "stats", "Count, and look for what makes it hard to learn"

    def __init__(self, dataset: str, output: str):
        """`output` is the HTML file."""
        self._dataset, self.place = dataset, output

    def settings(self) -> dict[str, Any]:
        return {}

    def inputs(self) -> Any:
        return dataset_digest(self._dataset)

    def outputs(self) -> Any:
        return _file_digest(self.place)

    def run(self, *, is_resumed: bool) -> str:
        del is_resumed
        from tfr import statistics_report

        report = statistics_report.make(self._dataset, samples_per_label=4)
        report.write_html(self.place)
        found = [f"  - {finding}" for finding in report.findings] or ["  nothing to worry about found"]
        return "\n".join([*found, f"  the page: {self.place}"])


class Train(Stage):
    """Trains the tagger; a run that was killed goes on."""

    name, title, is_exclusive = "train", "Train", True

    def __init__(self, config: TrainConfig):
        self._config, self.place = config, config.run_dir

    def settings(self) -> dict[str, Any]:
        return {key: value for key, value in self._config.content().items() if key not in _SAID_BY_INPUT}

    def inputs(self) -> Any:
        """The dataset; and, where they are files, what the head is trained on and the weights to start from."""
        from .embedding import directory

        bottlenecks, weights = self._config.data.bottlenecks, self._config.model.weights
        others = [_file_digest(files.join(bottlenecks, directory.FILE))] if bottlenecks else []
        others += [_file_digest(weights)] if os.path.isfile(weights) else []
        dataset = dataset_digest(self._config.data.dataset)
        return [dataset, *others] if others else dataset

    def outputs(self) -> Any:
        """Says which run it is, but not its thresholds and temperature, which may be tuned anew."""
        try:
            run = run_dir.load(self._config.run_dir)
        except RunDirError:
            return None
        chosen = {key: value for key, value in run.config.items() if key != "resolved"}
        return digest([chosen, run.labels, _file_digest(os.path.join(run.path, run_dir.HISTORY_FILE))])

    def clear(self) -> None:
        run_dir.create(self._config.run_dir, overwrite=True)

    def run(self, *, is_resumed: bool) -> str:
        if is_resumed and self.outputs() is not None:
            return "  it had come to its end already"
        from . import quiet

        quiet.import_tensorflow()
        from . import training

        return training.summary(training.train(self._config))


class Evaluate(Stage):
    """Measures the tagger on the split that `measured_split` chooses."""

    name, title = "evaluate", "Measure on images that it was not trained on"

    def __init__(self, run_path: str, dataset: str, options: Mapping[str, Any]):
        """`options` are further arguments of evaluation.evaluate."""
        self._run_path, self._dataset, self._options = run_path, dataset, options
        self.place = os.path.join(run_path, run_dir.METRICS_FILE)

    def settings(self) -> dict[str, Any]:
        return dict(self._options)

    def inputs(self) -> Any:
        return [dataset_digest(self._dataset), _tagger_digest(self._run_path)]

    def outputs(self) -> Any:
        measured = read_metrics(self._run_path).get(self._split, {})
        return digest(measured) if "intervals" in measured else None  # training leaves some of validation

    @property
    def _split(self) -> str:
        return measured_split(self._run_path, self._dataset, self._options)

    def run(self, *, is_resumed: bool) -> str:
        del is_resumed
        from . import quiet

        quiet.import_tensorflow()
        from . import evaluation

        split = self._split
        measured = evaluation.evaluate(self._run_path, **{**self._options, "split": split})
        text = evaluation.report_text(measured, split)
        run = run_dir.load(self._run_path)
        if split == run.config["resolved"]["validation_split"]:
            decided = "which weights were kept, and the thresholds" if run.epoch_was_chosen else "the thresholds"
            text += (
                f"\n\n  {split!r} also decided {decided}: new images may do a little worse. A split called 'test' "
                "would say."
            )
        return text


class Report(Stage):
    """Writes the report on the tagger."""

    name, title = "report", "Write the report"

    def __init__(self, run_path: str, dataset: str, evaluate: Mapping[str, Any], options: Mapping[str, Any]):
        """`evaluate` are the options of Evaluate, `options` further arguments of report.write_report."""
        self._run_path, self._dataset, self._evaluate, self._options = run_path, dataset, evaluate, options
        self.place = report_path(run_path, options)

    def settings(self) -> dict[str, Any]:
        return dict(self._options)

    def inputs(self) -> Any:
        metrics = _file_digest(os.path.join(self._run_path, run_dir.METRICS_FILE))
        return [dataset_digest(self._dataset), _tagger_digest(self._run_path), metrics]

    def outputs(self) -> Any:
        return _file_digest(self.place)

    def run(self, *, is_resumed: bool) -> str:
        del is_resumed
        from . import quiet

        quiet.import_tensorflow()
        from .reporting import report

        measured = {key: value for key, value in self._evaluate.items() if key == "dataset"}
        measured["split"] = measured_split(self._run_path, self._dataset, self._evaluate)
        return f"  {report.write_report(self._run_path, **{**measured, **self._options})}"


# What the stages look at


def _conversion_settings(config: ConvertConfig) -> dict[str, Any]:
    """What decides a dataset besides its input, by the names of flags."""
    content = config.content()
    read, image = content.pop("read"), content.pop("image")
    del read["images"]  # the conversion fills it in
    return {**content, **read, **image}


def _conversion_inputs(config: ConvertConfig) -> str:
    from tfr import input_digest, planning

    path = config.annotations_path
    if path is not None and not files.exists(path):
        raise AnnotationError(f"No annotation file at {path}. Give an existing file or folder.")
    planning.check_image_dir(config)
    with files.Listing(config.image_dir) as images:
        return input_digest.content_hash(config, images)


def dataset_digest(folder: str) -> str | None:
    """A digest of a dataset that `tfr convert` made, by the checksums of its shards; None where it is not complete."""
    if not files.exists(f"{folder}/{dataset_dir.INFO_FILE}"):
        return None
    shards = dataset_dir.read_conversion(folder).get("shards", [])
    sizes = [files.size(f"{folder}/{shard['file']}") for shard in shards]
    if not shards or None in sizes:
        return None
    metadata = [_file_digest(f"{folder}/{name}") for name in ("features.json", dataset_dir.LABEL_COUNTS_FILE)]
    return digest([[(shard["file"], shard["checksum"]) for shard in shards], sizes, metadata])


def _tagger_digest(path: str) -> str:
    """Of all that decides what a run says of an image."""
    names = (run_dir.MODEL_FILE, run_dir.LABELS_FILE, run_dir.THRESHOLDS_FILE)
    return digest([_file_digest(os.path.join(path, name)) for name in names])


def _file_digest(path: str) -> str | None:
    if not files.exists(path):
        return None
    with files.open_binary(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()  # type: ignore[arg-type]


def validation_split(run_path: str) -> str:
    """The split that a finished run was validated on."""
    return run_dir.load(run_path).config["resolved"]["validation_split"]


def measured_split(run_path: str, dataset: str, options: Mapping[str, Any]) -> str:
    """The split to evaluate on: the one of the options, else test, else the one that the training validated on."""
    if "split" in options or "dataset" in options:  # another dataset, which has splits of its own
        return options.get("split", "test")
    splits = dataset_dir.open_builder(dataset).info.splits
    return "test" if "test" in splits else validation_split(run_path)


def read_metrics(run_path: str) -> dict[str, Any]:
    """Split to metrics, of a run that may not be there yet."""
    path = os.path.join(run_path, run_dir.METRICS_FILE)
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        return json.load(file)
    return {}


def report_path(run_path: str, options: Mapping[str, Any]) -> str:
    """Where the report lies."""
    return options.get("output") or os.path.join(run_path, run_dir.REPORT_FILE)
