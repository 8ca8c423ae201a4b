"""Faults of the machine, in one sentence: out of memory, a process that was killed."""
from __future__ import annotations

__all__ = ["machine_fault"]

from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool

_OF_MEMORY = (
    # torch on a CPU, torch on a GPU, shared memory of loader processes, a fork.
    "can't allocate memory", "not enough memory", "out of memory", "unable to mmap", "unable to allocate shared memory",
    "Cannot allocate memory", "unable to write to file </torch",
)


def machine_fault(error: BaseException) -> str | None:
    """Return the sentence for a fault of the machine, without its end; None for any other error.

    Args:
        error: what was raised; its causes are looked at as well.

    Example:
        >>> machine_fault(MemoryError()), machine_fault(KeyError("x"))
        ('the memory is full; lower train.batch_size, test.batch_size or data.workers', None)
    """
    for one in _chain(error):
        text = str(one)
        if isinstance(one, RuntimeError) and text.startswith("DataLoader worker") and "timed out" not in text:
            return "a process that loads images was killed, most often because the memory is full; lower data.workers"
        if isinstance(one, BrokenProcessPool):
            return "a process that reads images was killed, most often because the memory is full; lower --workers"
        if isinstance(one, MemoryError) or isinstance(one, (RuntimeError, OSError)) and any(part in text for part in _OF_MEMORY):
            return "the memory is full; lower train.batch_size, test.batch_size or data.workers"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it came from."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
