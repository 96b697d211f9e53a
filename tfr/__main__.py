"""`python -m tfr` is `tfr`."""

from tfr import cli

cli.run()
