"""The layout of AGW's and CAJ's checkpoints (github.com/mangye16/Cross-Modal-Re-ID-baseline)."""
from __future__ import annotations

__all__ = ["authors_keys", "has_layout", "unused_keys"]

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torchreid_nas.models.two_stream_weights import stored_keys
from torchreid_nas.state_dicts import COUNTER

if TYPE_CHECKING:
    from torchreid_nas.models.two_stream import TwoStreamNetwork

_STEMS = {"visible": "visible_module.visible.", "infrared": "thermal_module.thermal."}
_BASE = "base_resnet.base."
_HEAD = {"bnneck": "bottleneck", "classifier": "classifier"}


def has_layout(keys: Iterable[str]) -> bool:
    """Return whether the keys of a state dict are of this layout.

    >>> has_layout(["base_resnet.base.layer1.0.conv1.weight"]), has_layout(["backbone.conv1.weight"])
    (True, False)
    """
    return any(key.startswith(_BASE) for key in keys)


def authors_keys(model: TwoStreamNetwork) -> dict[str, str]:
    """Map every key of :func:`~torchreid_nas.models.two_stream_weights.stored_keys` to the key of the authors.

    Norms that the authors do not split keep the names of their parts, which no file of the authors has.
    """
    keys = {}
    for key in stored_keys(model):
        root, _, rest = key.partition(".")
        layer, _, inner = rest.partition(".")
        modality, _, last = inner.partition(".")
        if root != "backbone":
            keys[key] = f"{_HEAD[root]}.{rest}"
        elif layer in ("conv1", "bn1") and modality in _STEMS:
            keys[key] = f"{_STEMS[modality]}{layer}.{last}"
        elif layer.startswith("NL_"):
            keys[key] = rest
        else:
            keys[key] = f"{_BASE}{rest}"
    return keys


def unused_keys(keys: Iterable[str]) -> set[str]:
    """Return which keys of a file the network does not use: what the authors keep of three whole ResNets, step counters.

    >>> sorted(unused_keys(["thermal_module.thermal.layer1.0.conv1.weight", "NL_2.0.W.1.num_batches_tracked", "NL_2.0.phi.bias"]))
    ['NL_2.0.W.1.num_batches_tracked', 'thermal_module.thermal.layer1.0.conv1.weight']
    """
    # The forward pass of the authors takes conv1 and bn1 of two of the ResNets, and all other layers of the third one.
    idle = tuple(f"{prefix}{layer}" for prefix in _STEMS.values() for layer in ("layer", "fc."))
    idle += tuple(f"{_BASE}{layer}." for layer in ("conv1", "bn1", "fc"))
    return {key for key in keys if key.startswith(idle) or key.endswith(COUNTER)}
