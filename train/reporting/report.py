"""The report of a run: one page that says what was trained on what, how good it is, and how to use it."""

import contextlib
import csv
import io
import os
from typing import Any

import tensorflow_datasets as tfds

from tfr import dataset_dir, duplicates, files, record_layout, statistics_report
from tfr.errors import DatasetError, MissingDependencyError, UsageError

from .. import evaluation, input_pipeline, run_dir
from ..prediction import saved_predictions
from .material import Material, base_split
from .page import render

_MAX_COUNTED = 200_000  # images of a dataset that is counted and searched for duplicates on the way: some seconds
_MAX_DECODED = 10_000  # of a dataset without fingerprints
_DEFAULT_SPLIT = "test"


def write_report(
    path: str, *, dataset: str | None = None, split: str = _DEFAULT_SPLIT, output: str | None = None, pdf: bool = False,
    num_examples: int = 8, explain: bool = True,
) -> str:  # fmt: skip
    """Writes the report of a run as one HTML file that needs no other, and no network.

    The run is measured on the split, as `evaluate` does, and the figures are saved in metrics.json.

    Args:
      path: the run directory.
      dataset: dataset directory or TFDS name to measure on; default: the one that the run was trained on.
      split: a split that the run was not trained on. Where the dataset has no split 'test', the validation split of
        the training stands in, and the report says so.
      output: the HTML file; default: report.html in the run directory.
      pdf: whether to write the same as PDF beside it (needs the extra `pdf`).
      num_examples: example images of each kind: right, wrong and missed.
      explain: whether to show beside each which part of it speaks for the label (Grad-CAM).

    Returns:
      The HTML file's path.

    Raises:
      RunDirError: it is no finished run, or its labels are not those of the dataset.
      DatasetError: no such dataset or split.
      MissingDependencyError: the PDF cannot be made; nothing was written.
    """
    output = output or os.path.join(path, run_dir.REPORT_FILE)
    if not output.endswith(".html"):
        raise UsageError(f"--output must name an .html file; the PDF lies beside it. Received: --output={output}")
    write_pdf = _pdf_writer() if pdf else None
    if folder := os.path.dirname(output):
        files.make_dirs(folder)
    material = gather(run_dir.load(path), dataset, split)
    run_dir.update_metrics(path, material.split, material.measured)
    page = render(material, num_examples, explain)
    files.write_text(output, page)
    if write_pdf is not None:
        with files.atomic_write(pdf_path(output)) as file:
            file.write(write_pdf(page))
    return output


def pdf_path(output: str) -> str:
    """Where the PDF of a report lies."""
    return f"{output.removesuffix('.html')}.pdf"


def gather(run: run_dir.Run, dataset: str | None, split: str) -> Material:
    """Measures a run and collects what is known of its dataset; raises as `write_report` does."""
    resolved = run.config["resolved"]
    builder = input_pipeline.open_dataset(run.locate_dataset(dataset))
    if split == _DEFAULT_SPLIT and split not in builder.info.splits:
        split = resolved["validation_split"]
    found = saved_predictions.of_split(run, dataset=dataset, split=split)
    folder = os.fspath(builder.data_path)
    data = _count(builder)
    return Material(
        run=run,
        split=split,
        served_for=_served_for(resolved, builder.info.full_name, split),
        found=found,
        validation=_validation(run),
        measured=evaluation.measure(run, found),
        history=_read_history(run.path),
        dataset_dir=folder,
        dataset=builder.info.full_name,
        splits={name: info.num_examples for name, info in builder.info.splits.items()},
        train_counts=_train_counts(run, data),
        data=data,
        duplicates=duplicates.find(folder) if data and _is_quick_to_search(builder) else None,
    )


def _served_for(resolved: dict[str, Any], dataset: str, split: str) -> str:
    """See Material. Of another slice of the split that was learnt from, it is taken that it was learnt from too."""
    train, validation = resolved["train_split"], resolved["validation_split"]
    if dataset != resolved["dataset"] or base_split(split) not in (base_split(train), base_split(validation)):
        return ""
    return "validation" if split == validation or base_split(split) != base_split(train) else "training"


def _validation(run: run_dir.Run) -> saved_predictions.Predictions | None:
    """What the run says of the split that it was tuned on; None where its dataset is gone."""
    try:
        return saved_predictions.of_split(run, split=run.config["resolved"]["validation_split"])
    except DatasetError:
        return None


def _count(builder: tfds.core.DatasetBuilder) -> statistics_report.Report | None:
    """What `tfr stats` finds; None where that would take long, or the records are not those of one image each."""
    if sum(info.num_examples for info in builder.info.splits.values()) > _MAX_COUNTED:
        return None
    try:
        return statistics_report.make(os.fspath(builder.data_path))
    except DatasetError:
        return None


def _is_quick_to_search(builder: tfds.core.DatasetBuilder) -> bool:
    """Whether duplicates can be found without decoding many images."""
    number = sum(info.num_examples for info in builder.info.splits.values())
    return record_layout.layout_of(builder).has_fingerprint or number <= _MAX_DECODED


def _train_counts(run: run_dir.Run, data: statistics_report.Report | None) -> dict[str, int]:
    """Images of each label in the training split; of a slice, its part of the split's. Empty where unknown."""
    resolved = run.config["resolved"]
    try:
        builder = input_pipeline.open_dataset(run.locate_dataset())
    except DatasetError:
        return {}
    base = base_split(resolved["train_split"])
    counts = {
        label: row.get(base, 0) for label, row in dataset_dir.read_label_counts(os.fspath(builder.data_path)).items()
    }
    if not counts and data is not None and data.statistics.dataset_dir == os.fspath(builder.data_path):
        counted = data.statistics.splits[base].label_counts
        counts = {name: counted[i] for i, name in enumerate(data.statistics.label_names)}
    share = resolved["num_train"] / max(builder.info.splits[base].num_examples, 1)
    return {label: round(count * min(share, 1)) for label, count in counts.items()}


def _read_history(path: str) -> list[dict[str, Any]]:
    full = os.path.join(path, run_dir.HISTORY_FILE)
    if not os.path.exists(full):
        return []
    with open(full, encoding="utf-8", newline="") as file:
        return [
            {key: value if key == "phase" else float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def _pdf_writer() -> Any:
    """A function from a page to the bytes of a PDF.

    Raises:
      MissingDependencyError: WeasyPrint, or the system's library Pango, is not installed.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where it prints how to install itself
            import weasyprint
    except ImportError as err:
        raise MissingDependencyError("--pdf needs WeasyPrint: pip install 'tfr[pdf]'.") from err
    except OSError as err:  # the package is there, a library that it loads is not
        raise MissingDependencyError(
            f"--pdf needs the library Pango, which is not installed ({str(err).splitlines()[0]}). On Debian and "
            "Ubuntu: apt-get install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0. Or print the HTML page from "
            "a browser."
        ) from err
    fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",), fail_on_errors=True)  # what is in the page
    return lambda page: weasyprint.HTML(string=page, url_fetcher=fetcher).write_pdf()
