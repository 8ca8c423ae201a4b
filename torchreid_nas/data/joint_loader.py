"""Two loaders walked together: a labelled batch of the source and an unlabelled one of the target per step."""
from __future__ import annotations

__all__ = ["EPOCH_LENGTHS", "JointLoader"]

from collections.abc import Generator, Iterator, Sized
from typing import Any

from torchreid_nas.data.walk import Walk
from torchreid_nas.errors import InputError, nearest

EPOCH_LENGTHS = ("source", "target", "longer")


class JointLoader:
    """Yields the source's batches with the target's under ``"target"``; the one that ends first starts anew.

    Args:
        source: loader of labelled batches (dictionaries), or None where labels take no part.
        target: loader of unlabelled batches, or None for the source alone.
        length: whose length an epoch has: ``"source"`` (the paper), ``"target"`` or ``"longer"``.
            With one loader it is that one's.

    Without a source the batch is the target's own, beside itself under ``"target"``.

    Raises:
        InputError: another length, or a loader without a batch.
    """

    def __init__(self, source: Any | None, target: Any | None, length: str = "source") -> None:
        if length not in EPOCH_LENGTHS:
            raise InputError(
                f'ecn.epoch_length is "{length}", expected one of {", ".join(EPOCH_LENGTHS)}{nearest(length, EPOCH_LENGTHS)}'
            )
        for name, loader in (("source", source), ("target", target)):
            if loader is not None and not len(loader):
                raise InputError(
                    f"the {name} has {_size(loader)} training images, fewer than a batch; lower "
                    f"{'train.batch_size' if name == 'source' else 'ecn.batch_size_target'}"
                )
        self.source, self.target = source, target
        given = {"source": source, "target": target}
        loaders = {name: loader for name, loader in given.items() if loader is not None}
        if not loaders:
            raise InputError("there is no loader to train from; give a source, a target, or both")
        lengths = [len(loader) for name, loader in loaders.items() if length in (name, "longer")]
        self._first = next(iter(loaders.values()))
        self._length = max(lengths or [len(self._first)])
        self._walks: list[Walk | None] = [None, None]

    @property
    def sampler(self) -> Any:
        """The sampler whose order depends on the epoch."""
        return self._first.sampler

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        return self._length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of an epoch."""
        self._walks = [None if loader is None else Walk(loader) for loader in (self.source, self.target)]
        return self._batches(len(self))

    def position(self) -> list[dict[str, Any] | None]:
        """Return the positions in the source and the target, see :meth:`Walk.position`."""
        return [None if walk is None else walk.position() for walk in self._walks]

    def go_on(self, position: list[dict[str, Any] | None], done: int) -> Iterator[dict[str, Any]]:
        """Yield the batches of an epoch after the first ``done``, from the positions in both loaders."""
        iter(self)
        for walk, place in zip(self._walks, position):
            if walk is not None and place is not None:
                walk.go_on(place)
        return self._batches(len(self) - done)

    def _batches(self, count: int) -> Generator[dict[str, Any]]:
        for _ in range(count):
            target = self._next(1)
            batch = dict(target if self._walks[0] is None else self._next(0))
            yield {**batch, "target": target} if self.target is not None else batch

    def _next(self, place: int) -> dict[str, Any]:
        """Return the next batch of the source (0) or the target (1), which starts anew at its end; of None an empty one."""
        walk = self._walks[place]
        if walk is None:
            return {}
        batch: dict[str, Any] | None = next(walk, None)
        if batch is None:
            walk = self._walks[place] = Walk(walk.loader)
            batch = next(walk)
        assert batch is not None
        return batch


def _size(loader: Any) -> int | str:
    return len(loader.dataset) if isinstance(loader.dataset, Sized) else "too few"
