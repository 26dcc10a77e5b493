"""Silences what Orbax and asyncio say about a save or a restore that has failed, which raises its error itself."""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

LOGGERS = ("absl", "asyncio")
ORBAX = f"{os.sep}orbax{os.sep}"
LOOP_CLOSED, NOT_RETRIEVED = "Event loop is closed", "exception was never retrieved"


@contextmanager
def without_orbax_log() -> Iterator[None]:
    """Silences Orbax and asyncio during a save or a restore, and the ends of those of its parts that come later.

    When a save fails, Orbax logs the traceback of that error as well. Later, asyncio logs the tracebacks of Orbax's
    other writes when those are discarded. Some run in TensorStore's threads and may end at any time. They find that
    asyncio's loop is closed or that no task waits for them, and report a traceback.
    """
    _expect_late_ends()
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    except Exception:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # about coroutines of writes that never started
            gc.collect()
        raise
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _expect_late_ends() -> None:
    if not isinstance(sys.unraisablehook, _Hook):  # another hook may have taken the place of an earlier one
        sys.unraisablehook = _Hook(sys.unraisablehook)
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_is_news)


class _Hook:
    """Passes on the exceptions that nobody catches, but for those of late reads and writes."""

    def __init__(self, earlier: Callable[[Any], object]):
        self._earlier = earlier

    def __call__(self, raised: Any) -> None:
        code = getattr(raised.object, "cr_code", None)
        of_orbax = code is not None and ORBAX in code.co_filename
        if not of_orbax and not (isinstance(raised.exc_value, RuntimeError) and str(raised.exc_value) == LOOP_CLOSED):
            self._earlier(raised)


def _is_news(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    of_orbax = ORBAX in record.pathname or NOT_RETRIEVED in record.getMessage()
    return not (of_orbax and isinstance(error, OSError | ValueError))
