"""Random numbers that belong to an image of a pass, so that they do not follow the number of loader processes."""
from __future__ import annotations

__all__ = ["RandomState", "SeededIndex", "SeededSampler", "random_state", "restore_random_state", "seeded"]

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

RandomState = dict[str, Any]
"""The states of all generators that are global in a process, as tensors and plain values."""


def random_state() -> RandomState:
    """Return the states of Python's, NumPy's and torch's global generators, those of the GPUs included.

    Example:
        >>> state = random_state()
        >>> first = torch.rand(1)
        >>> restore_random_state(state)
        >>> torch.equal(torch.rand(1), first)
        True
    """
    version, words, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, torch.tensor(words), gauss],
        "numpy": [kind, torch.tensor(np.asarray(keys, dtype=np.int64)), place, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "gpus": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_state(state: RandomState) -> None:
    """Give the generators the states of :func:`random_state`; GPUs that are not there are left out."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    for number, own in enumerate(state["gpus"][:torch.cuda.device_count()]):
        torch.cuda.set_rng_state(own.cpu(), number)


class SeededIndex(int):
    """The index of an image, with the seed of all that is random about it in this pass.

    Example:
        >>> index = SeededIndex(3, seed=7)
        >>> index + 1, index.seed
        (4, 7)
    """

    seed: int

    def __new__(cls, index: int, seed: int) -> SeededIndex:
        """Return the index with its seed."""
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __reduce__(self) -> tuple[type[SeededIndex], tuple[int, int]]:
        return type(self), (int(self), self.seed)


class SeededSampler(Sampler[int]):
    """The indices of another sampler, each with a seed of its own; the seeds of a pass depend on torch's state at its start.

    Attributes of the other sampler are reached through this one.

    Args:
        sampler: gives the indices.
    """

    def __init__(self, sampler: Any) -> None:
        self._sampler = sampler

    def __iter__(self) -> Iterator[SeededIndex]:
        """Yield the indices of one pass."""
        generator = torch.Generator()
        for number, index in enumerate(self._sampler):
            # The other sampler has drawn by now, so that the images come in the order that it has without seeds.
            if number == 0:
                generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
            yield SeededIndex(index, int(torch.randint(2**62, (), generator=generator)))

    def __len__(self) -> int:
        """Return the number of indices."""
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        if name == "_sampler":
            raise AttributeError(name)
        return getattr(self._sampler, name)


@contextlib.contextmanager
def seeded(index: int) -> Iterator[None]:
    """Inside the block draw from Python, NumPy and torch's CPU generator by the seed of an index; afterwards all are as before.

    An index without a seed changes nothing.

    Example:
        >>> with seeded(SeededIndex(0, seed=1)):
        ...     first = torch.rand(1)
        >>> with seeded(SeededIndex(5, seed=1)):
        ...     torch.equal(torch.rand(1), first)
        True
    """
    if not isinstance(index, SeededIndex):
        yield
        return
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(index.seed)
    np.random.seed(index.seed % 2**32)
    # torch.manual_seed would seed the GPUs, too.
    torch.default_generator.manual_seed(index.seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
