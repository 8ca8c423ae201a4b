"""What an epoch shows: a bar while it runs, a line when it ends."""
from __future__ import annotations

__all__ = ["EpochProgress", "epoch_scalars"]

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tqdm.auto import tqdm

from torchreid_nas.distributed import is_main

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
        with tqdm(loader, desc=f"epoch {epoch + 1}/{max_epoch}", disable=None if is_main() else True, leave=False) as self._bar:
            yield self._bar

    def show(self, values: Mapping[str, float]) -> None:
        """Write the latest losses beside the bar."""
        if self._bar is not None and values:
            self._bar.set_postfix({name: f"{value:.3f}" for name, value in values.items()}, refresh=False)

    @staticmethod
    def report(row: Mapping[str, Any], max_epoch: int, writer: Any = None, step: int = 0) -> None:
        """Log the line of an epoch: the numbers of its row of the history, its time and the time that is left.

        Args:
            row: of the history.
            max_epoch: epochs in all.
            writer: takes what :func:`epoch_scalars` returns by ``add_scalar``, as TensorBoard's ``SummaryWriter``; or None.
            step: batches before, for the writer.
        """
        remaining = int((max_epoch - row["epoch"]) * row["seconds"])
        shown = [
            f"{name} {value:.4g}" for name, value in row.items() if isinstance(value, float) and name != "seconds"
        ]
        _LOGGER.info(
            "epoch %3d/%d  %s  %.1f s  eta %d:%02d", row["epoch"], max_epoch, "  ".join(shown), row["seconds"],
            remaining // 60, remaining % 60,
        )
        for name, value in epoch_scalars(row).items() if writer is not None else ():
            writer.add_scalar(name, value, step)


def epoch_scalars(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what torchreid's loop does not write of an epoch: scores of held-out identities, probabilities of a search.

    Of two choices the second one's probability tells both.

    >>> epoch_scalars({"epoch": 1, "ce": 4.2, "validation_score": 0.3, "probabilities": {"bn1": {"share": 0.4, "split": 0.6}}})
    {'Validation/score': 0.3, 'Architecture/bn1/split': 0.6}
    """
    scores = {f"Validation/{key.removeprefix('validation_')}": row[key] for key in row if key.startswith("validation_")}
    probabilities = {
        f"Architecture/{slot}/{choice}": value
        for slot, choices in row.get("probabilities", {}).items()
        for choice, value in list(choices.items())[len(choices) == 2:]
    }
    return {**scores, **probabilities}
