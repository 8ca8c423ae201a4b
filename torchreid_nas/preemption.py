"""A request to stop, which a batch system sends as a signal: a training finishes its step, saves, and ends."""
from __future__ import annotations

__all__ = ["Preempted", "listen", "listens", "request", "requested"]

import contextlib
import signal
from collections.abc import Iterator

_state = {"listeners": 0, "signal": 0}


class Preempted(KeyboardInterrupt):
    """A training has saved its state on request and ends; its text says where."""


def request(number: int) -> None:
    """Ask the training of this process to stop.

    Args:
        number: of the signal that asks.
    """
    _state["signal"] = number


def requested() -> str:
    """Return the name of the signal that has asked the training to stop, ``""`` where none has.

    >>> requested()
    ''
    """
    return signal.Signals(_state["signal"]).name if _state["signal"] else ""


def listens() -> bool:
    """Return whether a training of this process looks at :func:`requested` after every step.

    >>> listens()
    False
    """
    return _state["listeners"] > 0


@contextlib.contextmanager
def listen() -> Iterator[None]:
    """Inside the block the process looks at :func:`requested`; at its end a request is answered."""
    _state["listeners"] += 1
    try:
        yield
    finally:
        _state["listeners"] -= 1
        _state["signal"] = 0
