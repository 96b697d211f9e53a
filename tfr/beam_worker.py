"""A Beam worker process of the local runner: Beam's own, without its start-up chatter on standard error.

Started by tfr.engines as `python -m tfr.beam_worker LEVEL`, where LEVEL is the least severe log level to print.
"""

import logging
import sys


def main() -> None:
    """Runs until the runner hangs up."""
    handler = logging.StreamHandler()
    handler.setLevel(int(sys.argv[1]))
    logging.getLogger().addHandler(handler)  # before Beam's import, which logs and so installs one of its own
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
