"""The state of an engine: what the next epoch depends on, in one dictionary."""
from __future__ import annotations

__all__ = ["Position", "Stateful", "collect_state", "restore_state"]

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torchreid_nas.errors import InputError


class Stateful(Protocol):
    """A part of an engine whose state a checkpoint keeps: a module, an optimiser, a scheduler, a loss scaler."""

    def state_dict(self) -> Any:
        """Return the state."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Restore what :meth:`state_dict` returned."""


@dataclasses.dataclass
class Position:
    """How far a training has come.

    Args:
        epoch: epochs done.
        best_score: of the held-out identities.
        best_epoch: the epoch of that score, counted from 1; 0 where there was no look at held-out identities.
        stopped: whether the training has ended before its last epoch.
    """

    epoch: int = 0
    best_score: float = -math.inf
    best_epoch: int = 0
    stopped: bool = False


def collect_state(parts: Mapping[str, Stateful | None], position: Position) -> dict[str, Any]:
    """Return the states of ``parts`` by name, None for a part that is None, and the fields of ``position``.

    Example:
        >>> collect_state({"scheduler": None}, Position(epoch=2, best_score=0.5, best_epoch=1))
        {'scheduler': None, 'epoch': 2, 'best_score': 0.5, 'best_epoch': 1, 'stopped': False}
    """
    states = {name: None if part is None else part.state_dict() for name, part in parts.items()}
    return {**states, **dataclasses.asdict(position)}


def restore_state(parts: Mapping[str, Stateful | None], state: Mapping[str, Any]) -> Position:
    """Give every part its state of :func:`collect_state` and return the position.

    Raises:
        InputError: the state is of another model or engine.
    """
    with _explained_state():
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state[name])
        return Position(**{field.name: state[field.name] for field in dataclasses.fields(Position)})


@contextlib.contextmanager
def _explained_state() -> Iterator[None]:
    """Say in one sentence that a state is of another model or engine.

    Raises:
        InputError: the block raised an error that such a state causes.
    """
    try:
        yield
    except (KeyError, RuntimeError, ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"the checkpoint is of another model or engine ({str(error).splitlines()[-1].strip()}); "
            "resume with the config that it was made with"
        ) from error
