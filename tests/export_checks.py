"""What several tests of exports share."""

from tfr.train.exporting.config import ExportConfig


def read(path):
    with open(path, "rb") as file:
        return file.read()


def config_for(run_path, folder, **changes):
    return ExportConfig(run=run_path, output=str(folder), **changes)
