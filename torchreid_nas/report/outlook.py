"""What a search would change if it went on: choices whose lead shrinks, by the pace of the last epochs."""
from __future__ import annotations

__all__ = ["LEAST_EPOCHS", "Outlook", "outlook"]

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

LEAST_EPOCHS = 3
"""Epochs after the warm-up that a pace is measured over at least."""


@dataclasses.dataclass(frozen=True)
class Outlook:
    """A slot whose choice would change at the pace of the last epochs.

    Attributes:
        slot: its name.
        choice: the likeliest choice at the end of the search.
        other: the choice that gains on it.
        lead: probability of ``choice`` less that of ``other``, at the end.
        pace: change of the lead per epoch, below 0.
    """

    slot: str
    choice: str
    other: str
    lead: float
    pace: float

    @property
    def epochs(self) -> float:
        """Epochs until the lead is gone."""
        return self.lead / -self.pace


def outlook(history: Sequence[Mapping[str, Any]], last: float = 1 / 3) -> list[Outlook]:
    """Return the slots whose lead shrinks, the first to change first.

    A straight line through the lead over the last epochs of the search is drawn on (ours): that is no forecast, but says which
    choices the search was still undecided about.

    Args:
        history: rows of a search, see :func:`~torchreid_nas.report.read_history`; rows of warm-up do not count.
        last: share of the epochs that the pace is measured over, at least three epochs.

    Returns:
        The slots; none where the search has fewer than three epochs after its warm-up, or its history no probabilities.

    Example:
        >>> shares = (0.4, 0.42, 0.44)
        >>> rows = [{"architecture": 0.0, "probabilities": {"bn1": {"share": p, "split": 1 - p}}} for p in shares]
        >>> [(found.slot, found.choice, round(found.epochs)) for found in outlook(rows)]
        [('bn1', 'split', 3)]
    """
    import numpy as np

    rows = [row["probabilities"] for row in history if "architecture" in row and isinstance(row.get("probabilities"), Mapping)]
    count = max(LEAST_EPOCHS, round(last * len(rows)))
    if len(rows) < LEAST_EPOCHS:
        return []
    found = []
    for slot, final in rows[-1].items():
        order = sorted(final, key=lambda choice: -final[choice])
        choice = order[0]
        paces = {
            other: float(np.polyfit(range(count), [row[slot][choice] - row[slot][other] for row in rows[-count:]], 1)[0])
            for other in order[1:]
        }
        shrinking = [
            Outlook(slot, choice, other, final[choice] - final[other], pace) for other, pace in paces.items() if pace < 0
        ]
        found += [min(shrinking, key=lambda one: one.epochs)] if shrinking else []
    return sorted(found, key=lambda one: one.epochs)
