"""Which images of a training batch a process takes, where several processes train one network.

Every process draws the batches of one process, with the same random numbers, and takes its images of each batch: the block
with its rank of each part. All processes together have the batch of one process, see
:func:`torchreid_nas.distributed.gather_batch`.
"""
from __future__ import annotations

__all__ = ["OwnShare", "check_divides", "own_places"]

import itertools
from collections.abc import Iterator
from typing import Any

from torch.utils.data import Sampler

from torchreid_nas.distributed import processes, rank
from torchreid_nas.errors import InputError


def own_places(length: int, parts: int = 1) -> list[int]:
    """Return the positions of a batch that this process takes.

    Args:
        length: images of the batch, equally many per part.
        parts: 2 for ``[visible; infrared]``, 3 for ``[visible; visible; infrared]``, 1 for images in no order.

    >>> own_places(4, parts=2)
    [0, 1, 2, 3]
    """
    part = length // parts
    own = part // processes()
    first = rank() * own
    return [number * part + place for number in range(parts) for place in range(first, first + own)]


def check_divides(batch_size: int, sampler: Any, key: str = "train.batch_size") -> None:
    """Refuse a batch whose parts the processes cannot take in equal shares; the images of a person stay together.

    Args:
        batch_size: images of the batch.
        sampler: draws the batch; its ``parts`` says how many parts a batch has, its ``num_instances`` how many neighbouring
            images of a part show one person. Either is 1 where the sampler does not say.
        key: the config key of the batch size.

    Raises:
        InputError: the shares are not equal.

    >>> check_divides(8, None)
    """
    count, parts, together = processes(), _parts(sampler), getattr(sampler, "num_instances", 1)
    part = batch_size // parts
    if count == 1 or part % (count * together) == 0:
        return
    pictures = f"{part} images" + (f" of {part // together} persons" if together > 1 else "")
    raise InputError(
        f"{count} processes cannot share a batch in equal shares ({key}): each of its {parts} parts has {pictures}, expected a "
        f"multiple of {count * together}; change {key} or the number of processes"
    )


class OwnShare(Sampler[int]):
    """The indices of another sampler that this process takes, batch by batch.

    A last batch that the processes cannot share equally is left out.

    Attributes of the other sampler are reached through this one.

    Args:
        sampler: gives the indices of the batches of one process.
        batch_size: images of a batch of all processes.

    Attributes:
        skip: indices at the start of the next pass that are drawn and not yielded.

    Example:
        >>> list(OwnShare(range(5), batch_size=2))
        [0, 1, 2, 3, 4]
    """

    def __init__(self, sampler: Any, batch_size: int) -> None:
        self._sampler, self._batch_size = sampler, batch_size
        self.skip = 0

    def __iter__(self) -> Iterator[int]:
        """Yield the indices of one pass."""
        skipped, self.skip = self.skip, 0
        return itertools.islice(self._indices(), skipped, None)

    def _indices(self) -> Iterator[int]:
        batch: list[int] = []
        for index in self._sampler:
            batch.append(index)
            if len(batch) == self._batch_size:
                yield from self._own(batch)
                batch = []
        if len(batch) % (processes() * _parts(self._sampler)) == 0:
            yield from self._own(batch)

    def __len__(self) -> int:
        """Return the number of indices."""
        whole, rest = divmod(len(self._sampler), self._batch_size)
        count = processes()
        return whole * (self._batch_size // count) + (rest // count if rest % (count * _parts(self._sampler)) == 0 else 0)

    def __getattr__(self, name: str) -> Any:
        if name == "_sampler":
            raise AttributeError(name)
        return getattr(self._sampler, name)

    def _own(self, batch: list[int]) -> list[int]:
        return [batch[place] for place in own_places(len(batch), _parts(self._sampler))]


def _parts(sampler: Any) -> int:
    return int(getattr(sampler, "parts", 1))
