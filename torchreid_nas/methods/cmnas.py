"""Visible-infrared re-identification with two-stream networks: CM-NAS (Fu et al., ICCV 2021), and AGW and CAJ beside it."""
from __future__ import annotations

__all__ = ["CMNASMethod"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torchreid_nas.architecture import BN_SPACE, SHARE, ArchitectureSpec
from torchreid_nas.errors import InputError
from torchreid_nas.lazy import imported
from torchreid_nas.methods.base import BaseMethod

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader


class CMNASMethod(BaseMethod):
    """Two-stream networks: which norms the modalities share (CM-NAS), and the recipes of AGW and CAJ.

    AGW and CAJ are the networks ``agw_*`` and values of ``loss.triplet.kind`` and ``data.channels``. The search of CM-NAS
    finds split norms in every network and under every recipe here (ours).
    """

    name = "cmnas"
    factories = {
        name: ("torchreid_nas.models.two_stream", name)
        for name in ("two_stream", "two_stream_resnet18", "two_stream_resnet50", "two_stream_mobilenetv2", "two_stream_cdnet")
    } | {name: ("torchreid_nas.models.agw", name) for name in ("agw_resnet18", "agw_resnet50")}
    spaces = (BN_SPACE,)
    plain_architecture = SHARE
    own_keys = (
        "model.last_stride", "model.classifier_dropout", "model.separate",
        "data.channels", "loss.triplet", "loss.triplet.kind", "loss.triplet.alpha", "loss.triplet.gamma", "loss.c3mmd",
        "sampler", "search", "search.method", "search.paths", "search.margin",
        "search.sampling", "search.split", "search.val_fraction", "search.split_cost", "search.train_affine",
    )
    standardizes = True
    manager = imported("torchreid_nas.data.cross_modality_manager", "CrossModalityDataManager")
    train_class = imported("torchreid_nas.engine.cross_modality", "CrossModalityEngine")
    search_class = imported("torchreid_nas.engine.search", "CrossModalitySearchEngine")
    path_search_class = imported("torchreid_nas.engine.path_search", "CrossModalityPathSearchEngine")

    @classmethod
    def reads(cls, model: str) -> Sequence[str]:
        """Return the own keys; CDNet's backbone has no ``model.last_stride``, and AGW's stem is separate in any case."""
        without = "model.last_stride" if model == "two_stream_cdnet" else "model.separate" if model.startswith("agw_") else ""
        return [key for key in cls.own_keys if key != without]

    def data_options(self, for_test: bool) -> dict[str, Any]:
        """Return the rules of channel augmentation, CAJ's."""
        from torchreid_nas.data import Channels

        return {"channels": Channels(**self.cfg.data.channels)}

    def check_batch(self) -> None:
        """Refuse a batch without whole identities in both modalities, or of one identity."""
        size, instances = self.cfg.train.batch_size, self.cfg.sampler.num_instances
        step = 2 * instances
        # With one identity there is no negative, and nothing to tell apart.
        if size % step or size < 2 * step:
            raise InputError(
                f"train.batch_size is {size}, expected a multiple of {step} of at least {2 * step} "
                f"(2 × sampler.num_instances {instances} images for each of at least 2 identities)"
            )

    def check_space(self) -> None:
        """Refuse what the base class refuses, and a budget, which spaces of blocks alone have."""
        from torchreid_nas.models.size import COST_KINDS

        super().check_space()
        for kind in COST_KINDS:
            if self.cfg.search.budget[kind]:
                raise InputError(
                    f"search.budget.{kind} is a target for CDNet's blocks and has no effect on search.space norm_split; set it "
                    "0, and search.split_cost for fewer split BatchNorms"
                )

    def model_options(self) -> dict[str, Any]:
        """Return width and input of the network, the backbone of any, and the last stride where there is one."""
        cfg, data = self.cfg.model, self.cfg.data
        stride = {"last_stride": cfg.last_stride} if "model.last_stride" in self.reads(cfg.name) else {}
        backbone = {"backbone": cfg.backbone, "image_size": [data.height, data.width]} if cfg.name == "two_stream" else {}
        return {"width": cfg.width, **stride, **backbone, "standardize_input": cfg.standardize_input,
                "classifier_dropout": cfg.classifier_dropout}

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        """Return a two-stream network whose norms are split as ``architecture`` says."""
        cfg = self.cfg.model
        if pretrained and cfg.pretrained == "imagenet" and cfg.width != 1:
            raise InputError(
                f"model.pretrained imagenet fits model.width 1 only, got {cfg.width}; set model.pretrained False"
            )
        if cfg.separate != "norms" and "model.separate" not in self.reads(cfg.name):
            raise InputError(
                f"model.separate is {cfg.separate}, which model.name {cfg.name}, whose stem alone is separate, would not heed; "
                "set it norms, or a two_stream network as model.name"
            )
        model: Any = self.factory()(
            num_classes, architecture, pretrained=pretrained and self.pretrained(), **self.model_options(),
        )
        if cfg.separate == "convolutions":
            from torchreid_nas.layers import split_convolutions

            split_convolutions(model.backbone)
        return model

    def search_split(self, data: Any) -> tuple[DataLoader[Any], DataLoader[Any], int]:
        """Split the training data by identity or by image."""
        search = self.cfg.search
        # Retrieval as at test time sees images as at test time.
        loaders: tuple[DataLoader[Any], DataLoader[Any], int] = data.search_split(
            by=search.split, fraction=search.val_fraction or None, num_batches=data.num_batches,
            augment_validation=not self.searches_paths(self.cfg),
        )
        return loaders

    def search_options(self) -> dict[str, Any]:
        """Return sampling, the loss of the validation part and the loss weight of split slots."""
        search = self.cfg.search
        return {
            "sample": search.sampling == "gumbel", "metric_only": search.split == "identity",
            "cost_weight": search.split_cost,
        }

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """Return the numbers of slots and of split slots."""
        from torchreid_nas.layers import SplitNorm, norm_slots

        backbone: Any = model.backbone
        slots = norm_slots(backbone)
        split = sum(isinstance(backbone.get_submodule(slot), SplitNorm) for slot in slots)
        return {"slots": len(slots), "split_slots": split}

    def engine_options(self) -> dict[str, Any]:
        """Return K, and the loss weights and options of the total loss."""
        from torchreid_nas.engine import CrossModalityLossWeights

        loss = self.cfg.loss
        weights = CrossModalityLossWeights(
            loss.triplet.weight_x, loss.triplet.weight_t, loss.triplet.margin, loss.c3mmd.weight_correlation,
            loss.c3mmd.weight_mmd, loss.softmax.label_smooth, loss.triplet.normalize, loss.triplet.kind, loss.triplet.alpha,
            loss.triplet.gamma,
        )
        return {"num_instances": self.cfg.sampler.num_instances, "losses": weights}
