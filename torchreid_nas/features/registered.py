"""Trained models under names that torchreid itself builds, its own ``FeatureExtractor`` included."""
from __future__ import annotations

__all__ = ["register_trained"]

import functools
import os
from collections.abc import Callable

from torch import nn

from torchreid_nas.checkpoints.trained import TrainedModel
from torchreid_nas.host import register_model
from torchreid_nas.zoo.trained import load_trained


def register_trained(
    model: str | os.PathLike[str] | TrainedModel, modality: str | None = None, name: str | None = None
) -> str:
    """Make ``torchreid.models.build_model`` give a trained network in its test-time form, weights included.

    For torchreid's own tools, which know no modalities, no searched
    architectures and no widths::

        name = torchreid_nas.features.register_trained("runs/demo", "infrared")
        extractor = torchreid.utils.FeatureExtractor(name, image_size=(128, 64), device="cpu")

    Every build loads the weights again. Registering the same again is harmless.

    Args:
        model: the folder of a run, a name of the zoo, or a TrainedModel.
        modality: ``"visible"`` or ``"infrared"`` for two-stream models, else None.
        name: default the model's own and the modality, ``runs/demo:infrared``.

    Returns:
        The name.

    Raises:
        InputError: the model or its modality cannot be had.
        ValueError: torchreid already has another model of that name.
    """
    model = model if isinstance(model, TrainedModel) else os.fspath(model)
    trained = _trained(model)
    trained.check_modality(modality)
    name = name or ":".join(filter(None, (trained.name, modality)))
    register_model(name, _factory(model, modality))
    return name


def _trained(model: str | TrainedModel) -> TrainedModel:
    return model if isinstance(model, TrainedModel) else load_trained(model)


@functools.cache
def _factory(model: str | TrainedModel, modality: str | None) -> Callable[..., nn.Module]:
    def build(num_classes: int, loss: str = "softmax", pretrained: bool = True, use_gpu: bool = True) -> nn.Module:
        return _trained(model).network(modality)

    return build
