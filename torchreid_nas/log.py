"""What the library says goes to the logger ``torchreid_nas``; the command line shows the records as plain lines.

Modules call ``logging.getLogger(__name__)``, whose records reach the logger
``torchreid_nas``. Scripts see them after
``logging.basicConfig(level=logging.INFO, format="%(message)s")``.
"""
from __future__ import annotations

__all__ = ["plain_lines"]

import contextlib
import logging
import sys
from collections.abc import Iterator

from torchreid_nas.errors import printable

_LOGGER = "torchreid_nas"


class _PlainLines(logging.Handler):
    """Prints information on stdout as it is, and warnings on stderr after "warning: "."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; the streams are looked up now, because torchreid and tests replace them."""
        if record.levelno >= logging.WARNING:
            print(f"{record.levelname.lower()}: {printable(record.getMessage())}", file=sys.stderr, flush=True)
        else:
            print(printable(record.getMessage()), flush=True)


@contextlib.contextmanager
def plain_lines(level: int = logging.INFO) -> Iterator[None]:
    """Inside the block show the package's records from ``level`` on, each as one line; other handlers do not see them.

    Example:
        >>> with plain_lines():
        ...     logging.getLogger("torchreid_nas.run").info("== train: %s", "runs/demo")
        == train: runs/demo
    """
    logger = logging.getLogger(_LOGGER)
    before = logger.handlers[:], logger.level, logger.propagate
    logger.handlers, logger.propagate = [_PlainLines()], False
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before[0], before[2]
        logger.setLevel(before[1])
