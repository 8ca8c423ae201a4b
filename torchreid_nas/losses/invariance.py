"""Invariance learning of ECN: exemplar, camera and neighbourhood invariance as one loss over the memory."""
from __future__ import annotations

__all__ = ["InvarianceLoss"]

import functools
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from torchreid_nas.device import computes_bfloat16, move
from torchreid_nas.errors import InputError
from torchreid_nas.losses.memory import ExemplarMemory


class PositivePredictor(Protocol):
    """What decides which of an image's nearest slots show the same person."""

    num_candidates: int

    def positives(self, anchors: Tensor, candidates: Tensor) -> Tensor:
        """Return a boolean (B, K) for ``anchors`` (B, D) and their ``candidates`` (B, K, D)."""


# Slots that are widened to single precision at a time: few enough to stay in a processor's cache.
_WIDENED = 2048
# Slots in a product in float16: each adds at most 1 to a sum, which overflows above 65,504.
_MOST_FLOAT16 = 2**15
# Columns of which only the maximum is looked at first, when neighbours are sought.
_BLOCK = 64
# Logits beyond the neighbours (per group) that are computed again in full precision after a walk in half precision.
_REFINED = 6


class InvarianceLoss(nn.Module):
    r"""Loss of ECN (Zhong et al., CVPR 2019, Eq. 3 to 9) over an :class:`ExemplarMemory` K.

    With :math:`p(j|x) = \mathrm{softmax}_j(K[j]^\top f(x) / \beta)` over all slots,

    .. math:: L = -\frac{1}{B} \sum_i \sum_j w_{ij} \log p(j | x_i)

    - exemplar invariance: :math:`w_{ii} = 1`, cross-entropy over the slots;
    - camera invariance: the same, of an image in the style of another camera
      (which image is given is the data's part, not the loss's);
    - neighbourhood invariance: :math:`w_{ij} = 1/k` for the k nearest slots as
      well. As in the authors' code the own slot takes part in the search and
      then gets weight 1, so that the weights of an image sum up to 2 - 1/k or 2.

    Slots in half precision are multiplied in it where the hardware can, and the
    largest logits, which carry the softmax and decide who is a neighbour, are
    then computed again in full precision (ours).

    Nothing is sorted: neighbours are found by selection. Memory and both
    products with it are walked in chunks, with a running softmax, so that
    beyond the features only ``B * chunk_size`` logits exist at a time, in the
    forward and in the backward pass. Second derivatives are not available.

    Args:
        memory: the slots. It is not a part of this module's state; save it with the run.
        temperature: β; 0.05 in the paper.
        num_neighbours: k; 6 in the paper. 0 leaves cross-entropy.
        chunk_size: slots per step of the walk (ours); the numbers do not depend on it.
        groups: (N,) int64 group of every slot, or None. With groups the k
            neighbours are ``k / groups`` from each group (ours: the two
            modalities of visible-infrared images, whose own is always nearer).
        positive_prediction: replaces the k nearest (ECN++, TPAMI 2021): it
            chooses among ``num_candidates`` nearest slots (with groups in
            equal parts, as many as the smallest group has), and each of the P
            chosen gets weight 1/P; the own slot counts in P where it is
            chosen, as it counts in k (the weights are ours).

    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self, memory: ExemplarMemory, temperature: float = 0.05, num_neighbours: int = 6, chunk_size: int = 16384,
        groups: Tensor | None = None, positive_prediction: PositivePredictor | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"the temperature of the invariance loss is {temperature}, expected above 0")
        if not 0 <= num_neighbours <= memory.num_samples:
            raise InputError(
                f"num_neighbours (ecn.num_neighbours) is {num_neighbours}, expected 0 to {memory.num_samples}, the slots of "
                "the memory, one for each image of the target"
            )
        if chunk_size < 1:
            raise InputError(f"chunk_size is {chunk_size}, expected at least 1")
        # Kept out of the module's own state: the engine saves the memory.
        self.__dict__["memory"] = memory
        self.__dict__["positive_prediction"] = positive_prediction
        self.temperature, self.num_neighbours, self.chunk_size = temperature, num_neighbours, chunk_size
        self.num_groups, self._smallest_group = 1, memory.num_samples
        self.register_buffer("groups", groups, persistent=False)
        if groups is not None:
            self._check_groups(groups)
        if positive_prediction is not None and positive_prediction.num_candidates < self.num_groups:
            raise InputError(
                f"num_candidates (ecn.num_candidates) is {positive_prediction.num_candidates}, expected at least "
                f"{self.num_groups}, one for each group (modality)"
            )

    def forward(self, features: Tensor, indices: Tensor, neighbours: bool = True) -> Tensor:
        """Compute the loss.

        Args:
            features: (B, D), normalised (the authors apply dropout afterwards); half precision is read as float32.
            indices: (B,) int64 slots of the images. On the CPU they spare the GPU a synchronisation.
            neighbours: with neighbourhood invariance.

        Returns:
            Scalar, float32 (float64 for float64 features).

        Raises:
            InputError: shapes or indices do not fit the memory.
        """
        self.memory.check_batch(features, indices)
        if features.dtype != torch.float64:
            features = features.float()
        slots = self.memory.features
        indices = move(indices, slots.device)
        with torch.autocast(features.device.type, enabled=False):
            return _Invariance.apply(features, slots, indices, self, bool(neighbours and self.num_neighbours))

    @torch.no_grad()
    def nearest(self, features: Tensor, k: int | None = None) -> Tensor:
        """Return the ``k`` (default ``num_neighbours``) nearest slots of ``features``, (B, k) int64, in equal parts per group.

        Raises:
            InputError: ``k`` does not divide into equal parts, or a group has fewer slots than its part.
        """
        k = self.num_neighbours if k is None else k
        most = self.num_groups * self._smallest_group
        if k % self.num_groups or not 0 <= k <= most:
            raise InputError(
                f"{k} nearest slots are asked for, expected a multiple of {self.num_groups} (the groups) from 0 to {most}"
            )
        features, slots = features.detach(), self.memory.features
        count = k // self.num_groups
        found = _walk(features, slots, self, count, False)
        logits = found.logits
        if found.rounded:
            logits = torch.einsum("bd,bkd->bk", features, _rows(slots, found.slots, features.dtype))
        return found.slots.gather(1, found.settle(logits, count)[1])

    @torch.no_grad()
    def neighbours(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the candidate slots of ``features``, (B, K) int64, and which are taken as neighbours, (B, K) bool."""
        predictor = self.positive_prediction
        nearest = self.nearest(features, self._num_candidates())
        if predictor is None:
            return nearest, torch.ones_like(nearest, dtype=torch.bool)
        return nearest, predictor.positives(features, _rows(self.memory.features, nearest, features.dtype))

    def _num_candidates(self) -> int:
        """How many nearest slots are looked at, a multiple of the groups."""
        if self.positive_prediction is None:
            return self.num_neighbours
        return self.num_groups * min(self.positive_prediction.num_candidates // self.num_groups, self._smallest_group)

    def _check_groups(self, groups: Tensor) -> None:
        if groups.shape != (self.memory.num_samples,) or groups.dtype != torch.int64 or int(groups.min()) < 0:
            raise InputError(
                f"groups is {tuple(groups.shape)} {groups.dtype}, expected ({self.memory.num_samples},) torch.int64 "
                "from 0, one group per slot"
            )
        self.num_groups = int(groups.max()) + 1
        if self.num_neighbours % self.num_groups:
            raise InputError(
                f"num_neighbours (ecn.num_neighbours) is {self.num_neighbours}, expected a multiple of {self.num_groups}, the "
                "number of groups (modalities)"
            )
        self._smallest_group = int(torch.bincount(groups).min())
        if self.num_neighbours > self.num_groups * self._smallest_group:
            raise InputError(
                f"a group (modality) has {self._smallest_group} slots, expected at least "
                f"{self.num_neighbours // self.num_groups}; lower num_neighbours (ecn.num_neighbours)"
            )


class _Invariance(torch.autograd.Function):
    """The loss with its gradient from the same walk over the memory: each chunk is read once, for both products."""

    @staticmethod
    def forward(ctx, features, slots, indices, loss, with_neighbours):
        scaled = features / loss.temperature
        predictor = loss.positive_prediction
        count = loss._num_candidates() // loss.num_groups if with_neighbours else 0
        needs_gradient = ctx.needs_input_grad[0]
        found = _walk(scaled, slots, loss, count, needs_gradient)

        # One look at the own slot and the largest, for all that is wanted of them.
        rows = _rows(slots, torch.cat([indices[:, None], found.slots], dim=1), scaled.dtype)
        logits = torch.einsum("bd,bkd->bk", scaled, rows)
        change, nearest = found.settle(logits[:, 1:], count)
        weights = torch.zeros_like(logits)
        if count and predictor is None:
            # In float32, as the authors' weights are: in float64 the rounding shows in the eighth digit.
            weights[:, 1:].scatter_(1, nearest, float(np.float32(1 / nearest.shape[1])))
        elif count:
            # The own slot stands for the image: dropout may have thinned its feature out.
            near = rows[:, 1:].gather(1, nearest[:, :, None].expand(-1, -1, rows.shape[2]))
            positive = predictor.positives(rows[:, 0], near)
            weights[:, 1:].scatter_(1, nearest, (positive / positive.sum(dim=1, keepdim=True).clamp(min=1)).to(weights.dtype))
        # The own slot counts once, with weight 1.
        weights[:, 1:] *= found.slots != indices[:, None]
        weights[:, 0] = 1
        total = weights.sum(dim=1, keepdim=True)
        lse = found.peak + found.mass.log()
        value = ((total * lse)[:, 0] - (weights * logits).sum(dim=1)).mean()
        if needs_gradient:
            share = total / found.mass
            # Of every row at once: as a target, and what its exact logit changes in the expected slot.
            weights.neg_()
            if change is not None:
                weights[:, 1:] += share * change
            gradient = torch.einsum("bk,bkd->bd", weights, rows).addcmul_(share, found.mean)
            ctx.save_for_backward(gradient / (loss.temperature * len(features)))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient, None, None, None, None


class _Found:
    """What a walk over the memory leaves: the sums of the softmax, and the largest logits with their slots.

    Args:
        peak: (B, 1), the largest logit.
        mass: (B, 1), Σ_j exp(logit_j − peak).
        mean: (B, D), Σ_j exp(logit_j − peak) K[j], or None.
        best: per group the largest logits.
        rounded: whether the logits are those of a product in half precision.
    """

    def __init__(self, peak: Tensor, mass: Tensor, mean: Tensor | None, best: list[_Best], rounded: bool) -> None:
        self.peak, self.mass, self.mean, self.rounded = peak, mass, mean, rounded
        self.groups = len(best)
        self.slots = torch.cat([b.slots for b in best], dim=1) if best else torch.empty(
            len(peak), 0, dtype=torch.int64, device=peak.device
        )
        self.logits = torch.cat([b.logits for b in best], dim=1) if best else peak[:, :0]

    def settle(self, exact: Tensor, count: int) -> tuple[Tensor | None, Tensor]:
        """Put the mass right by the logits of ``slots`` in full precision, and choose the neighbours by them.

        A product in half precision is summed up in single precision but rounded
        at the end: to 8 bits in bfloat16, too coarse for logits of 20, which
        decide who is a neighbour and carry the softmax. Where they are smaller,
        so are their error and their share.

        Returns:
            By how much each exp(logit − peak) is larger, (B, K), or None for logits
            that are not rounded; and the places in ``slots`` of the ``count``
            nearest of each group, (B, groups * count).
        """
        change = None
        if self.rounded:
            # Slots of other groups stand at -inf where a group has too few.
            exact = exact.masked_fill(self.logits.isneginf(), -torch.inf)
            change = (exact - self.peak).exp_() - (self.logits - self.peak).exp_()
            self.mass = self.mass + change.sum(dim=1, keepdim=True)
        kept = exact.shape[1] // max(self.groups, 1)
        if not count or kept == count:
            return change, torch.arange(exact.shape[1] if count else 0, device=exact.device).expand(len(exact), -1)
        first = torch.arange(self.groups, device=exact.device)[:, None] * kept
        return change, (exact.unflatten(1, (self.groups, kept)).topk(count, dim=2).indices + first).flatten(1)


def _walk(scaled: Tensor, slots: Tensor, loss: InvarianceLoss, count: int, with_mean: bool) -> _Found:
    """Walk the memory once in chunks.

    Args:
        scaled: (B, D) features over the temperature.
        slots: (N, D).
        loss: chunk size and groups.
        count: neighbours to find in each group; more are kept where logits are rounded.
        with_mean: also sum up the slots under the softmax.
    """
    batch = len(scaled)
    compute = _compute_dtype(scaled, slots)
    step = loss.chunk_size if compute == slots.dtype else min(loss.chunk_size, _WIDENED)
    if compute == torch.float16:
        step = min(step, _MOST_FLOAT16)
    query = scaled.to(compute)
    peak = scaled.new_full((batch, 1), -torch.inf)
    mass = scaled.new_zeros(batch, 1)
    mean = None
    rounded = compute != scaled.dtype
    kept = count + _REFINED if rounded else count
    best = [_Best(batch, kept, scaled) for _ in range(loss.num_groups)] if kept else []
    for start in range(0, len(slots), step):
        chunk = slots[start : start + step].to(compute)
        logits = _product(query, chunk).to(scaled.dtype)
        largest = []
        for group, nearest in enumerate(best):
            own = logits
            if loss.groups is not None:
                others = loss.groups[start : start + step] != group
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
    return _Found(peak, mass, mean, best, rounded)


def _product(query: Tensor, chunk: Tensor) -> Tensor:
    """Return query @ chunk.T, (B, C), in the faster of two ways: by columns (a transposed view), in bfloat16 by rows."""
    if query.dtype == torch.bfloat16:
        return query @ chunk.T
    # Memory first: up to a third faster in single precision on the CPUs measured.
    return (chunk @ query.T).T


def _weighted_sum(weights: Tensor, chunk: Tensor) -> Tensor:
    """Return weights @ chunk, (B, D), in the order that :func:`_product` took."""
    return weights @ chunk if weights.is_contiguous() else (chunk.T @ weights.T).T.contiguous()


def _rows(slots: Tensor, chosen: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the ``chosen`` (B, K) slots as (B, K, D); ``slots[chosen]`` is two times slower on a CPU."""
    return slots.index_select(0, chosen.flatten()).to(dtype).unflatten(0, chosen.shape)


class _Best:
    """The ``count`` largest logits seen so far and their slots."""

    def __init__(self, batch: int, count: int, like: Tensor) -> None:
        self.count = count
        self.logits = like.new_empty(batch, 0)
        self.slots = torch.empty(batch, 0, dtype=torch.int64, device=like.device)

    def see(self, logits: Tensor, start: int) -> Tensor:
        """Take in the logits of the slots from ``start`` on, (B, C), and return the largest of each row, (B, 1)."""
        values, columns = _largest(logits, min(self.count, logits.shape[1]))
        largest = values[:, :1]
        values = torch.cat([self.logits, values], dim=1)
        slots = torch.cat([self.slots, columns + start], dim=1)
        if values.shape[1] > self.count:
            values, kept = values.topk(self.count, dim=1)
            slots = slots.gather(1, kept)
        self.logits, self.slots = values, slots
        return largest


def _largest(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` largest of each row, in order, and their columns, as ``topk``, three times faster on long rows.

    The largest entries lie in the blocks with the largest maxima, and maxima
    of blocks are found at the speed of memory: only those blocks are searched.
    """
    blocks = logits.shape[1] // _BLOCK
    if blocks <= count:
        return logits.topk(count, dim=1)
    whole = blocks * _BLOCK
    # Blocks of columns that lie ``blocks`` apart: their maxima are those of neighbouring numbers, computed side by side.
    parts = logits[:, :whole].unflatten(1, (_BLOCK, blocks))
    # The maxima in the layout of the logits: eight times faster by columns than into rows.
    maxima = parts.amax(dim=1) if logits.is_contiguous() else parts.permute(1, 2, 0).amax(dim=0).T
    best = maxima.topk(count, dim=1).indices
    columns = (best[:, :, None] + blocks * torch.arange(_BLOCK, device=logits.device)).flatten(1)
    tail = torch.arange(whole, logits.shape[1], device=logits.device).expand(len(logits), -1)
    columns = torch.cat([columns, tail], dim=1)
    values, kept = logits.gather(1, columns).topk(count, dim=1)
    return values, columns.gather(1, kept)


def _compute_dtype(features: Tensor, slots: Tensor) -> torch.dtype:
    """Half precision where it is computed by hardware; elsewhere chunks are widened on the way."""
    if slots.dtype in (torch.float32, torch.float64):
        return features.dtype
    if features.device.type == "cuda":
        return slots.dtype
    fast = slots.dtype == torch.bfloat16 and computes_bfloat16(features.device)
    return slots.dtype if fast else features.dtype
