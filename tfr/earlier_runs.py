"""What other runs left, or are doing, in a dataset directory: a dataset, an unfinished conversion, a lock."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from tfr import dataset_dir, files, folder_lock, recorded
from tfr.config import ConvertConfig
from tfr.duplicate_groups import CACHE_SUFFIX
from tfr.errors import DatasetError, JobElsewhereError
from tfr.planning import Plan
from tfr.shard_writer import REPORT_SUFFIX

STARTED_FILE = "started.json"  # in the plan folder: the config that its finished shards were written with
_WORTH_KEEPING = (REPORT_SUFFIX, CACHE_SUFFIX, dataset_dir.REJECTED_FILE)
_METADATA = re.compile(
    r"features\.json|.+\.labels\.txt|conversion\.json|label_counts\.csv|rejected\.jsonl|images_.+\.txt"
)


def plan_dir(config: ConvertConfig) -> str:
    """The folder for what an unfinished conversion has to remember."""
    return f"{config.dataset_dir}/{dataset_dir.PLAN_DIR}"


def finished(config: ConvertConfig, content_hash: str) -> dict[str, Any] | None:
    """What the conversion that made this very dataset said at its end; None where there is no dataset.

    Raises:
      DatasetError: there is another one, and it is not to be overwritten.
    """
    if config.overwrite or not files.exists(f"{config.dataset_dir}/{dataset_dir.INFO_FILE}"):
        return None
    conversion = dataset_dir.read_conversion(config.dataset_dir)
    if conversion.get("content_hash") == content_hash:
        remove_plan(config)  # a job that was killed at its very end leaves it
        return conversion["result"]
    raise DatasetError(
        f"{config.dataset_dir} holds a dataset {_what_made_it(conversion, config)}. Say --overwrite to replace it, or "
        "give another --version or --name."
    )


def _what_made_it(conversion: dict[str, Any], config: ConvertConfig) -> str:
    if not conversion:
        return "that tfr convert did not make"
    changed = (
        _difference(conversion.get("config", {}), config)
        or "the annotations, tables beside them or the list of images changed"
    )
    return f"made from other input or with another config ({changed})"


def _difference(before: dict[str, Any], config: ConvertConfig) -> str:
    """See recorded.difference."""
    return recorded.difference(_flat(before), _flat(config.content()))


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """Nested settings by their own names: {'image': {'min_side': 1}} -> {'min_side': 1}."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= value if isinstance(value, dict) and key in ("read", "image") else {key: value}
    return flat


def refuse_other_unfinished(config: ConvertConfig) -> None:
    """Raises where another config has finished shards here, unless they are to be overwritten.

    Other annotations or images are no reason: a shard is kept only if its rows are what they were.
    """
    path = f"{plan_dir(config)}/{STARTED_FILE}"
    if config.overwrite or not files.exists(path) or not _has_finished_shards(config):
        return
    with files.open_text(path) as file:
        changed = _difference(json.load(file), config)
    if changed:
        raise DatasetError(
            f"{config.dataset_dir} holds an unfinished conversion with another config ({changed}). Run that one again "
            "to finish it, or say --overwrite to begin anew with this one."
        )


def _has_finished_shards(config: ConvertConfig) -> bool:
    return any(name.endswith(REPORT_SUFFIX) for name in files.list_names(plan_dir(config)))


# Alone


@contextlib.contextmanager
def exclusive(config: ConvertConfig) -> Iterator[None]:
    """Makes the plan folder and holds it for this process; one at a time can.

    Where the body raises and there is nothing to go on with (a finished shard, a list of rejects, the fingerprints of
    images), all that was made is removed again.

    On a local disk the operating system keeps the lock, and frees it however the process ends. Object stores have none:
    two runs of one command there write the same bytes to the same names and do no harm but work twice; a run of another
    config is refused from the first finished shard on.

    Raises:
      ConversionError: another process has it.
    """
    made = _missing_folders(config.dataset_dir)
    with folder_lock.hold(plan_dir(config), "conversion", config.dataset_dir):
        try:
            yield
        except JobElsewhereError:
            raise
        except BaseException:
            _tidy(config, made)
            raise


def _missing_folders(path: str) -> list[str]:
    """The folders on the way to a local path that are not there yet, the deepest first."""
    missing = []
    while path and files.is_local(path) and not os.path.exists(path):
        missing.append(path)
        path = os.path.dirname(path)
    return missing


def _tidy(config: ConvertConfig, made: list[str]) -> None:
    with contextlib.suppress(Exception):  # on the way out with an error that says more; a store raises its own kinds
        if not files.is_local(config.dataset_dir) and files.exists(f"{plan_dir(config)}/{STARTED_FILE}"):
            return  # workers on other machines may go on after their launcher was stopped
        if any(name.endswith(_WORTH_KEEPING) for name in files.list_names(plan_dir(config))):
            return
        files.remove_tree(plan_dir(config))
        for folder in made:
            os.rmdir(folder)


# Beginning and ending


def begin(config: ConvertConfig, plan: Plan) -> None:
    """Notes what is being done, and removes what this plan does not name: of interrupted runs, of an old dataset."""
    folder, keep = config.dataset_dir, {shard.file for shard in plan.shards}
    names = files.list_names(folder)
    overwritten = dataset_dir.INFO_FILE in names
    if overwritten:
        files.remove(f"{folder}/{dataset_dir.INFO_FILE}")  # first: from here on there is no dataset
    for name in names:
        is_ours = name.startswith(f"{config.name}-") or ".tmp-" in name or _METADATA.fullmatch(name)
        if name.rstrip("/") not in keep and (overwritten or is_ours):
            _remove(f"{folder}/{name}")
    reports = {file + REPORT_SUFFIX for file in keep}
    for name in files.list_names(plan_dir(config)):
        is_stale_report = name.endswith(REPORT_SUFFIX) and name not in reports
        if is_stale_report or ".tmp-" in name or name.endswith(".progress"):
            _remove(f"{plan_dir(config)}/{name}")
    files.write_text(f"{plan_dir(config)}/{STARTED_FILE}", json.dumps(config.content(), indent=1))


def _remove(path: str) -> None:
    files.remove_tree(path) if path.endswith("/") else files.remove(path)


def remove_plan(config: ConvertConfig) -> None:
    """Removes the plan folder, its lock included."""
    if files.exists(plan_dir(config)):
        files.remove_tree(plan_dir(config))
