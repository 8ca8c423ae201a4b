"""A walk through the exemplar memory in chunks: the sums of a softmax over all entries, and the largest logits.

A logit is the product of a feature, divided by the temperature, with an entry.
"""
from __future__ import annotations

__all__ = ["Found", "kept_logits", "rows_of", "walk"]

import functools

import torch
from torch import Tensor

from torchreid_nas.device import computes_bfloat16

# Entries that are widened to single precision at a time: few enough to stay in the cache of a processor.
_WIDENED = 2048
# Entries in a product in float16: each entry adds at most 1 to a sum, and a sum overflows above 65,504.
_MOST_FLOAT16 = 2**15
# Columns in a block. The search for the largest logits looks at the maximum of each block first.
_BLOCK = 64
# Logits per group, beyond the neighbours, that are computed again in full precision after a walk in half precision.
_REFINED = 6


class Found:
    """The result of a walk: the sums of the softmax, and the largest logits with their entries.

    Args:
        peak: (B, 1), the largest logit.
        mass: (B, 1), Σ_j exp(logit_j − peak).
        mean: (B, D), Σ_j exp(logit_j − peak) K[j], or None.
        best: the largest logits of each group.
        rounded: whether the logits come from a product in half precision.

    Attributes:
        entries: (B, groups * kept) int64, the entries with the largest logits, group by group.
        logits: (B, groups * kept), the logits of ``entries``.
    """

    def __init__(self, peak: Tensor, mass: Tensor, mean: Tensor | None, best: list[_Best], rounded: bool) -> None:
        self.peak, self.mass, self.mean, self.rounded = peak, mass, mean, rounded
        self.groups = len(best)
        self.entries = torch.cat([b.entries for b in best], dim=1) if best else torch.empty(
            len(peak), 0, dtype=torch.int64, device=peak.device
        )
        self.logits = torch.cat([b.logits for b in best], dim=1) if best else peak[:, :0]

    def settle(self, exact: Tensor, count: int) -> tuple[Tensor | None, Tensor]:
        """Correct the mass by the exact logits of ``entries``, and choose the neighbours by the exact logits.

        A product in half precision is summed in single precision and rounded at
        the end, in bfloat16 to 8 bits. Logits of 20 decide who is a neighbour and
        carry the softmax; 8 bits are too coarse for these logits. Smaller logits
        have a smaller error and a smaller share of the softmax.

        Args:
            exact: (B, groups * kept), the logits of ``entries`` in full precision.
            count: number of neighbours in each group.

        Returns:
            The increase of each exp(logit − peak), (B, groups * kept), or None where
            the logits were not rounded; and the columns of ``entries`` that hold the
            ``count`` nearest entries of each group, (B, groups * count).
        """
        change = None
        if self.rounded:
            # A group with too few entries is filled up with entries of other groups, whose logit is -inf.
            exact = exact.masked_fill(self.logits.isneginf(), -torch.inf)
            change = (exact - self.peak).exp_() - (self.logits - self.peak).exp_()
            self.mass = self.mass + change.sum(dim=1, keepdim=True)
        kept = exact.shape[1] // max(self.groups, 1)
        if not count or kept == count:
            return change, torch.arange(exact.shape[1] if count else 0, device=exact.device).expand(len(exact), -1)
        first = torch.arange(self.groups, device=exact.device)[:, None] * kept
        return change, (exact.view(len(exact), self.groups, kept).topk(count, dim=2).indices + first).flatten(1)


def walk(
    scaled: Tensor, entries: Tensor, chunk_size: int, count: int, groups: Tensor | None = None, num_groups: int = 1,
    with_mean: bool = False,
) -> Found:
    """Walk through the memory once, chunk by chunk.

    Entries in half precision are multiplied in half precision where the
    hardware can, and are widened chunk by chunk elsewhere.

    Args:
        scaled: (B, D) features divided by the temperature, float32 or float64.
        entries: (N, D) memory, any floating dtype.
        chunk_size: entries per step, at most.
        count: neighbours to find in each group. More are kept where logits are rounded.
        groups: (N,) int64 group of each entry, or None for one group.
        num_groups: number of groups.
        with_mean: also sum the entries, weighted by the softmax.

    >>> entries = torch.eye(3)
    >>> found = walk(torch.tensor([[3.0, 2.0, 1.0]]), entries, chunk_size=2, count=2)
    >>> found.peak.item(), found.entries.tolist()
    (3.0, [[0, 1]])
    """
    batch = len(scaled)
    compute = _compute_dtype(scaled, entries)
    step = chunk_size if compute == entries.dtype else min(chunk_size, _WIDENED)
    if compute == torch.float16:
        step = min(step, _MOST_FLOAT16)
    query = scaled.to(compute)
    mean = scaled.new_zeros(scaled.shape) if with_mean and not len(entries) else None
    peak = scaled.new_full((batch, 1), -torch.inf)
    mass = scaled.new_zeros(batch, 1)
    rounded = compute != scaled.dtype
    kept = kept_logits(count, rounded)
    best = [_Best(batch, kept, scaled) for _ in range(num_groups)] if kept else []
    for start in range(0, len(entries), step):
        chunk = entries[start : start + step].to(compute)
        logits = _product(query, chunk).to(scaled.dtype)
        largest = []
        for group, nearest in enumerate(best):
            own = logits
            if groups is not None:
                others = groups[start : start + step] != group
                own = logits.masked_fill(others, -torch.inf)
            largest.append(nearest.see(own, start))
        new_peak = functools.reduce(torch.maximum, largest or [logits.amax(dim=1, keepdim=True)], peak)
        shrink = (peak - new_peak).exp_()
        logits.sub_(new_peak).exp_()
        mass.mul_(shrink).add_(logits.sum(dim=1, keepdim=True))
        if with_mean:
            part = _weighted_sum(logits.to(compute), chunk).to(scaled.dtype)
            mean = part if mean is None else part.addcmul_(mean, shrink)
        peak = new_peak
    return Found(peak, mass, mean, best, rounded)


