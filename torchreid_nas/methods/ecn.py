"""Domain adaptation with a labelled source and an unlabelled target (ECN), and unsupervised visible-infrared re-ID."""
from __future__ import annotations

__all__ = ["DomainAdaptationTask"]

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import nn

from torchreid_nas import models
from torchreid_nas.architecture import SHARE, ArchitectureSpec
from torchreid_nas.data import DomainAdaptationDataManager
from torchreid_nas.engine import AdaptationOptions, DomainAdaptationEngine
from torchreid_nas.errors import InputError
from torchreid_nas.methods.base import Task


class DomainAdaptationTask(Task):
    """ECN: the training images of ``data.targets`` take part in training, without their labels.

    Where they are of both modalities, neighbours are sought in each in equal
    numbers, and ``model.architecture`` says which BatchNorms are split.
    """

    manager = DomainAdaptationDataManager
    spaces = ()
    plain_architecture = SHARE
    train_class = DomainAdaptationEngine
    harmless = ("data.root", "data.save_dir", "data.cache_dir")

    @classmethod
    def models(cls) -> Sequence[str]:
        return ("ecn_resnet18", "ecn_resnet50")

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        cfg = self.cfg.model
        weights = pretrained and self.pretrained()
        if pretrained and not weights and not cfg.load_weights and cfg.frozen_stages >= 0:
            raise InputError(
                f"model.frozen_stages {cfg.frozen_stages} would freeze random filters, since model.pretrained and "
                "model.load_weights are empty; set model.frozen_stages -1 to train from scratch"
            )
        return getattr(models, cfg.name)(
            num_classes, pretrained=weights, architecture=SHARE if architecture == "none" else architecture,
            width=cfg.width, last_stride=cfg.last_stride, feature_dim=cfg.feature_dim, dropout=cfg.dropout,
            frozen_stages=cfg.frozen_stages,
        )

    def data_options(self, for_test: bool) -> dict[str, Any]:
        ecn = self.cfg.ecn
        if for_test or not ecn.weight_target:
            return {}
        if not self.cfg.data.targets:
            raise InputError("data.targets names no data set to adapt to; name one, or set ecn.weight_target 0")
        return {
            "load_train_targets": list(self.cfg.data.targets), "camstyle": ecn.camstyle,
            "batch_size_target": ecn.batch_size_target or None,
        }

    def engine_options(self) -> dict[str, Any]:
        options = {field: self.cfg.ecn[field] for field in _OPTIONS}
        return {"adaptation": AdaptationOptions(**options), "label_smooth": self.cfg.loss.softmax.label_smooth}

    def describe(self, model: nn.Module) -> dict[str, Any]:
        return {"adaptation": {field: self.cfg.ecn[field] for field in (*_OPTIONS, "camstyle")}}


_OPTIONS = tuple(field.name for field in dataclasses.fields(AdaptationOptions))
