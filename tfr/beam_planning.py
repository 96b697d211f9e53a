"""The plan of a conversion by Beam jobs, for tables too large for one machine: the manifests are those of tfr.planning.

The launching process looks at the table's head, lists the images, and adds up what the workers report; the rows stay
with the workers (see tfr.plan_jobs).
"""

import itertools
import json
import re
from collections.abc import Iterable, Sequence

from tfr import corrections, files, label_choice, manifests, plan_jobs, planning, runners, vocabulary
from tfr.annotations import LabelSet, Note, Source, parts
from tfr.config import ConvertConfig
from tfr.errors import AnnotationError, ConversionError
from tfr.features import RecordSchema
from tfr.manifests import ShardPlan
from tfr.plan_elements import PartitionReport, Place, PlanSettings
from tfr.planning import Plan
from tfr.row_store import Reject

_PART_BYTES = 32 << 20  # of the table; as many partitions of rows, each less than a worker's memory by far
_FILES_PER_BLOCK = 50_000  # of the image listing


def make_plan(
    config: ConvertConfig, plan_dir: str, runner: runners.Runner, listing: Iterable[files.ListedFile]
) -> Plan:
    """Plans as `planning.make_plan` does, the rows being read and sorted by Beam jobs.

    Args:
      config: the conversion.
      plan_dir: the folder for the manifests, which all workers can write to.
      runner: runs the jobs.
      listing: the files of the image folder.

    Raises:
      UsageError: the table cannot be read in parts.
      AnnotationError: the annotations cannot be used; the message says where and why.
      ConversionError: a job failed or lost rows, or nothing is left to convert.
    """
    planning.check_image_dir(config)
    options = planning.read_options(config)
    table, notes = parts.open_table(config.annotations_path or "", config.format, options)
    table_parts = table.parts(_PART_BYTES)
    settings = PlanSettings(
        config=config,
        table=table,
        label_map=planning.read_label_map(config),
        work_dir=f"{plan_dir}/planning",
        num_partitions=len(table_parts),
        corrections=planning.read_corrections(config),
    )
    files.make_dirs(settings.work_dir)
    try:
        return _Planner(settings, plan_dir, runner).plan(table_parts, listing, notes)
    finally:
        files.remove_tree(settings.work_dir)


