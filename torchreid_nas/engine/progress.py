"""What an epoch shows: a bar while it runs, a line when it ends."""
from __future__ import annotations

__all__ = ["EpochProgress"]

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tqdm.auto import tqdm

_LOGGER = logging.getLogger(__name__)


class EpochProgress:
    """The bar of an epoch, on a terminal or in a notebook, and the line about it, which goes to the log."""

    def __init__(self) -> None:
        self._bar: tqdm | None = None

    @contextlib.contextmanager
    def bar(self, loader: Iterable[Any], epoch: int, max_epoch: int) -> Iterator[Any]:
        """Yield ``loader`` with a bar around it; without a terminal or notebook the bar shows nothing.

        Args:
            loader: batches of the epoch.
            epoch: zero-based.
            max_epoch: epochs in all.
        """
        with tqdm(loader, desc=f"epoch {epoch + 1}/{max_epoch}", disable=None, leave=False) as self._bar:
            yield self._bar

    def show(self, values: Mapping[str, float]) -> None:
        """Write the latest losses beside the bar."""
        if self._bar is not None and values:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)

    @staticmethod
    def report(row: Mapping[str, Any], max_epoch: int) -> None:
        """Log the line of an epoch: the numbers of its row of the history, its time and the time that is left."""
        remaining = int((max_epoch - row["epoch"]) * row["seconds"])
        shown = [
            f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, float) and name != "seconds"
        ]
        _LOGGER.info(
            "epoch %3d/%d  %s  %.1f s  eta %d:%02d", row["epoch"], max_epoch, "  ".join(shown), row["seconds"],
            remaining // 60, remaining % 60,
        )
