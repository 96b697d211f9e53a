"""Traditional decors of four countries, as patterns and on products."""

import dataclasses
from typing import Any

import tensorflow_datasets as tfds

from tfr.datasets import base
from tfr.features import RecordSchema

DECORS = (
    "Gzhel", "Khokhloma", "Gorodets", "Wycinanki łowickie", "Iznik", "Neglyubka", "Wzory kaszubskie",
)  # fmt: skip
COUNTRIES = ("Russia", "Poland", "Turkey", "Belarus")


@dataclasses.dataclass(eq=False, kw_only=True)
class DecorPatternsConfig(base.TaggedImagesConfig):
    """Which images, and which column is the label; the other columns are carried along as text.

    Attributes:
      label: 'decor' or 'country'.
      type: 'product' or 'pattern'; None takes both. The column `type` is what counts: `type_label` beside it says
        'pattern' for the products of two decors.
    """

    label: str = "decor"
    type: str | None = None


class Builder(base.TaggedImagesBuilder):
    """Builds from a folder that holds the table and the images."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    BUILDER_CONFIGS = [
        DecorPatternsConfig(name="products", type="product", description="Products, labelled with their decor (7)."),
        DecorPatternsConfig(name="patterns", type="pattern", description="Patterns, labelled with their decor (7)."),
        DecorPatternsConfig(
            name="countries", label="country", description="All images, labelled with the country (4)."
        ),
        DecorPatternsConfig(name="all", description="All images, labelled with their decor (7)."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = """\
    Put the table as `decor.csv` and the PNG images beside it into the manual directory.
    Columns of the table that are used: `file`, `decor`, `country` and `type` ('product' or 'pattern').
    """

    def _schema(self) -> RecordSchema:
        by_country = self.builder_config.label == "country"
        names, other = (COUNTRIES, "decor") if by_country else (DECORS, "country")
        return RecordSchema(names, multi_label=False, columns=(other, "type"))

    def _conversion(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        config = self.builder_config
        return {
            "annotations": str(dl_manager.manual_dir / "decor.csv"),
            "images": str(dl_manager.manual_dir),
            "format": "csv",
            "image_column": "file",
            "label_columns": (config.label,),
            "label_encoding": "text",
            "where": f"type == '{config.type}'" if config.type else None,
        }
