"""A trained network with the preparation of its images; :mod:`torchreid_nas.zoo.trained` loads one by name."""
from __future__ import annotations

__all__ = ["TrainedModel", "wrap_model"]

import copy
import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from torchreid_nas.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from torchreid_nas.deploy.fold import select_modality
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.layers import MODALITIES, SplitNorm, modality_context
from torchreid_nas.models import TwoStreamNetwork


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network with its weights, and how images are prepared for it.

    Attributes:
        name: the run's folder, ``zoo:NAME``, or a class; the first two load it again.
        model: in eval mode, on the CPU, not deployed.
        height, width: of the network's input, in pixels.
        norm_mean, norm_std: of the RGB channels, in [0, 1].
        interpolation: by which images are resized.
        modalities: ``("visible", "infrared")`` for two-stream networks, empty for all others.
        feature_dim: D of the features (B, D).
    """

    name: str
    model: nn.Module
    height: int
    width: int
    norm_mean: tuple[float, ...]
    norm_std: tuple[float, ...]
    modalities: tuple[str, ...]
    feature_dim: int
    interpolation: str = "bilinear"

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights and preparation: features of two models compare where their fingerprints are equal.

        Classifiers are left out: features do not depend on them, and torchreid's loader may leave them random.
        """
        digest = hashlib.sha256(repr(self._preparation).encode())
        for key, value in sorted(self.model.state_dict().items()):
            if "classifier" not in key:
                digest.update(key.encode())
                digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def _preparation(self) -> tuple[Any, ...]:
        # Features of bilinear images keep the fingerprint that they had before there were other filters.
        other = () if self.interpolation == "bilinear" else (self.interpolation,)
        return self.height, self.width, self.norm_mean, self.norm_std, *other

    def network(self, modality: str | None = None) -> nn.Module:
        """Return the plain test-time network of one modality: (B, 3, height, width) -> (B, ``feature_dim``).

        BatchNorms are folded and the classifier is gone where the model has a
        ``deploy`` method; other models are used as they are. No two calls share tensors.

        Args:
            modality: ``"visible"`` or ``"infrared"``; None for models of one
                modality, and for two-stream ones that split nothing.

        Raises:
            InputError: see :meth:`check_modality`.
        """
        self.check_modality(modality)
        deploy: Callable[[str | None], nn.Module] | None = getattr(self.model, "deploy", None)
        if deploy is not None:
            return deploy(modality)
        return select_modality(self.model, modality) if modality else copy.deepcopy(self.model)

    def check_modality(self, modality: str | None, option: str = "modality") -> None:
        """Raise InputError for a modality that the model does not have, or for none where it must be known.

        Args:
            modality: as :meth:`network` takes it.
            option: what the user sets it by, for the sentence.
        """
        if modality is None and _is_split(self.model):
            raise InputError(
                f'the model "{self.name}" has one network per modality; say by {option} what the images are: '
                f"{' or '.join(self.modalities)}"
            )
        if modality is not None and not self.modalities:
            raise InputError(
                f'the model "{self.name}" has one network for all images, none of its own for the modality '
                f'"{modality}"; leave the modality out, or take a two-stream model'
            )
        if modality is not None and modality not in self.modalities:
            raise InputError(
                f'the modality "{modality}" is unknown to the model "{self.name}", expected '
                f"{' or '.join(self.modalities)}{nearest(modality, self.modalities)}"
            )


def wrap_model(
    model: nn.Module, height: int = 256, width: int = 128, norm_mean: Sequence[float] = IMAGENET_MEAN,
    norm_std: Sequence[float] = IMAGENET_STD, name: str | None = None, interpolation: str = "bilinear",
) -> TrainedModel:
    """Return a copy of a module at hand as a TrainedModel; the module stays as it is.

    The copy has float32 weights: ``precision`` of its users says what it is computed in.

    Args:
        model: maps (B, 3, height, width) to features (B, D) in eval mode; weights of any floating-point dtype.
        height: of its input, in pixels.
        width: of its input, in pixels.
        norm_mean: of the RGB channels in [0, 1]; default ImageNet's, as torchreid's.
        norm_std: likewise.
        name: default the name of its class.
        interpolation: by which images are resized for it.

    Raises:
        InputError: in eval mode the model does not give features of shape (B, D).
    """
    model = copy.deepcopy(model).cpu().float().eval()
    name = name or type(model).__name__
    two_stream = isinstance(model, TwoStreamNetwork) or _is_split(model)
    return TrainedModel(
        name, model, height, width, tuple(norm_mean), tuple(norm_std), MODALITIES if two_stream else (),
        _feature_dim(model, height, width, name), interpolation,
    )




def _is_split(model: nn.Module) -> bool:
    return any(isinstance(module, SplitNorm) for module in model.modules())


@torch.no_grad()
def _feature_dim(model: nn.Module, height: int, width: int, name: str) -> int:
    # An attribute feature_dim may be wrong: torchreid's PCB gives several times as many features.
    with modality_context(MODALITIES[0]):
        features = model(torch.zeros(1, 3, height, width))
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        what = tuple(features.shape) if isinstance(features, torch.Tensor) else type(features).__name__
        raise InputError(
            f'the model "{name}" answers {height}x{width} images with {what} in eval mode, expected features of shape '
            "(images, features); pass a re-identification network"
        )
    return features.shape[1]
