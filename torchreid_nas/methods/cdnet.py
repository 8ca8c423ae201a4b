"""Re-identification within one modality: CDNet, its search, and torchreid's own models as controls."""
from __future__ import annotations

__all__ = ["SingleModalityTask"]

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torchreid
from torch import nn
from torch.utils.data import DataLoader

from torchreid_nas import models
from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.checkpoints.load import load_weights
from torchreid_nas.data import IdentityDataManager
from torchreid_nas.engine import BalanceNeckEngine, BalanceNeckSearchEngine
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import COMBINED_DEPTH_SPACE, COMBINED_SPACE
from torchreid_nas.host import MODELS
from torchreid_nas.methods.base import Task
from torchreid_nas.models.size import COST_KINDS
from torchreid_nas.search import SearchSpace, find_space

_CDNETS = ("cdnet", "cnet")


class SingleModalityTask(Task):
    """CDNet: which kernels and depth each block has. Torchreid's own models train with the same recipe."""

    manager = IdentityDataManager
    spaces = (COMBINED_DEPTH_SPACE, COMBINED_SPACE)
    plain_architecture = "cdnet"
    train_class, search_class = BalanceNeckEngine, BalanceNeckSearchEngine

    @classmethod
    def models(cls) -> Sequence[str]:
        return (*_CDNETS, *(name for name in MODELS if name not in _CDNETS))

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        return self._build(num_classes, architecture, pretrained, self.cfg.model.neck)

    def build_unsearched(self, num_classes: int, pretrained: bool = True) -> nn.Module:
        neck = self.cfg.search.neck or self.cfg.model.neck
        return self._build(num_classes, self.plain_architecture, pretrained, neck)

    def _build(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool, neck: str) -> nn.Module:
        cfg = self.cfg.model
        weights = pretrained and self.pretrained()
        if cfg.name not in _CDNETS:
            for key, value, without in (("architecture", architecture, "none"), ("width", cfg.width, 1)):
                if value != without:
                    raise InputError(
                        f"model.{key} is {value}, which model.name {cfg.name}, a network as its name says, would not heed; "
                        f"set model.{key} {without}, or one of {', '.join(_CDNETS)} as model.name"
                    )
            model = torchreid.models.build_model(
                cfg.name, num_classes, loss="triplet", pretrained=weights is True, use_gpu=self.device.type == "cuda"
            )
            # Torchreid's own take no file.
            return load_weights(model, weights) if isinstance(weights, Path) else model
        return models.cdnet(
            num_classes, loss="triplet", pretrained=weights, architecture=architecture, neck=neck, width=cfg.width,
            dropout=cfg.dropout,
        )

    def check_space(self) -> None:
        if self.cfg.model.name not in _CDNETS and not self.outside_spaces():
            raise InputError(
                f"there is nothing to search in model.name {self.cfg.model.name}, which is none of {', '.join(_CDNETS)}; leave "
                "search out of --stages and set model.architecture none"
            )
        super().check_space()

    def space(self, model: nn.Module | None = None) -> SearchSpace:
        self.check_space()
        search = self.cfg.search
        space = find_space(search.space).from_config(search)
        if model is not None and self._budget():
            kind, target = self._budget()
            if search.neck and search.neck != self.cfg.model.neck:
                # The target is one for the network at test time, which has another neck.
                model = space.build_supernet(self.build_model(1, self.plain_architecture, pretrained=False)).to(self.device)
            space.set_budget(
                model, kind, target, search.budget.weight, (self.cfg.data.height, self.cfg.data.width)
            )
        return space

    def search_split(self, data: IdentityDataManager) -> tuple[DataLoader, DataLoader, int]:
        return data.search_split(images=self.cfg.search.val_images, overlap=self.cfg.search.overlap)

    def search_options(self) -> dict[str, Any]:
        return {"sample": True, "metric_only": False, "cost_weight": 1.0 if self._budget() else 0.0}

    def describe(self, model: nn.Module) -> dict[str, Any]:
        architecture = getattr(model, "architecture", None)
        return {"architecture": dict(architecture.choices)} if architecture is not None else {}

    def figure_options(self) -> dict[str, Any]:
        model, data = self.cfg.model, self.cfg.data
        return {"height": data.height, "width": data.width, "neck": model.neck, "model_width": model.width}

    def engine_options(self) -> dict[str, Any]:
        loss = self.cfg.loss
        return {
            "margin": loss.triplet.margin, "weight_x": loss.triplet.weight_x, "weight_t": loss.triplet.weight_t,
            "label_smooth": loss.softmax.label_smooth,
        }

    def _budget(self) -> tuple[str, float] | None:
        given = [(kind, self.cfg.search.budget[kind]) for kind in COST_KINDS if self.cfg.search.budget[kind]]
        if len(given) > 1:
            raise InputError(
                f"search.budget sets {' and '.join(kind for kind, _ in given)}, expected one; set the others to 0"
            )
        return given[0] if given else None
