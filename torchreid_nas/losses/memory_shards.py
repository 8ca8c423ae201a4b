"""An exemplar memory whose entries several processes hold in parts: who holds which, and what a walk through all parts finds.

Each process walks through its own part with the features of the whole batch. Then the results are merged: the largest
peak of the processes, the sums relative to that peak, and of each group the largest logits of all processes. Among equal
logits, as those of entries that are still zero, any may be kept, as in one process.
"""
from __future__ import annotations

__all__ = ["Shards", "merge_best", "merge_sums"]

from typing import Any

import torch
from torch import Tensor

from torchreid_nas.distributed import all_max, all_sum, collect, gather, processes, rank
from torchreid_nas.losses.memory_walk import Found, rows_of


class Shards:
    """Which of ``total`` entries each process holds: neighbouring entries, the processes in the order of their ranks.

    Args:
        total: number of entries.
        sharded: False has every process hold all entries.

    Attributes:
        lengths: entries of each process.
        first: the first entry of this process.
        length: number of entries of this process.

    Example:
        >>> Shards(10, sharded=True).length
        10
    """

    def __init__(self, total: int, sharded: bool) -> None:
        self.total, count = total, processes() if sharded else 1
        ends = [total * number // count for number in range(count + 1)]
        self.lengths = [end - start for start, end in zip(ends, ends[1:])]
        number = rank() if count > 1 else 0
        self.first, self.length = ends[number], self.lengths[number]

    @property
    def whole(self) -> bool:
        """Whether this process holds all entries."""
        return len(self.lengths) == 1

    def own(self, x: Tensor) -> Tensor:
        """Return the rows of ``x``, one per entry, that belong to this process."""
        return x if self.whole else x.narrow(0, self.first, self.length)

    def own_batch(self, x: Tensor, entries: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of a batch whose entry is here, in their order, and the places of these entries in the own part."""
        if self.whole:
            return x, entries
        here = ((entries >= self.first) & (entries < self.first + self.length)).nonzero().flatten()
        return x.index_select(0, here.to(x.device)), entries.index_select(0, here) - self.first

    def rows(self, features: Tensor, chosen: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the ``chosen`` (B, K) entries, the same on all processes, as (B, K, D) in ``dtype``.

        Args:
            features: (length, D), the entries of this process.
            chosen: int64.
            dtype: of the result.
        """
        if self.whole:
            return rows_of(features, chosen, dtype)
        if not self.length:
            return all_sum(features.new_zeros(*chosen.shape, features.shape[1], dtype=dtype))
        places = chosen - self.first
        elsewhere = (places < 0) | (places >= self.length)
        found = rows_of(features, places.clamp(0, self.length - 1), dtype)
        return all_sum(found.masked_fill(elsewhere[:, :, None], 0))

    def collect(self, features: Tensor) -> Tensor:
        """Return the entries of all processes on the CPU of the process 0, and no rows on the others; see :func:`collect`."""
        return features if self.whole else collect(features.detach().cpu(), self.lengths)

    def merge(self, found: Found, kept: int) -> Found:
        """Return what a walk through all entries finds, on every process, from what each has found in its own part.

        Args:
            found: of this process.
            kept: logits to keep of each group, or all entries where these are fewer.
        """
        if self.whole:
            return found
        peak, mass, mean = merge_sums(found.peak, found.mass, found.mean)
        merged = Found(peak, mass, mean, [], found.rounded)
        if found.groups:
            merged.groups = found.groups
            shape = len(peak), found.groups, found.logits.shape[1] // found.groups
            merged.logits, merged.entries = (
                part.flatten(1) for part in merge_best(
                    found.logits.view(shape), found.entries.view(shape) + self.first, kept, min(kept, self.total)
                )
            )
        return merged


def merge_sums(peak: Tensor, mass: Tensor, mean: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return peak (B, 1), mass (B, 1) and mean (B, D) of a softmax over the logits of all processes from those of each.

    Without a process group these are the arguments:

    >>> merge_sums(torch.zeros(1, 1), torch.ones(1, 1), None)[1]
    tensor([[1.]])
    """
    whole = all_max(peak)
    shrink = (peak - whole).exp()
    sums = all_sum(mass * shrink if mean is None else torch.cat((mass, mean), dim=1) * shrink)
    return whole, sums[:, :1], None if mean is None else sums[:, 1:]


def merge_best(logits: Tensor, entries: Tensor, kept: int, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest logits of all processes per image and group, (B, G, count), and their entries.

    Args:
        logits: (B, G, K), of this process, K at most ``kept``.
        entries: (B, G, K) int64, numbered over all processes.
        kept: K of a process that has enough entries.
        count: logits to return, at most those that all processes have.

    >>> merge_best(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[4, 5]]]), kept=2, count=1)
    (tensor([[[3.]]]), tensor([[[5]]]))
    """
    lacking = (0, kept - logits.shape[2])
    padded: list[Any] = [
        torch.nn.functional.pad(logits, lacking, value=-torch.inf), torch.nn.functional.pad(entries, lacking),
    ]
    of_all = [gather(part[None]).permute(1, 2, 0, 3).flatten(2) for part in padded]
    best, places = of_all[0].topk(count, dim=2)
    return best, of_all[1].gather(2, places)
