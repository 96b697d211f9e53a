"""The steps of planning as Beam jobs: rows and image names are shuffled, never images.

Between two jobs there are files in the plan folder. Each job is one chain with one leaf; what is counted, rejected or
wrong travels as an element like the rows do, and ends in the report of a partition (a range of the ids' hashes).
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam

from tfr import files, image_join, manifests, planning, splits
from tfr.annotations import Annotation
from tfr.annotations.parts import PartReader
from tfr.errors import AnnotationError
from tfr.features import RecordSchema
from tfr.label_choice import why_unfit
from tfr.plan_elements import PartitionReport, Place, PlanSettings, Rejected, Row, read_lines
from tfr.vocabulary import Vocabulary

Keyed = tuple[str, Any]
Numbered = tuple[int, Any]


class _Step(beam.DoFn):
    def __init__(self, settings: PlanSettings):
        self._settings = settings
        self._hash_id = splits.Hasher(settings.config.salt)


class ReadDoFn(_Step):
    """Reads a part of the table, or of the image listing; emits (key, element), rows by their ids."""

    def process(self, element: tuple) -> Iterator[Keyed]:
        """Reads what the element names: ('part', number, start, end), ('listing', number) or ('partition', number)."""
        kind, number, *bounds = element
        if kind == "part":
            yield from self._read_part(number, *bounds)
        elif kind == "listing":
            for path, size in read_lines(self._settings.path("listing", number)):
                yield f"image:{path}", ("image", path, size)
        else:
            yield f"other:{number}", (kind, number)

    def _read_part(self, number: int, start: int, end: int) -> Iterator[Keyed]:
        reader, num_events, key = PartReader(self._settings.table, start, end), 0, f"other:{number}"
        try:
            for event in reader.events():
                num_events += 1
                place = (number, event.source.row)  # type: ignore[union-attr]  # of a part come rows and rejects alone
                if isinstance(event, Annotation):
                    yield f"row:{event.id}", ("row", *self._row(place, event))
                else:
                    yield key, ("reject", *Rejected(place, event.id, event.reason, event.detail))  # type: ignore[union-attr]
        except AnnotationError as err:
            yield key, ("error", number, str(err))
        counts = reader.table_reader
        yield key, ("part", number, reader.num_lines, num_events, counts.num_empty, counts.num_left_out)

    def _row(self, place: Place, a: Annotation) -> Row:
        rename = self._settings.label_map.rename
        return Row(
            place, a.id, a.image, rename(a.labels), rename(a.unknown), None if a.absent is None else rename(a.absent),
            a.split, a.group, manifests.dump(a.columns) if a.columns else "{}",
        )  # fmt: skip


class ResolveDuplicatesDoFn(_Step):
    """Leaves one row an id; emits (key, element), rows and images by the key of their names."""

    def process(self, keyed: tuple[str, Iterable[tuple]]) -> Iterator[Keyed]:
        """Takes all elements of a key."""
        key, elements = keyed
        if not key.startswith("row:"):
            for element in elements:
                yield (_name_key(element[1]) if element[0] == "image" else key), element
            return
        first, *others = sorted((Row(*values) for _, *values in elements), key=lambda row: row.place)
        if others:
            yield from self._fold(key, first, others)
            if self._settings.config.on_duplicate == "merge":
                labels, unknown, absent = planning.merge_labels([first, *others])
                first = first._replace(labels=labels, unknown=unknown, absent=absent)
        if first.id in self._settings.corrections.by_id:
            corrected, effect = self._settings.corrections.apply(first.id, first.labels, first.unknown, first.absent)
            first = first._replace(labels=corrected[0], unknown=corrected[1], absent=corrected[2])
            yield key, ("corrected", *effect)
        yield _name_key(first.image), ("row", *first)

    def _fold(self, key: str, first: Row, others: list[Row]) -> Iterator[Keyed]:
        equal = all(set(other.labels) == set(first.labels) for other in others)
        yield key, ("duplicate", first.id, others[0].place, first.place, equal)
        detail = planning.DUPLICATE_DETAILS.get(self._settings.config.on_duplicate, "")
        for other in others:
            yield key, ("reject", *Rejected(other.place, other.id, "duplicate_id", detail, first.place))


def _name_key(path: str) -> str:
    return f"name:{image_join.group_key(path)}"


class JoinImagesDoFn(_Step):
    """Gives each row its image file; emits (partition, element)."""

    def process(self, keyed: tuple[str, Iterable[tuple]]) -> Iterator[Numbered]:
        """Takes all rows and images of a name, or other elements."""
        key, elements = keyed
        if not key.startswith("name:"):
            yield from ((self._partition(key), element) for element in elements)
            return
        rows, images = [], {}
        for kind, *values in elements:
            if kind == "row":
                rows.append(Row(*values))
            else:
                images[values[0]] = values[1]
        rows.sort(key=lambda row: row.place)
        if not self._settings.config.list_images:
            yield from ((self._partition(row.id), ("row", *row._replace(path=row.image))) for row in rows)
            return
        yield from ((self._partition(key), element) for element in self._join(rows, images))

    def _join(self, rows: list[Row], images: dict[str, int]) -> Iterator[tuple]:
        joined = image_join.join_group([row.image for row in rows], images)
        for row, path, similar in zip(rows, joined.paths, joined.similar, strict=True):
            if path is None:
                why = planning.why_no_image(row.image, joined.stems.get(row.image, []))
                yield ("reject", *Rejected(row.place, row.id, *why))
                yield ("missing", row.place, row.image)
            else:
                yield ("row", *row._replace(path=path, size=image_join.size_of(path, images)))
                if similar:
                    yield ("similar", row.place, row.image, path)
        yield from (("without_row", path) for path in joined.without_row)

    def _partition(self, key: str) -> int:
        return manifests.shard_index(self._hash_id(key), self._settings.num_partitions)


class WritePartitionDoFn(_Step):
    """Writes the rows of a partition, each with its split, and its report; emits its number."""

    def process(self, numbered: tuple[int, Iterable[tuple]]) -> Iterator[int]:
        """Takes all elements of a partition."""
        number, elements = numbered
        report = PartitionReport()
        choose_split = self._settings.config.split_ratios.chooser(self._settings.config.salt)
        with files.atomic_write(self._settings.path("rows", number)) as file:
            for kind, *values in elements:
                if kind == "row":
                    row = _with_split(Row(*values), choose_split)
                    file.write(manifests.dump(row).encode() + b"\n")
                    report.add_row(row)
                    report.labels.add(1, row.labels, row.unknown, row.absent)
                else:
                    report.add(kind, values)
        files.write_text(self._settings.path("report", number), manifests.dump(report.to_json()))
        yield number


def _with_split(row: Row, choose: Callable[[str], str]) -> Row:
    if row.split is not None:
        return row._replace(split=splits.normalize_split(row.split))
    return row._replace(split=choose(splits.unit_key(row.id, row.group)), is_split_own=False)


class RejectUnfitDoFn(_Step):
    """Finds the rows of a partition that have not exactly one label; reports them, and the sizes without them."""

    def __init__(self, settings: PlanSettings, chosen: Vocabulary):
        super().__init__(settings)
        self._chosen = chosen

    def process(self, number: int) -> Iterator[int]:
        """Takes the number of a partition."""
        report = PartitionReport()
        for values in read_lines(self._settings.path("rows", number)):
            row = Row(*values)
            num_chosen = len(self._chosen.encode(row.labels))
            if num_chosen == 1:
                report.add_row(row)
            else:
                report.add("reject", list(Rejected(row.place, row.id, *why_unfit(row.labels, num_chosen))))
        files.write_text(self._settings.path("fit", number), manifests.dump(report.to_json()))
        yield number


class AssignShardDoFn(_Step):
    """Emits (number of the shard, (hash, id, line of the manifest)) for the rows of a partition."""

    def __init__(
        self,
        settings: PlanSettings,
        schema: RecordSchema,
        first_shards: dict[str, tuple[int, int]],
        first_lines: list[int],
    ):
        """Takes what is known of the whole.

        Args:
          settings: see PlanSettings.
          schema: the record schema.
          first_shards: split name to the number of its first shard, and how many it has.
          first_lines: the number of the first line of each part of the table.
        """
        super().__init__(settings)
        self._schema, self._first_shards, self._first_lines = schema, first_shards, first_lines

    def process(self, element: tuple[str, int]) -> Iterator[Numbered]:
        """Takes ('partition', number), or ('shard', number) for a shard that may have no row."""
        kind, number = element
        if kind == "shard":
            yield number, ()
            return
        line, table = manifests.liner(self._settings.config.image_dir), self._settings.table
        chosen = Vocabulary(self._schema.names)
        for values in read_lines(self._settings.path("rows", number)):
            row = Row(*values)
            if not self._schema.multi_label and len(chosen.encode(row.labels)) != 1:
                continue
            hash_, (first, num_shards) = self._hash_id(row.id), self._first_shards[row.split or ""]
            fields = manifests.label_fields(chosen, row.labels, row.unknown, row.absent)
            row_number = self._first_lines[row.place[0]] + row.place[1] - 1
            text = line(row.id, row.path or "", row.size, fields, row.columns, table.path, row_number)
            yield first + manifests.shard_index(hash_, num_shards), (hash_, row.id, text)


class WriteManifestDoFn(_Step):
    """Writes the manifest of a shard and, beside it, its plan; emits the shard's number."""

    def __init__(self, settings: PlanSettings, schema: RecordSchema, places: list[tuple[str, int, int]], plan_dir: str):
        """Takes the places of the shards: split, index, shards of the split."""
        super().__init__(settings)
        self._schema, self._places, self._plan_dir = schema, places, plan_dir

    def process(self, numbered: tuple[int, Iterable[tuple]]) -> Iterator[int]:
        """Takes all rows of a shard."""
        number, rows = numbered
        lines = (line for _, _, line in sorted(row for row in rows if row))
        config = self._settings.config
        digest = manifests.settings_digest(self._schema, config)
        plan = manifests.write_manifest(lines, config, self._plan_dir, digest, *self._places[number])
        files.write_text(self._settings.path("shard", number), json.dumps(dataclasses.asdict(plan)))
        yield number


