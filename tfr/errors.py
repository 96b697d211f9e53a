"""The errors that tfr raises for what a user can mend."""


class TfrError(Exception):
    """Something in the data, the files or the environment is wrong; the message says what, where and how to mend it."""

    exit_code = 1


class UsageError(TfrError):
    """A flag, an argument or a combination of them is wrong; nothing was read or written yet."""

    exit_code = 2


class AnnotationError(TfrError):
    """An annotation file cannot be read as what it is said to be."""


class DatasetError(TfrError):
    """A dataset directory is missing, incomplete or not what is asked of it."""


class ConversionError(TfrError):
    """A conversion ended without a dataset that can be trusted."""


class JobElsewhereError(ConversionError):
    """A job was handed over and runs without this process, or will: its plan has to stay."""


class RunDirError(TfrError):
    """A run directory is missing, incomplete or does not fit the data."""


class MissingDependencyError(TfrError):
    """An optional package is not installed; the message names it and the command that installs it."""
