"""The history of a run, ``history.jsonl``: reading it, and what a search's rows say about its slots."""
from __future__ import annotations

__all__ = ["choice_probabilities", "decision_epochs", "read_history", "warmup_epochs"]

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchreid_nas.architecture import SHARE, SPLIT
from torchreid_nas.errors import InputError

if TYPE_CHECKING:
    import numpy as np


def read_history(path: str | os.PathLike) -> list[dict[str, Any]]:
    """Read ``history.jsonl``: a JSON object with an ``epoch`` per line; blank lines are skipped.

    Raises:
        InputError: the file is missing, or a line is no such object; the number of the line is in the message.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise InputError(f'the history "{path}" cannot be read ({error.strerror}); check the path') from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("epoch"), int):
            raise InputError(
                f'the history "{path}", line {number}, is no JSON object with an "epoch"; '
                "restore the file, or cut it before that line"
            )
        rows.append(row)
    return rows


def decision_epochs(history: Sequence[Mapping[str, Any]], slots: Sequence[str]) -> list[int | None]:
    """Return for every slot the first epoch from which on its preference keeps the sign that it ends with.

    The preference is P(split) − P(share). Zero is a sign of its own: nothing
    is decided, as in warm-up. A slot whose preference leaves zero and never
    turns was decided in the epoch in which the preference left zero. None
    stands for a slot whose preference ends at zero.

    Args:
        history: one row or more with ``epoch`` and ``probabilities``.
        slots: names of the slots.

    >>> shares = (0.5, 0.6, 0.4, 0.3)
    >>> rows = [{"epoch": e, "probabilities": {"bn1": {"share": p, "split": 1 - p}}} for e, p in enumerate(shares)]
    >>> decision_epochs(rows, ["bn1"])
    [2]
    """
    epochs = []
    for slot in slots:
        signs = [_sign(row["probabilities"][slot]) for row in history]
        first = len(signs) - 1
        while first > 0 and signs[first - 1] == signs[-1]:
            first -= 1
        epochs.append(history[first]["epoch"] if signs[-1] else None)
    return epochs


def _sign(probabilities: Mapping[str, float]) -> int:
    return (probabilities[SPLIT] > probabilities[SHARE]) - (probabilities[SPLIT] < probabilities[SHARE])


def warmup_epochs(history: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of rows before the first architecture step."""
    return next((index for index, row in enumerate(history) if "architecture" in row), len(history))


def choice_probabilities(
    history: Sequence[Mapping[str, Any]], slots: Sequence[str], choices: Sequence[str],
) -> np.ndarray:
    """Return the probabilities as an array (epochs, slots, choices), float64, slots and choices in the order given.

    Raises:
        InputError: an empty history, one without probabilities, of other slots
            or of other choices; the first row that does not fit is named.
    """
    import numpy as np

    if not history:
        raise InputError("the history of the search holds no epoch; search for at least one before drawing it")
    for row in history:
        given = row.get("probabilities")
        if not isinstance(given, Mapping):
            raise InputError(
                f'the history has no "probabilities" in epoch {row.get("epoch")}; '
                "give the history of a search, not of a training"
            )
        missing = [slot for slot in slots if slot not in given]
        if missing or len(given) != len(slots):
            other = f'not "{missing[0]}"' if missing else f"{len(given)} slots instead of {len(slots)}"
            raise InputError(
                f"the history of the search is of another backbone than the architecture: epoch {row.get('epoch')} has "
                f"{other}; give both from one run"
            )
        for slot in slots:
            lacking = [choice for choice in choices if choice not in given[slot]]
            if lacking:
                raise InputError(
                    f"the history of the search is of another space than the architecture: epoch {row.get('epoch')} "
                    f'has no probability of "{lacking[0]}" for "{slot}"; give both from one run'
                )
    return np.array(
        [[[row["probabilities"][slot][choice] for choice in choices] for slot in slots] for row in history],
        dtype=np.float64,
    )
