"""The thread that hands the Rust core's log records to the logger ``pgml``."""

from __future__ import annotations

import logging
import sys

from pgml._greenlets import start_native_thread
from pgml._pgml import next_log_record


def start() -> None:
    """Start the thread. It ends with the process."""
    start_native_thread(_run)


def _run() -> None:
    logger = logging.getLogger("pgml")
    while True:
        level, message = next_log_record()
        try:
            logger.log(level, "%s", message)
        except BaseException as error:
            # A filter's or a handler's: the next record may fare better.
            sys.excepthook(type(error), error, error.__traceback__)
