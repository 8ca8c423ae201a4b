"""Networks without a search: torchreid's own, as controls beside CDNet, and CDNet's factories of a fixed width."""
from __future__ import annotations

__all__ = ["BaselineMethod"]

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.errors import InputError
from torchreid_nas.methods.cdnet import CDNetMethod

if TYPE_CHECKING:
    from torch import nn


class BaselineMethod(CDNetMethod):
    """Any network that torchreid knows, as its name says, trained with CDNet's recipe.

    A model that no other method names belongs to this one.
    """

    name = "baseline"
    factories = {name: ("torchreid_nas.models.cdnet", name) for name in ("cdnet_x0_75", "cdnet_x0_5", "cdnet_x0_25")}
    spaces = ()
    plain_architecture = "none"
    own_keys: ClassVar[Sequence[str]] = ("model.neck", "model.dropout", "loss.triplet", "sampler")

    @classmethod
    def models(cls) -> Sequence[str]:
        """Return the names of all models that torchreid knows."""
        from torchreid_nas.host import MODELS

        return tuple(MODELS)

    def model_options(self) -> dict[str, Any]:
        """Return neck and dropout where another head than the network's own is asked for."""
        cfg = self.cfg.model
        return {} if cfg.neck == "own" else {"neck": cfg.neck, "dropout": cfg.dropout}

    def _neck(self) -> str:
        """Return ``model.neck``: the own head of the network is no neck of CDNet's."""
        neck: str = self.cfg.model.neck
        return neck

    def check_space(self) -> None:
        """Refuse a search, unless a space from outside searches the model."""
        if self.outside_spaces():
            super().check_space()
            return
        searched = ", ".join(CDNetMethod.factories)
        raise InputError(
            f"there is nothing to search in model.name {self.cfg.model.name}, which is none of {searched}; leave search out of "
            "--stages and set model.architecture none"
        )

    def _build(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool, neck: str) -> nn.Module:
        cfg = self.cfg.model
        for key, value, without in (("architecture", architecture, "none"), ("width", cfg.width, 1)):
            if value != without:
                raise InputError(
                    f"model.{key} is {value}, which model.name {cfg.name}, a network as its name says, would not heed; "
                    f"set model.{key} {without}, or one of {', '.join(CDNetMethod.factories)} as model.name"
                )
        weights = pretrained and (self._fetched() or self.pretrained())
        from torchreid_nas.models.host_networks import build_host_network

        model = build_host_network(cfg.name, num_classes, weights is True, self.device.type == "cuda")
        if neck == "own":
            return self._with_file(model, weights)
        from torchreid_nas.models.cdnet_weights import has_neck, load_pretrained
        from torchreid_nas.models.necked import attach_neck

        necked = isinstance(weights, Path) and has_neck(weights)
        model = attach_neck(model if necked else self._with_file(model, weights), neck, num_classes, cfg.dropout, "triplet")
        if isinstance(weights, Path) and necked:
            load_pretrained(model, weights)
        return model

    def _with_file(self, model: nn.Module, weights: bool | Path) -> nn.Module:
        """Return the network with the weights of a file, where a file is named; torchreid's factories take none."""
        if not isinstance(weights, Path):
            return model
        from torchreid_nas.checkpoints.load import load_weights

        return load_weights(model, weights)

    def _fetched(self) -> Path | None:
        """Return the file of ImageNet weights that the config asks for; None where torchreid's own loader gets them."""
        from torchreid_nas.hub.imagenet import fetch_weights, weights_of_model

        known = weights_of_model(self.cfg.model.name) if self.pretrained() is True else None
        return fetch_weights(known) if known is not None else None

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """Return the candidate of each block of a CDNet, nothing of other networks."""
        return super().describe(model) if hasattr(model, "architecture") else {}

    def figure_options(self) -> dict[str, Any]:
        """Return nothing: there is no picture of an architecture."""
        return {}