def kept_logits(count: int, rounded: bool) -> int:
    """Return how many of the largest logits of each group a walk keeps to find ``count`` neighbours.

    >>> kept_logits(6, rounded=False)
    6
    """
    return count + _REFINED if rounded else count


def rows_of(entries: Tensor, chosen: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the ``chosen`` (B, K) entries as (B, K, D) in ``dtype``; ``entries[chosen]`` takes twice the time on a CPU.

    >>> rows_of(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[2, 0]]), torch.float32).tolist()
    [[[3.0], [1.0]]]
    """
    return entries.index_select(0, chosen.flatten()).to(dtype).view(*chosen.shape, entries.shape[1])


def _product(query: Tensor, chunk: Tensor) -> Tensor:
    """Return query @ chunk.T, (B, C), in the faster of two layouts: columns (a transposed view), in bfloat16 rows."""
    if query.dtype == torch.bfloat16:
        return query @ chunk.T
    # The product with the memory first is up to a third faster in single precision on the CPUs measured.
    return (chunk @ query.T).T


def _weighted_sum(weights: Tensor, chunk: Tensor) -> Tensor:
    """Return weights @ chunk, (B, D), in the layout that :func:`_product` chose."""
    return weights @ chunk if weights.is_contiguous() else (chunk.T @ weights.T).T.contiguous()


class _Best:
    """The ``count`` largest logits seen so far, with their entries."""

    def __init__(self, batch: int, count: int, like: Tensor) -> None:
        self.count = count
        self.logits = like.new_empty(batch, 0)
        self.entries = torch.empty(batch, 0, dtype=torch.int64, device=like.device)

    def see(self, logits: Tensor, start: int) -> Tensor:
        """Take in the logits (B, C) of the entries from ``start`` on, and return the largest of each row, (B, 1)."""
        values, columns = _largest(logits, min(self.count, logits.shape[1]))
        largest = values[:, :1]
        values = torch.cat([self.logits, values], dim=1)
        entries = torch.cat([self.entries, columns + start], dim=1)
        if values.shape[1] > self.count:
            values, kept = values.topk(self.count, dim=1)
            entries = entries.gather(1, kept)
        self.logits, self.entries = values, entries
        return largest


def _largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest logits of each row, in order, and their columns; a faster ``topk`` for long rows.

    The largest logits lie in the blocks with the largest maxima. The maxima of
    blocks are found at the speed of memory, and only these blocks are searched.
    On long rows that takes a third of the time of ``topk``.
    """
    blocks = logits.shape[1] // _BLOCK
    if blocks <= count:
        values, columns = logits.topk(count, dim=1)
        return values, columns
    whole = blocks * _BLOCK
    # A block holds columns that lie ``blocks`` apart: the maxima of neighbouring blocks are computed side by side.
    parts = logits[:, :whole].view(len(logits), _BLOCK, blocks)
    # The maxima in the layout of the logits: by columns that is eight times faster than into rows.
    maxima = parts.amax(dim=1) if logits.is_contiguous() else parts.permute(1, 2, 0).amax(dim=0).T
    best = maxima.topk(count, dim=1).indices
    columns = (best[:, :, None] + blocks * torch.arange(_BLOCK, device=logits.device)).flatten(1)
    tail = torch.arange(whole, logits.shape[1], device=logits.device).expand(len(logits), -1)
    columns = torch.cat([columns, tail], dim=1)
    values, kept = logits.gather(1, columns).topk(count, dim=1)
    return values, columns.gather(1, kept)


def _compute_dtype(features: Tensor, entries: Tensor) -> torch.dtype:
    """Return the dtype of the products: half precision where the hardware multiplies in it."""
    if entries.dtype in (torch.float32, torch.float64):
        return features.dtype
    if features.device.type == "cuda":
        return entries.dtype
    fast = entries.dtype == torch.bfloat16 and computes_bfloat16(features.device)
    return entries.dtype if fast else features.dtype