def plan_rows(pipeline: beam.Pipeline, settings: PlanSettings, elements: list[tuple]) -> None:
    """The first job: rows and images to partitions of rows with their images and splits."""
    (
        pipeline
        | "Parts" >> beam.Create(elements)
        | "Read" >> beam.ParDo(ReadDoFn(settings)).with_output_types(Keyed)
        | "ById" >> beam.GroupByKey()
        | "ResolveDuplicates" >> beam.ParDo(ResolveDuplicatesDoFn(settings)).with_output_types(Keyed)
        | "ByName" >> beam.GroupByKey()
        | "JoinImages" >> beam.ParDo(JoinImagesDoFn(settings)).with_output_types(Numbered)
        | "ByPartition" >> beam.GroupByKey()
        | "WritePartition" >> beam.ParDo(WritePartitionDoFn(settings))
    )


def reject_unfit(pipeline: beam.Pipeline, settings: PlanSettings, chosen: Vocabulary) -> None:
    """The second job, for single-label datasets: which rows have not exactly one label of the vocabulary."""
    (
        pipeline
        | "Partitions" >> beam.Create(range(settings.num_partitions))
        | "RejectUnfit" >> beam.ParDo(RejectUnfitDoFn(settings, chosen))
    )


def write_manifests(
    pipeline: beam.Pipeline,
    elements: list[tuple[str, int]],
    assign: AssignShardDoFn,
    write: WriteManifestDoFn,
) -> None:
    """The last job: partitions to one manifest a shard."""
    (
        pipeline
        | "Partitions" >> beam.Create(elements)
        | "AssignShard" >> beam.ParDo(assign).with_output_types(Numbered)
        | "ByShard" >> beam.GroupByKey()
        | "WriteManifest" >> beam.ParDo(write)
    )
