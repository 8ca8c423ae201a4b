"""A walk through a loader that tells its position, and goes on from a position to the same batches."""
from __future__ import annotations

__all__ = ["Walk"]

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from torchreid_nas.data.seeding import RandomState, random_state, restore_random_state


class Walk:
    """One pass through a loader.

    All that is random about a pass follows from the random state at its start: samplers and loaders draw a seed of their own
    there. A walk keeps that state. It goes on by starting the pass anew from that state, without the batches that are done.

    Args:
        loader: of batches. A loader of several walks, such as :class:`~torchreid_nas.data.joint_loader.JointLoader`, has
            ``position()`` and ``go_on(position, done)`` of its own.
        after: is called after each batch, when the next batch is asked for.

    Attributes:
        done: batches that were given out.

    Example:
        >>> walk = Walk([1, 2, 3])
        >>> next(walk)
        1
        >>> other = Walk([1, 2, 3])
        >>> other.go_on(walk.position())
        >>> list(other)
        [2, 3]
    """

    def __init__(self, loader: Any, after: Callable[[], object] | None = None) -> None:
        self.loader, self.after = loader, after
        self.done = 0
        self._start: RandomState | None = None
        self._batches: Iterator[Any] | None = None

    def __len__(self) -> int:
        """Return the number of batches of the whole pass."""
        return len(self.loader)

    def __next__(self) -> Any:
        """Return the next batch."""
        if self._batches is None:
            self._start = random_state()
            self._batches = iter(self.loader)
        batch = next(self._batches)
        self.done += 1
        return batch

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches that are left."""
        while True:
            try:
                batch = next(self)
            except StopIteration:
                return
            yield batch
            if self.after is not None:
                self.after()

    def position(self) -> dict[str, Any]:
        """Return how far the walk has come, as tensors and plain values."""
        position: dict[str, Any] = {"done": self.done, "start": self._start}
        if hasattr(self.loader, "position"):
            position["within"] = self.loader.position()
        return position

    def go_on(self, position: dict[str, Any]) -> None:
        """Take a position of a walk through the same loader; the random state stays as it is."""
        self.done, self._start = position["done"], position["start"]
        if hasattr(self.loader, "go_on"):
            self._batches = self.loader.go_on(position["within"], self.done)
        elif self._start is not None:
            now = random_state()
            restore_random_state(self._start)
            self._batches = _without(self.loader, self.done)
            restore_random_state(now)


def _without(loader: Any, done: int) -> Iterator[Any]:
    """Return the batches of a pass after the first ``done``; all that the pass draws at its start is drawn on return."""
    if hasattr(loader, "skip"):
        # The loader draws what is random about these batches, and reads no image of them.
        loader.skip = done
        batches = iter(loader)
    else:
        batches = iter(loader)
        for _ in range(done):
            next(batches)
    return itertools.chain(list(itertools.islice(batches, 1)), batches)
