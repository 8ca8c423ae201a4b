"""A training step of CM-NAS as it is first written: float32, NCHW, losses anchor by anchor and identity by identity,
an average and an optimiser tensor by tensor, and every loss read at every step."""
from __future__ import annotations

__all__ = ["PlainAverage", "PlainTraining", "plain_c3mmd", "plain_triplet"]

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def plain_triplet(visible: Tensor, infrared: Tensor, pids: Tensor, margin: float) -> Tensor:
    """Mean of the batch-hard losses vv, tt, vt and tv of features (B, D), each over a matrix of all distances."""
    terms = []
    for anchors, others in ((visible, visible), (infrared, infrared), (visible, infrared), (infrared, visible)):
        squared = anchors.square().sum(1)[:, None] + others.square().sum(1) - 2 * anchors @ others.mT
        distance = squared.clamp(min=1e-12).sqrt()
        for row, pid in zip(distance, pids):
            terms.append(F.relu(row[pids == pid].max() - row[pids != pid].min() + margin))
    return torch.stack(terms).mean()


def plain_c3mmd(
    visible: Tensor, infrared: Tensor, num_instances: int, weight_correlation: float, weight_mmd: float,
) -> Tensor:
    """Weighted sum of correlation consistency and class-specific MMD of features (B, D), identities in runs."""
    gram_v, gram_t = F.normalize(visible @ visible.mT), F.normalize(infrared @ infrared.mT)
    correlation = (gram_v - gram_t).square().mean()
    mmd = []
    for v, t in zip(F.normalize(visible).split(num_instances), F.normalize(infrared).split(num_instances)):
        kernels = ((a @ b.mT).square().mean() for a, b in ((v, v), (t, t), (v, t)))
        within_v, within_t, between = kernels
        mmd.append(within_v + within_t - 2 * between)
    return weight_correlation * correlation + weight_mmd * torch.stack(mmd).mean()


class PlainAverage:
    """``shadow ← decay · shadow + (1 − decay) · weights``, tensor by tensor; counters are copied."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.model = decay, model
        self.module = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self) -> None:
        live = self.model.state_dict()
        for key, value in self.module.state_dict().items():
            if value.is_floating_point():
                value.mul_(self.decay).add_(live[key], alpha=1 - self.decay)
            else:
                value.copy_(live[key])


class PlainTraining:
    """The step over a model with ``features`` and ``classifier``.

    Args:
        model: on its device, with plain BatchNorms.
        optimizer: over its parameters.
        num_instances: images per identity and modality.
        weights: with the fields of :class:`torchreid_nas.engine.CrossModalityLossWeights`.
        ema: decay of the average.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, num_instances: int, weights: Any, ema: float) -> None:
        self.model, self.optimizer, self.num_instances, self.weights = model.train(), optimizer, num_instances, weights
        self.ema = PlainAverage(model, ema)

    def losses(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        """Forward a joint batch and return the weighted terms."""
        device = next(self.model.parameters()).device
        images, pids, weights = data["img"].to(device), data["pid"].to(device), self.weights
        before, after = self.model.features(images)
        return {
            "ce": weights.weight_x * F.cross_entropy(self.model.classifier(after), pids),
            "triplet": weights.weight_t * plain_triplet(*before.chunk(2), pids.chunk(2)[0], weights.margin),
            "c3mmd": plain_c3mmd(*after.chunk(2), self.num_instances, weights.weight_correlation, weights.weight_mmd),
        }

    def forward_backward(self, data: Mapping[str, Any]) -> dict[str, float]:
        """One step; returns the losses."""
        terms = self.losses(data)
        self.optimizer.zero_grad()
        sum(terms.values()).backward()
        self.optimizer.step()
        self.ema.update()
        return {name: value.item() for name, value in terms.items()}