class _Planner:
    def __init__(self, settings: PlanSettings, plan_dir: str, runner: runners.Runner):
        self._settings, self._plan_dir, self._runner = settings, plan_dir, runner
        self._config, self._table = settings.config, settings.table
        self._reader = settings.table.reader()  # before any job: it finds the columns, or says which are missing
        self._report = PartitionReport()
        self._first_lines: list[int] = []

    def plan(self, bounds: Sequence[tuple[int, int]], listing: Iterable[files.ListedFile], notes: list[str]) -> Plan:
        """Runs the jobs and adds up what they report."""
        num_blocks, listed = self._write_listing(listing) if self._config.list_images else (0, None)
        elements: list[tuple] = [("part", number, *both) for number, both in enumerate(bounds)]
        elements += [("listing", number) for number in range(num_blocks)]
        elements += [("partition", number) for number in range(self._settings.num_partitions)]
        self._runner.run(lambda pipeline: plan_jobs.plan_rows(pipeline, self._settings, elements))
        self._report = self._read_reports("report")
        parts_read = sorted(self._report.others["part"])
        line_counts = itertools.accumulate((part[1] for part in parts_read), initial=self._table.first_line)
        self._first_lines = list(line_counts)
        self._raise_errors()
        rows_read = sum(num_events for _, _, num_events, _, _ in parts_read)
        self._check_complete(len(parts_read) == len(bounds), rows_read)
        applied = corrections.Applied(self._settings.corrections)
        for effect in self._report.others["corrected"]:
            applied.add(corrections.Effect(*effect))
        applied.check_ids()
        self._check_images(listed)
        schema, dropped, warnings = self._choose_labels(notes, applied)
        shards = self._write_manifests(schema)
        return Plan(
            schema=schema,
            shards=shards,
            rejects=self._rejects(),
            rows_read=rows_read,
            images_listed=listed,
            images_without_row=self._without_row(),
            duplicate_ids=self._report.num_duplicates,
            dropped_labels=dropped,
            corrections=applied.to_json(),
            warnings=[*notes, *warnings],
        )

    def _write_listing(self, listing: Iterable[files.ListedFile]) -> tuple[int, int]:
        """Writes the image listing as blocks that workers read; returns their number and that of image files."""
        num_images, iterator = 0, iter(listing)
        for number in itertools.count():
            block = list(itertools.islice(iterator, _FILES_PER_BLOCK))
            if not block:
                return number, num_images
            num_images += sum(files.is_image_name(path) for path, _ in block)
            files.write_text(self._settings.path("listing", number), "".join(f"{json.dumps(file)}\n" for file in block))
        raise AssertionError("count() has no end")

    def _read_reports(self, kind: str) -> PartitionReport:
        total = PartitionReport()
        for number in range(self._settings.num_partitions):
            path = self._settings.path(kind, number)
            if not files.exists(path):
                raise ConversionError(f"The planning job ended, but {path} was not written. Run the command again.")
            total.add_json(json.loads(files.read_bytes(path)))
        return total

    def _raise_errors(self) -> None:
        """Raises the first error that a worker found in the table."""
        if self._report.others["error"]:
            part, message = min(self._report.others["error"])
            shift = self._first_lines[part] - 1
            where = re.escape(self._table.path) + r":(\d+):"
            raise AnnotationError(
                re.sub(f"^{where}", lambda match: f"{self._table.path}:{int(match[1]) + shift}:", message)
            )
        if self._config.on_duplicate == "error" and self._report.num_duplicates:
            _, other, first, equal = self._report.others["duplicate"][0]
            raise AnnotationError(
                planning.duplicate_message(self._source(other), self._source(first), equal, self._report.num_duplicates)
            )

    def _check_complete(self, has_all_parts: bool, rows_read: int) -> None:
        kept = sum(num_rows for num_rows, _, _ in self._report.sizes.values())
        rejected = len(self._report.others["reject"])
        if not has_all_parts or kept + rejected != rows_read:
            raise ConversionError(
                f"{rows_read} rows read, but {kept} planned and {rejected} rejected. The runner lost or repeated rows; "
                "use another one, or --planner=local."
            )

    def _check_images(self, listed: int | None) -> None:
        if self._report.others["missing"] and not self._report.sizes:
            ((_, image),) = self._report.others["missing"]
            raise ConversionError(
                planning.no_image_message(image, self._config.image_dir, listed or 0, self._without_row())
            )

    def _without_row(self) -> list[str]:
        return sorted(path for (path,) in self._report.others["without_row"])

    def _choose_labels(
        self, notes: list[str], applied: corrections.Applied
    ) -> tuple[RecordSchema, dict[str, int], list[str]]:
        """Schema, labels left out, warnings; rows that do not fit are rejected, and what the reader says is noted."""
        reader = self._reader
        for _, _, _, num_empty, num_left_out in self._report.others["part"]:
            reader.num_empty += num_empty
            reader.num_left_out += num_left_out
        closing = list(reader.closing_events())
        notes += [event.text for event in closing if isinstance(event, Note)]
        declared = [name for event in closing if isinstance(event, LabelSet) for name in event.names]
        found = label_choice.LabelsFound(self._settings.label_map.rename(declared))
        found.add_json(self._report.labels.to_json())
        similar = [(image, path) for _, image, path in self._report.others["similar"]]
        notes += [planning.similar_message(similar)] if similar else []
        label_choice.check_corrections(applied, found, self._config)
        schema, dropped, warnings = label_choice.choose_labels(found, self._config, self._first_reject)
        if not schema.multi_label:
            chosen = vocabulary.Vocabulary(schema.names)
            self._runner.run(lambda pipeline: plan_jobs.reject_unfit(pipeline, self._settings, chosen))
            fit = self._read_reports("fit")
            self._report.sizes = fit.sizes
            self._report.others["reject"] += fit.others["reject"]
        return schema, dropped, warnings

    def _write_manifests(self, schema: RecordSchema) -> list[ShardPlan]:
        sizes = dict(sorted(self._report.sizes.items()))
        num_chosen = sum(size[2] for size in sizes.values())
        num_rows = {split: size[0] for split, size in sizes.items()}
        planning.check_splits(num_rows, num_chosen, self._config, self._first_reject)
        first_shards: dict[str, tuple[int, int]] = {}
        places: list[tuple[str, int, int]] = []
        for split, (rows, num_bytes, _) in sizes.items():
            num_shards = manifests.choose_num_shards(rows, num_bytes, self._config)
            first_shards[split] = (len(places), num_shards)
            places += [(split, index, num_shards) for index in range(num_shards)]
        assign = plan_jobs.AssignShardDoFn(self._settings, schema, first_shards, self._first_lines)
        write = plan_jobs.WriteManifestDoFn(self._settings, schema, places, self._plan_dir)
        elements = [("partition", number) for number in range(self._settings.num_partitions)]
        elements += [("shard", number) for number in range(len(places))]
        self._runner.run(lambda pipeline: plan_jobs.write_manifests(pipeline, elements, assign, write))
        return self._read_shards(len(places), sum(num_rows.values()))

    def _read_shards(self, num_shards: int, num_rows: int) -> list[ShardPlan]:
        paths = [self._settings.path("shard", number) for number in range(num_shards)]
        shards = [ShardPlan(**json.loads(files.read_bytes(path))) for path in paths]
        planned = sum(shard.num_rows for shard in shards)
        if planned != num_rows:
            raise ConversionError(
                f"{num_rows} rows were to be planned, but the manifests have {planned}. The runner lost or repeated "
                "rows; use another one, or --planner=local."
            )
        return shards

    def _rejects(self) -> list[Reject]:
        rejects = []
        for place, id_, reason, detail, other in self._report.others["reject"]:
            text = detail if other is None else f"{detail} row {self._source(other).row}"
            rejects.append(Reject(self._source(place), id_, reason, text))
        return sorted(rejects, key=lambda reject: (reject.source.row, reject.reason))

    def _first_reject(self) -> str:
        return label_choice.first_reject(self._rejects())

    def _source(self, place: Place) -> Source:
        part, line = place
        return Source(self._table.path, self._first_lines[part] + line - 1)
