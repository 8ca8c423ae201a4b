"""Domain adaptation with a labelled source and an unlabelled target: ECN (Zhong et al., CVPR 2019), ours for two modalities."""
from __future__ import annotations

__all__ = ["ECNMethod"]

import dataclasses
from typing import TYPE_CHECKING, Any

from torchreid_nas.architecture import SHARE, ArchitectureSpec
from torchreid_nas.config.ecn import ABLATION
from torchreid_nas.errors import InputError
from torchreid_nas.lazy import imported
from torchreid_nas.methods.base import BaseMethod

if TYPE_CHECKING:
    from torch import nn

class ECNMethod(BaseMethod):
    """ECN: the training images of ``data.targets`` take part in training, without their labels.

    Where they are of both modalities, neighbours are sought in each in equal
    numbers, and ``model.architecture`` says which BatchNorms are split.
    """

    name = "ecn"
    factories = {
        name: ("torchreid_nas.models.ecn", name) for name in ("ecn_resnet18", "ecn_resnet34", "ecn_resnet50", "ecn_resnet101")
    }
    plain_architecture = SHARE
    own_keys = (
        "ecn", "model.feature_dim", "model.frozen_stages", "model.freeze_downsample", "model.dropout", "model.last_stride",
    )
    # The targets are trained on.
    decides = ("data.targets",)
    ablation = ABLATION
    manager = imported("torchreid_nas.data.domain_adaptation_manager", "DomainAdaptationDataManager")
    train_class = imported("torchreid_nas.engine.domain_adaptation", "DomainAdaptationEngine")

    def model_options(self) -> dict[str, Any]:
        """Return width and last stride of the network, and what its heads and its frozen stages are."""
        cfg = self.cfg.model
        return {
            "width": cfg.width, "last_stride": cfg.last_stride, "dropout": cfg.dropout, "feature_dim": cfg.feature_dim,
            "frozen_stages": cfg.frozen_stages, "freeze_downsample": cfg.freeze_downsample,
        }

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        """Return an ECN network; an architecture ``none`` shares all BatchNorms.

        Raises:
            InputError: random filters would be frozen.
        """
        cfg = self.cfg.model
        weights = pretrained and self.pretrained()
        if pretrained and not weights and not cfg.load_weights and cfg.frozen_stages >= 0:
            raise InputError(
                f"model.frozen_stages {cfg.frozen_stages} would freeze random filters, since model.pretrained and "
                "model.load_weights are empty; set model.frozen_stages -1 to train from scratch"
            )
        return self.factory()(
            num_classes, pretrained=weights, architecture=SHARE if architecture == "none" else architecture,
            **self.model_options(),
        )

    def data_options(self, for_test: bool) -> dict[str, Any]:
        """Return the targets that take part in training, and the styles of their cameras."""
        ecn = self.cfg.ecn
        if for_test or not ecn.weight_target:
            return {"load_train_targets": []}
        if not self.cfg.data.targets:
            raise InputError("data.targets names no data set to adapt to; name one, or set ecn.weight_target 0")
        return {
            "load_train_targets": list(self.cfg.data.targets), "camstyle": ecn.camstyle,
            "batch_size_target": ecn.batch_size_target or None,
        }

    def engine_options(self) -> dict[str, Any]:
        """Return the options of the adaptation, and the smoothing of the source's labels."""
        from torchreid_nas.engine import AdaptationOptions

        return {"adaptation": AdaptationOptions(**self._adaptation()), "label_smooth": self.cfg.loss.softmax.label_smooth}

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """Return the options of the adaptation."""
        return {"adaptation": {**self._adaptation(), "camstyle": self.cfg.ecn.camstyle}}

    def _adaptation(self) -> dict[str, Any]:
        """Return the keys of the section ``ecn`` that are fields of AdaptationOptions."""
        from torchreid_nas.engine import AdaptationOptions

        return {field.name: self.cfg.ecn[field.name] for field in dataclasses.fields(AdaptationOptions)}
