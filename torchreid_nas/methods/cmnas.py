"""Visible-infrared re-identification with two-stream networks (CM-NAS)."""
from __future__ import annotations

__all__ = ["CrossModalityTask"]

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.utils.data import DataLoader

from torchreid_nas import models
from torchreid_nas.architecture import BN_SPACE, SHARE, ArchitectureSpec
from torchreid_nas.data import CrossModalityDataManager
from torchreid_nas.engine import CrossModalityEngine, CrossModalityLossWeights, CrossModalitySearchEngine
from torchreid_nas.errors import InputError
from torchreid_nas.layers import SplitBatchNorm2d, bn_slots
from torchreid_nas.methods.base import Task
from torchreid_nas.models.size import COST_KINDS
from torchreid_nas.search import SearchSpace, find_space


class CrossModalityTask(Task):
    """CM-NAS: which BatchNorms of a two-stream network the modalities share."""

    manager = CrossModalityDataManager
    spaces = (BN_SPACE,)
    plain_architecture = SHARE
    train_class, search_class = CrossModalityEngine, CrossModalitySearchEngine
    standardizes = True

    @classmethod
    def models(cls) -> Sequence[str]:
        return ("two_stream_resnet18", "two_stream_resnet50", "two_stream_cdnet")

    def check_batch(self) -> None:
        size, instances = self.cfg.train.batch_size, self.cfg.sampler.num_instances
        step = 2 * instances
        # With one identity there is no negative, and nothing to tell apart.
        if size % step or size < 2 * step:
            raise InputError(
                f"train.batch_size is {size}, expected a multiple of {step} of at least {2 * step} "
                f"(2 × sampler.num_instances {instances} images for each of at least 2 identities)"
            )

    def check_space(self) -> None:
        super().check_space()
        for kind in COST_KINDS:
            if self.cfg.search.budget[kind]:
                raise InputError(
                    f"search.budget.{kind} is a target for CDNet's blocks and has no effect on search.space bn_split; set it 0, "
                    "and search.split_cost for fewer split BatchNorms"
                )

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        cfg = self.cfg.model
        options: dict[str, Any] = {} if cfg.name == "two_stream_cdnet" else {"last_stride": cfg.last_stride}
        if pretrained and cfg.pretrained == "imagenet" and cfg.width != 1:
            raise InputError(
                f"model.pretrained imagenet fits model.width 1 only, got {cfg.width}; set model.pretrained False"
            )
        return getattr(models, cfg.name)(
            num_classes, architecture, pretrained=pretrained and self.pretrained(), width=cfg.width,
            standardize_input=cfg.standardize_input, **options,
        )

    def space(self, model: nn.Module | None = None) -> SearchSpace:
        self.check_space()
        return find_space(self.cfg.search.space).from_config(self.cfg.search)

    def search_split(self, data: CrossModalityDataManager) -> tuple[DataLoader, DataLoader, int]:
        search = self.cfg.search
        return data.search_split(
            by=search.split, fraction=search.val_fraction or None, num_batches=data.num_batches
        )

    def search_options(self) -> dict[str, Any]:
        search = self.cfg.search
        return {
            "sample": search.sampling == "gumbel", "metric_only": search.split == "identity",
            "cost_weight": search.split_cost,
        }

    def describe(self, model: nn.Module) -> dict[str, Any]:
        slots = bn_slots(model.backbone)
        split = sum(isinstance(model.backbone.get_submodule(slot), SplitBatchNorm2d) for slot in slots)
        return {"slots": len(slots), "split_slots": split}

    def engine_options(self) -> dict[str, Any]:
        loss = self.cfg.loss
        weights = CrossModalityLossWeights(
            loss.triplet.weight_x, loss.triplet.weight_t, loss.triplet.margin, loss.c3mmd.weight_correlation,
            loss.c3mmd.weight_mmd, loss.softmax.label_smooth,
        )
        return {"num_instances": self.cfg.sampler.num_instances, "losses": weights}
