"""Places of the positives in a block of rankings, found by sorting values only; on the CPU or a GPU."""
from __future__ import annotations

__all__ = ["GalleryIndex", "count_closer", "in_row_pieces", "sort_rows"]

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

_FEW_ROWS = 512  # up to which a loop over rows is faster than threads
_SMALL = 2**18  # elements below which threads cost more than they save
_PIECE = 2**18  # elements that a thread works on before it takes more: they should stay in its cache


class GalleryIndex:
    """The gallery by identity.

    Args:
        pids: (G,) integer identities of the gallery.
        device: where the tensors that this hands out live.
    """

    def __init__(self, pids: np.ndarray, device: torch.device | str = "cpu") -> None:
        self.by_identity = np.argsort(pids, kind="stable")
        self.identities, self.starts, self.counts = np.unique(
            pids[self.by_identity], return_index=True, return_counts=True
        )
        self.device = device
        self._nth: list[torch.Tensor] = []

    def spans(self, q_pids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where in ``by_identity`` each query's identity begins, and how many entries it has (0: unknown)."""
        at = np.searchsorted(self.identities, q_pids).clip(max=len(self.identities) - 1)
        return self.starts[at], np.where(self.identities[at] == q_pids, self.counts[at], 0)

    def positives(self, q_pids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns of each query's identity, (rows, P) with P the largest number, and the mask of real ones."""
        starts, counts = self.spans(q_pids)
        offsets = np.arange(max(1, counts.max()))
        places = (starts[:, None] + offsets).clip(max=len(self.by_identity) - 1)
        return self.by_identity[places], offsets < counts[:, None]

    def first_hits(self, block: torch.Tensor) -> torch.Tensor:
        """Return the smallest entry of each identity in each row of a (rows, G) block, (rows, identities)."""
        if not self._nth:
            # Where an identity has fewer entries than another, its last is looked at again: a minimum does not mind.
            nth = np.minimum(np.arange(self.counts.max())[:, None], self.counts - 1)
            self._nth = list(torch.from_numpy(self.by_identity[self.starts + nth]).to(self.device))
        hits = block.index_select(1, self._nth[0])
        for columns in self._nth[1:]:
            torch.minimum(hits, block.index_select(1, columns), out=hits)
        return hits


def count_closer(
    block: torch.Tensor, wanted: torch.Tensor, real: torch.Tensor, columns: torch.Tensor,
    index: torch.Tensor, present: torch.Tensor, values: torch.Tensor,
) -> torch.Tensor:
    """Count the entries of a block that rank before each wanted distance: smaller, or equal and earlier in the gallery.

    Over blocks that part a gallery the counts add up to the 0-based places of a
    stable sort of the whole row. Rows are sorted by value only, and the wanted
    distances looked up in them, a fraction of the cost of an argsort; where
    something equals a wanted distance, its positions are compared one by one.

    Args:
        block: (R, C) distances without nan; inf for what the protocol skips.
        wanted: (R, P) distances of the same dtype.
        real: (R, P) bool, where ``wanted`` means something.
        columns: (R, P) positions in the gallery that ``wanted`` belongs to.
        index: (C,) positions in the gallery of the block's columns.
        present: (R, P) bool, whether ``wanted`` itself is an entry of the block.
        values: ``sort_rows(block)``.

    Returns:
        (R, P) int64 counts; they mean nothing where ``real`` is false.
    """
    counts = _search(values, wanted)
    following = counts + present
    last = values.shape[1] - 1
    tied = real & (following <= last) & (values.gather(1, following.clamp(max=last)) == wanted)
    pairs = tied.nonzero()
    if block.device.type == "cpu":
        # One by one: whole rows of all pairs would be copied before they are compared.
        rows, positions = block.numpy(), index.numpy()
        for place, number in pairs.tolist():
            equal = np.flatnonzero(rows[place] == wanted[place, number].numpy())
            counts[place, number] += int((positions[equal] < columns[place, number].numpy()).sum())
        return counts
    for start in range(0, len(pairs), len(block)):
        row, nth = pairs[start: start + len(block)].unbind(1)
        tie = block[row] == wanted[row, nth, None]
        counts[row, nth] += (tie & (index < columns[row, nth, None])).sum(dim=1)
    return counts


def _search(values: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Return where in each ascending row each wanted value would be inserted, before equal ones, (R, P) int64.

    For few rows on the CPU by NumPy, row by row: torch starts its threads from
    200 values on, and waiting for them takes longer than the search.
    """
    if values.device.type != "cpu" or len(values) > _FEW_ROWS:
        return torch.searchsorted(values, wanted)
    found = np.empty(wanted.shape, dtype=np.int64)
    for row, sought, places in zip(values.numpy(), wanted.numpy(), found):
        places[:] = row.searchsorted(sought)
    return torch.from_numpy(found)


def sort_rows(block: torch.Tensor) -> torch.Tensor:
    """Return a copy with every row sorted, nan last.

    On the CPU by NumPy, whose vectorised sort of values takes a fraction of
    torch's time, in as many threads as torch uses.
    """
    if block.device.type != "cpu":
        return block.sort(dim=1).values
    source = block.numpy()
    out = np.empty(source.shape, source.dtype)

    def sort(rows: slice) -> None:
        out[rows] = source[rows]
        out[rows].sort(axis=1)

    in_row_pieces(sort, out)
    return torch.from_numpy(out)


def in_row_pieces(function: Callable[[slice], None], array: np.ndarray) -> None:
    """Call ``function`` on slices that part the rows of an array, in as many threads as torch uses.

    It helps where NumPy releases the interpreter and does not use threads itself: sorts and partitions.
    """
    threads = torch.get_num_threads()
    if threads == 1 or array.size <= _SMALL:
        function(slice(0, len(array)))
        return
    step = max(1, _PIECE // array.shape[1])
    pieces = [slice(start, start + step) for start in range(0, len(array), step)]
    list(_pool(threads, os.getpid()).map(function, pieces))


@functools.lru_cache(maxsize=1)
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    # One per process: a forked worker of a data loader inherits the pool but not its threads.
    return ThreadPoolExecutor(threads)
