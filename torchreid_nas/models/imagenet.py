"""A start from torchvision's ImageNet weights, for backbones of this package."""
from __future__ import annotations

__all__ = ["check_full_width", "load_fitting", "load_imagenet"]

import os
import urllib.error
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
import torchvision
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.files import load_checkpoint
from torchreid_nas.hub.imagenet import IMAGENET, fetch_weights
from torchreid_nas.state_dicts import COUNTER, find_state


def check_full_width(width: float) -> None:
    """Refuse a width for which there are no ImageNet weights.

    Raises:
        InputError: the width is not 1.
    """
    if width != 1:
        raise InputError(
            f"ImageNet weights exist for model.width 1 only, got {width}; set model.pretrained False to train from scratch"
        )


def load_imagenet(
    backbone: nn.Module, source: Literal[True] | str | os.PathLike[str], model: str, title: str,
    theirs: Callable[[str], str] = str,
) -> None:
    """Load ImageNet weights into a backbone whose BatchNorms are not split yet.

    Step counters that the file lacks stay as they are; what the file has beside the backbone, its head, is left out.

    Args:
        backbone: the network without head.
        source: ``True`` for torchvision's V1 weights, downloaded once into torch's cache
            (:func:`torchreid_nas.hub.imagenet.fetch_weights` for the files that it knows), or a file.
        model: torchvision's name of the network: ``"resnet50"``.
        title: the network's name in messages: ``"ResNet-50"``.
        theirs: gives torchvision's name of a key of the backbone.

    Raises:
        InputError: the weights cannot be downloaded or read, or they are of another network.
    """
    state, name = _torchvisions(model) if source is True else _from_file(source)
    load_fitting(backbone, state, name, title, theirs)


def load_fitting(
    network: nn.Module, state: Mapping[str, torch.Tensor], name: str, title: str, theirs: Callable[[str], str] = str,
) -> None:
    """Load weights into a network without head; what they have beside its keys is left out.

    Args:
        network: keeps its step counters where the weights lack them.
        state: the weights.
        name: of the weights, for a message.
        title: of the network, for a message.
        theirs: gives the name that the weights have for a key of the network.

    Raises:
        InputError: a key is missing or of another shape.
    """
    given = {}
    for key, value in network.state_dict().items():
        found = state.get(theirs(key), value if key.endswith(COUNTER) else None)
        if found is None or found.shape != value.shape:
            raise InputError(
                f'the weights {name} do not fit {title}: "{theirs(key)}" is '
                + (f"{tuple(found.shape)}, expected {tuple(value.shape)}" if found is not None else "missing")
            )
        given[key] = found
    network.load_state_dict(given)


def _torchvisions(model: str) -> tuple[dict[str, torch.Tensor], str]:
    weights = torchvision.models.get_model_weights(model).IMAGENET1K_V1
    name = f"torchvision's {weights}"
    known = next((known for known in IMAGENET.values() if known.model == model), None)
    if known is not None:
        return _from_file(fetch_weights(known))[0], name
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        raise InputError(
            f'the ImageNet weights "{Path(weights.url).name}" could not be downloaded ({error}); put the file into '
            f'"{cache}" or name it with model.pretrained PATH, or train from scratch with model.pretrained False'
        ) from error
    return dict(state), name


def _from_file(source: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], str]:
    name = f'"{source}"'
    return find_state(load_checkpoint(source), f"the file of weights {name}"), name
