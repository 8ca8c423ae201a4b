"""Re-identification within one modality: CDNet (Li et al., CVPR 2021) and its search."""
from __future__ import annotations

__all__ = ["CDNetMethod"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import COMBINED_DEPTH_SPACE, COMBINED_SPACE
from torchreid_nas.lazy import imported
from torchreid_nas.methods.base import BaseMethod

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import DataLoader

    from torchreid_nas.search import SearchSpace


class CDNetMethod(BaseMethod):
    """CDNet: which kernels and depth each block has."""

    name = "cdnet"
    factories = {name: ("torchreid_nas.models.cdnet", name) for name in ("cdnet", "cnet")}
    spaces: ClassVar[Sequence[str]] = (COMBINED_DEPTH_SPACE, COMBINED_SPACE)
    plain_architecture = "cdnet"
    own_keys: ClassVar[Sequence[str]] = (
        "model.neck", "model.small_images", "model.dropout", "model.fusion_gate", "model.convolutions", "loss.triplet", "sampler",
        "search", "search.neck", "search.relaxation", "search.k", "search.tie_jitter", "search.last_conv", "search.val_images",
        "search.overlap", "search.budget",
    )
    manager = imported("torchreid_nas.data.identity_manager", "IdentityDataManager")
    train_class = imported("torchreid_nas.engine.balance", "BalanceNeckEngine")
    search_class = imported("torchreid_nas.engine.search", "BalanceNeckSearchEngine")

    def model_options(self) -> dict[str, Any]:
        """Return width, neck, dropout and stem of the network, and what its blocks are made of."""
        cfg = self.cfg.model
        return {
            "width": cfg.width, "neck": self._neck(), "dropout": cfg.dropout, "small_images": cfg.small_images,
            "fusion_gate": cfg.fusion_gate, "convolutions": cfg.convolutions,
        }

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        """Return a CDNet with the neck of ``model.neck``."""
        return self._build(num_classes, architecture, pretrained, self._neck())

    def build_unsearched(self, num_classes: int, pretrained: bool = True) -> nn.Module:
        """Return a CDNet with the neck of ``search.neck``."""
        return self._build(num_classes, self.plain_architecture, pretrained, self.cfg.search.neck or self._neck())

    def _neck(self) -> str:
        """Return the name of the neck; a CDNet's own is FBLNeck."""
        neck: str = self.cfg.model.neck
        return "fblneck" if neck == "own" else neck

    def _build(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool, neck: str) -> nn.Module:
        return self.factory()(
            num_classes, loss="triplet", pretrained=pretrained and self.pretrained(), architecture=architecture,
            **{**self.model_options(), "neck": neck},
        )

    def space(self, model: nn.Module | None = None) -> SearchSpace:
        """Return the space of blocks, with its budget for the supernet ``model`` where the config has one."""
        search, space = self.cfg.search, super().space()
        budget = self._budget()
        if model is not None and budget is not None:
            if search.neck and search.neck != self._neck():
                # The target is one for the network at test time, which has another neck.
                model = space.build_supernet(self.build_model(1, self.plain_architecture, pretrained=False)).to(self.device)
            space.set_budget(model, *budget, search.budget.weight, (self.cfg.data.height, self.cfg.data.width))
        return space

    def search_split(self, data: Any) -> tuple[DataLoader[Any], DataLoader[Any], int]:
        """Split the training data by images of each identity."""
        loaders: tuple[DataLoader[Any], DataLoader[Any], int] = data.search_split(
            images=self.cfg.search.val_images, overlap=self.cfg.search.overlap
        )
        return loaders

    def search_options(self) -> dict[str, Any]:
        """Return the options of a search that samples, by all losses, with the budget's term if there is a budget."""
        return {"sample": True, "metric_only": False, "cost_weight": 1.0 if self._budget() else 0.0}

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """Return the candidate of each block."""
        architecture: Any = model.architecture
        return {"architecture": dict(architecture.choices)}

    def figure_options(self) -> dict[str, Any]:
        """Return the input's size, and neck, width and stem of the network."""
        model, data = self.cfg.model, self.cfg.data
        return {
            "height": data.height, "width": data.width, "neck": self._neck(), "model_width": model.width,
            "small_images": model.small_images,
        }

    def engine_options(self) -> dict[str, Any]:
        """Return margin and loss weights of cross-entropy and triplet loss."""
        loss = self.cfg.loss
        return {
            "margin": loss.triplet.margin, "weight_x": loss.triplet.weight_x, "weight_t": loss.triplet.weight_t,
            "label_smooth": loss.softmax.label_smooth, "normalize": loss.triplet.normalize,
        }

    def _budget(self) -> tuple[str, float] | None:
        """Return kind and target of the budget, None where every target is 0."""
        from torchreid_nas.models.size import COST_KINDS

        given = [(kind, self.cfg.search.budget[kind]) for kind in COST_KINDS if self.cfg.search.budget[kind]]
        if len(given) > 1:
            raise InputError(
                f"search.budget sets {' and '.join(kind for kind, _ in given)}, expected one; set the others to 0"
            )
        return given[0] if given else None
