"""Rows by blocks, with a bar where they take longer than a second."""
from __future__ import annotations

__all__ = ["blocks"]

from collections.abc import Iterable

from tqdm.auto import tqdm


def blocks(count: int, size: int, doing: str) -> Iterable[slice]:
    """Return slices of at most ``size`` that part ``count`` rows; a terminal or a notebook shows how many are done.

    Example:
        >>> list(blocks(5, 2, "ranking"))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    return parts if len(parts) == 1 else tqdm(parts, desc=doing, unit="block", leave=False, disable=None, delay=1)
