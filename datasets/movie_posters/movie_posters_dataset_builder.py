"""Movie posters with their genres."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from tfr import annotations, splits
from tfr.annotations import Annotation, Event, ReadOptions, RejectedRow
from tfr.datasets import base
from tfr.features import RecordSchema

GENRES = (
    "Action", "Adventure", "Animation", "Biography", "Comedy", "Crime", "Documentary", "Drama", "Family", "Fantasy",
    "History", "Horror", "Music", "Musical", "Mystery", "N/A", "News", "Reality-TV", "Romance", "Sci-Fi", "Short",
    "Sport", "Thriller", "War", "Western",
)  # fmt: skip
RARE_GENRES = ("N/A", "News", "Reality-TV")
_FIRST_ROWS, _FIRST_VALIDATION = 3000, 600


@dataclasses.dataclass(eq=False, kw_only=True)
class MoviePostersConfig(base.TaggedImagesConfig):
    """Which posters and genres.

    Attributes:
      without: genres to leave out; posters that have no other genre are left out too, and listed as rejected.
      first_rows: takes so many rows from the top of the table; None: all of them.
      num_validation: so many posters are for validation, the others for training; None: splits by their shares.
    """

    without: tuple[str, ...] = ()
    first_rows: int | None = None
    num_validation: int | None = None


class Builder(base.TaggedImagesBuilder):
    """Builds from a folder that holds the table and the posters."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        MoviePostersConfig(name="all", description="All rows, all 25 genres."),
        MoviePostersConfig(
            name="frequent", without=RARE_GENRES, description="Without N/A, News and Reality-TV: 22 genres."
        ),
        MoviePostersConfig(
            name="first_3000",
            first_rows=_FIRST_ROWS,
            num_validation=_FIRST_VALIDATION,
            description="The first 3,000 rows, 2,400 of them for training and 600 for validation; all 25 genres.",
        ),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Put the table as `train.csv` and the posters as `Images/<Id>.jpg` into the manual directory.
    The table's columns are `Id`, `Genre` (a list such as "['Comedy', 'Drama']") and one of 0 and 1 for each genre.
    """

    def _schema(self) -> RecordSchema:
        return RecordSchema(tuple(genre for genre in GENRES if genre not in self.builder_config.without))

    def _conversion(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        table = dl_manager.manual_dir / "train.csv"
        return {
            "annotations": functools.partial(read_rows, str(table), self.builder_config),
            "images": str(dl_manager.manual_dir / "Images"),
        }


def read_rows(table: str, config: MoviePostersConfig) -> Iterator[Event]:
    """Yields the rows of the table that a config takes."""
    options = ReadOptions(id_column="Id", image_template="{Id}.jpg", label_columns=("Genre",))
    rows: Iterator[Event] = filter(_is_row, annotations.read(table, "csv", options))
    rows = itertools.islice(rows, config.first_rows)
    if config.num_validation is not None:
        rows = _split(list(rows), config.num_validation)
    for row in rows:
        yield _without(row, config.without) if isinstance(row, Annotation) else row


def _is_row(event: Event) -> bool:
    return isinstance(event, (Annotation, RejectedRow))


def _split(events: list[Event], num_validation: int) -> Iterator[Event]:
    """Puts a fixed number of ids into validation, those of the lowest hash: the order of the rows is not random."""
    ids = {event.id for event in events if isinstance(event, Annotation)}
    validation = set(sorted(ids, key=splits.Hasher("movie_posters"))[:num_validation])
    for event in events:
        if isinstance(event, Annotation):
            event = dataclasses.replace(event, split="validation" if event.id in validation else "train")
        yield event


def _without(row: Annotation, genres: tuple[str, ...]) -> Annotation | RejectedRow:
    if row.labels and set(row.labels) <= set(genres):
        return RejectedRow(row.source, "no_genre", f"its genres {list(row.labels)} are left out", row.id)
    return row
