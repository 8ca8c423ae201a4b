"""A loss from outside, trained with from the command line: the centres of the two modalities of a person shall meet."""
from __future__ import annotations

import torch
from torch import nn

from torchreid_nas.config import Key
from torchreid_nas.engine import CrossModalityEngine
from torchreid_nas.methods.cmnas import CMNASMethod
from torchreid_nas.registry import register_loss, register_method


class CentreLoss(nn.Module):
    """Mean squared distance of the mean visible and the mean infrared feature of each person, of runs of K images."""

    def __init__(self, num_instances: int) -> None:
        super().__init__()
        self.num_instances = num_instances

    def forward(self, visible: torch.Tensor, infrared: torch.Tensor) -> torch.Tensor:
        """Take two times (B, D) features of the same persons in the same order; return a scalar."""
        groups = (-1, self.num_instances, visible.shape[1])
        centres = [half.float().reshape(groups).mean(dim=1) for half in (visible, infrared)]
        return (centres[0] - centres[1]).square().sum(dim=1).mean()


class CentreEngine(CrossModalityEngine):
    """CM-NAS's training with one term more."""

    def __init__(self, *args, centre_weight=0.0, num_instances=4, **kwargs):
        super().__init__(*args, num_instances=num_instances, **kwargs)
        self.centre_weight, self.criterion_centre = centre_weight, CentreLoss(num_instances)

    def _forward(self, images, metric_only):
        logits, before, after = super()._forward(images, metric_only)
        self.halves = before.chunk(2)
        return logits, before, after

    def losses(self, data, metric_only=False):
        terms = super().losses(data, metric_only)
        return {**terms, "centre": self.centre_weight * self.criterion_centre(*self.halves)}


class CentreMethod(CMNASMethod):
    """CM-NAS with the loss; the key stands in configs and on the command line as any other."""

    name = "centre"
    factories = {"centre_resnet18": ("torchreid_nas.models.two_stream", "two_stream_resnet18")}
    keys = {"loss.centre.weight": Key(0.1, "loss weight of the distance of the centres")}
    own_keys = (*CMNASMethod.own_keys, "loss.centre")
    train_class, search_class, path_search_class = CentreEngine, None, None

    def engine_options(self):
        return {**super().engine_options(), "centre_weight": self.cfg.loss.centre.weight}


def register():
    register_loss(CentreLoss)
    register_method(CentreMethod)
