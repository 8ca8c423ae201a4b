"""Invariance learning of ECN: exemplar, camera and neighbourhood invariance as one loss over the memory."""
from __future__ import annotations

__all__ = ["InvarianceLoss", "PositivePredictor"]

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from torchreid_nas.device import move
from torchreid_nas.errors import InputError
from torchreid_nas.losses.memory import ExemplarMemory
from torchreid_nas.losses.memory_walk import Found, kept_logits, walk


class PositivePredictor(Protocol):
    """Decides which of the nearest entries of an image show the same person, as ``PositivePrediction`` does.

    Attributes:
        num_candidates: how many nearest entries it judges for an image.
    """

    num_candidates: int

    def positives(self, anchors: Tensor, candidates: Tensor) -> Tensor:
        """Return a boolean (B, K) for ``anchors`` (B, D) and their ``candidates`` (B, K, D)."""


class InvarianceLoss(nn.Module):
    r"""Invariance loss of ECN over an :class:`ExemplarMemory` K.

    Zhong, Zheng, Luo, Li, Yang. "Invariance Matters: Exemplar Memory for Domain
    Adaptive Person Re-identification", CVPR 2019, Eq. 3 to 9. With
    :math:`p(j|x) = \mathrm{softmax}_j(K[j]^\top f(x) / \beta)` over all entries,

    .. math:: L = -\frac{1}{B} \sum_i \sum_j w_{ij} \log p(j | x_i)

    - Exemplar invariance: :math:`w_{ii} = 1`, the cross-entropy over the entries.
    - Camera invariance: the same for an image in the style of another camera.
      The data choose this image, not the loss.
    - Neighbourhood invariance: :math:`w_{ij} = 1/k` for the k nearest entries as
      well. As in the authors' code the own entry takes part in the search and
      then gets weight 1, so that the weights of an image sum to 2 - 1/k or 2.

    Entries in half precision are multiplied in half precision where the hardware
    can. The largest logits carry the softmax and decide who is a neighbour; they
    are computed again in full precision (ours).

    Nothing is sorted: neighbours are found by selection. The memory, and both
    products with the memory, are walked in chunks with a running softmax: only
    ``B * chunk_size`` logits exist at a time, in the forward and in the backward
    pass. Second derivatives are not available.

    Of several processes with a sharded memory each passes the features of the
    whole batch, gathered, and each computes the whole loss.

    Args:
        memory: the entries. The memory is not a part of this module's state; save it with the run.
        temperature: β; 0.05 in the paper.
        num_neighbours: k; 6 in the paper. 0 leaves the cross-entropy.
        chunk_size: entries per step of the walk (ours). The loss does not depend on it.
        groups: (N,) int64 group of every entry, or None. With groups the k
            neighbours are ``k / groups`` from each group (ours: the groups are the
            modalities of visible-infrared images, and the own modality is always nearer).
        positive_prediction: takes the place of the k nearest (ECN++, TPAMI 2021).
            The prediction chooses among the ``num_candidates`` nearest entries (with
            groups in equal parts, as many as the smallest group has). Each of the P
            chosen entries gets weight 1/P; the own entry counts in P where it is
            chosen, as it counts in k (these weights are ours).

    Raises:
        InputError: an argument is out of range.

    >>> memory = ExemplarMemory(num_samples=4, dim=4)
    >>> memory.initialize(torch.eye(4))
    >>> criterion = InvarianceLoss(memory, temperature=0.5, num_neighbours=2)
    >>> loss = criterion(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([0]), neighbours=False)
    >>> round(loss.item(), 4)  # log(1 + 3 exp(-2))
    0.3408
    """

    memory: ExemplarMemory
    positive_prediction: PositivePredictor | None
    groups: Tensor | None

    def __init__(
        self, memory: ExemplarMemory, temperature: float = 0.05, num_neighbours: int = 6, chunk_size: int = 16384,
        groups: Tensor | None = None, positive_prediction: PositivePredictor | None = None,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"temperature is {temperature}, expected above 0; the paper takes 0.05")
        if not 0 <= num_neighbours <= memory.num_samples:
            raise InputError(
                f"num_neighbours (ecn.num_neighbours) is {num_neighbours}, expected 0 to {memory.num_samples}, the entries of "
                "the memory, one for each image of the target"
            )
        if chunk_size < 1:
            raise InputError(f"chunk_size is {chunk_size}, expected at least 1 entry; the default is 16384")
        # The engine saves the memory, so that both are not registered as parts of this module.
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
            features: (B, D), L2-normalised (the authors apply dropout afterwards). Half precision is read as float32.
            indices: (B,) int64 entries of the images. Indices on the CPU spare the GPU a synchronisation.
            neighbours: with neighbourhood invariance.

        Returns:
            Scalar, float32 (float64 for float64 features).

        Raises:
            InputError: shapes or indices do not fit the memory.
        """
        self.memory.check_batch(features, indices)
        if features.dtype != torch.float64:
            features = features.float()
        indices = move(indices, self.memory.features.device)
        with torch.autocast(features.device.type, enabled=False):
            loss: Tensor = _Invariance.apply(features, indices, self, bool(neighbours and self.num_neighbours))
        return loss

    @torch.no_grad()
    def nearest(self, features: Tensor, k: int | None = None) -> Tensor:
        """Return the ``k`` nearest entries of ``features``, (B, k) int64, in equal parts per group.

        Args:
            features: (B, D), float32 or float64.
            k: number of entries; default ``num_neighbours``.

        Raises:
            InputError: ``k`` does not divide into equal parts, or a group has fewer entries than its part.
        """
        k = self.num_neighbours if k is None else k
        most = self.num_groups * self._smallest_group
        if k % self.num_groups or not 0 <= k <= most:
            raise InputError(f"k is {k}, expected a multiple of {self.num_groups} (the groups) from 0 to {most}")
        features = features.detach()
        count = k // self.num_groups
        found = self.walk(features, count)
        logits = found.logits
        if found.rounded:
            logits = torch.einsum("bd,bkd->bk", features, self.memory.rows(found.entries, features.dtype))
        return found.entries.gather(1, found.settle(logits, count)[1])

    @torch.no_grad()
    def neighbours(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the candidates of ``features``, (B, K) int64 entries, and which of them are neighbours, (B, K) bool."""
        predictor = self.positive_prediction
        nearest = self.nearest(features, self.num_candidates)
        if predictor is None:
            return nearest, torch.ones_like(nearest, dtype=torch.bool)
        return nearest, predictor.positives(features, self.memory.rows(nearest, features.dtype))

    @property
    def num_candidates(self) -> int:
        """Number of nearest entries that are candidates for neighbours, a multiple of the groups."""
        if self.positive_prediction is None:
            return self.num_neighbours
        return self.num_groups * min(self.positive_prediction.num_candidates // self.num_groups, self._smallest_group)

    def walk(self, scaled: Tensor, count: int, with_mean: bool = False) -> Found:
        """Walk through the memory, see :func:`torchreid_nas.losses.memory_walk.walk`; of several processes through all parts."""
        shards = self.memory.shards
        groups = None if self.groups is None else shards.own(self.groups)
        found = walk(scaled, self.memory.features, self.chunk_size, count, groups, self.num_groups, with_mean)
        return shards.merge(found, kept_logits(count, found.rounded))

    def _check_groups(self, groups: Tensor) -> None:
        if groups.shape != (self.memory.num_samples,) or groups.dtype != torch.int64 or int(groups.min()) < 0:
            raise InputError(
                f"groups is {tuple(groups.shape)} {groups.dtype}, expected ({self.memory.num_samples},) torch.int64 "
                "from 0, one group per entry"
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
                f"a group (modality) has {self._smallest_group} entries, expected at least "
                f"{self.num_neighbours // self.num_groups}; lower num_neighbours (ecn.num_neighbours)"
            )


class _Invariance(torch.autograd.Function):
    """The loss, with its gradient from the same walk through the memory: each chunk is read once for both products."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, indices: Tensor, loss: InvarianceLoss, with_neighbours: bool,
    ) -> Tensor:
        scaled = features / loss.temperature
        predictor = loss.positive_prediction
        count = loss.num_candidates // loss.num_groups if with_neighbours else 0
        needs_gradient = ctx.needs_input_grad[0]
        found = loss.walk(scaled, count, needs_gradient)

        # The own entry and the largest ones are read once, for the logits, the predictor and the gradient.
        rows = loss.memory.rows(torch.cat([indices[:, None], found.entries], dim=1), scaled.dtype)
        logits = torch.einsum("bd,bkd->bk", scaled, rows)
        change, nearest = found.settle(logits[:, 1:], count)
        weights = torch.zeros_like(logits)
        if count and predictor is None:
            # The authors' weights are rounded to float32, which shows in the eighth digit in float64.
            weights[:, 1:].scatter_(1, nearest, float(np.float32(1 / nearest.shape[1])))
        elif count and predictor is not None:
            # The own entry stands for the image: dropout may have thinned the feature of the image out.
            near = rows[:, 1:].gather(1, nearest[:, :, None].expand(-1, -1, rows.shape[2]))
            positive = predictor.positives(rows[:, 0], near)
            weights[:, 1:].scatter_(1, nearest, (positive / positive.sum(dim=1, keepdim=True).clamp(min=1)).to(weights.dtype))
        # The own entry counts once, with weight 1.
        weights[:, 1:] *= found.entries != indices[:, None]
        weights[:, 0] = 1
        total = weights.sum(dim=1, keepdim=True)
        lse = found.peak + found.mass.log()
        value = ((total * lse)[:, 0] - (weights * logits).sum(dim=1)).mean()
        if found.mean is not None:
            share = total / found.mass
            # One product for all rows: the part of the targets, and the part that the exact logits add to the mean entry.
            weights.neg_()
            if change is not None:
                weights[:, 1:] += share * change
            gradient = torch.einsum("bk,bkd->bd", weights, rows).addcmul_(share, found.mean)
            ctx.save_for_backward(gradient / (loss.temperature * len(features)))
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad_output * gradient, None, None, None
