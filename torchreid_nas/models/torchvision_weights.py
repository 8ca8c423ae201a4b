"""The layouts of torchvision's ImageNet files, for torchreid's networks of the same architecture."""
from __future__ import annotations

__all__ = ["in_torchreids_layout"]

import re
from collections.abc import Mapping

import torch

from torchreid_nas.state_dicts import COUNTER

_HEAD = re.compile(r"(?:fc|classifier|head|AuxLogits)\b")
_DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)")
_MOBILENET = "features.0.0.weight", "conv2.0.conv1.conv.weight"
# torchreid's first inverted residual expands by a factor of 1, by a convolution of this name that torchvision leaves out.
_FIRST = "conv2.0.conv1."
_BN = ("weight", "bias", "running_mean", "running_var")
_EPS = 1e-5


def in_torchreids_layout(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict with the keys of torchreid's network where the file has torchvision's, without the head.

    ResNets and ResNeXts differ by the head alone (``fc``), DenseNets also by
    dots in their names, and MobileNetV2 by all names and by one convolution
    more, which becomes the identity. Other state dicts keep their keys.

    Args:
        state: of the file.
        own: of the network.
    """
    named = {_DENSE.sub(r"\1\2", key) if _DENSE.sub(r"\1\2", key) in own else key: value for key, value in state.items()}
    if _MOBILENET[0] in state and _MOBILENET[1] in own:
        named = _mobilenet(state, own)
    return {key: value for key, value in named.items() if key in own or not _HEAD.match(key)}


def _mobilenet(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the layers of torchvision's MobileNetV2 the names of torchreid's, in their common order."""
    theirs = [key for key in state if key.startswith("features.") and not key.endswith(COUNTER)]
    ours = [
        key for key in own if not key.startswith((_FIRST, "classifier", "fc")) and not key.endswith(COUNTER)
    ]
    named = {ours_key: state[key] for ours_key, key in zip(ours, theirs)} if len(ours) == len(theirs) else {}
    channels = own[f"{_FIRST}conv.weight"].shape[0]
    identity = torch.eye(channels).view(channels, channels, 1, 1)
    # Running variance and epsilon add up to 1, so that the BatchNorm changes nothing.
    norm = (torch.ones(channels), torch.zeros(channels), torch.zeros(channels), torch.full((channels,), 1 - _EPS))
    first = {f"{_FIRST}bn.{name}": value for name, value in zip(_BN, norm)}
    return {**named, f"{_FIRST}conv.weight": identity, **first} if named else dict(state)
