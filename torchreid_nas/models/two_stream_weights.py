"""The layout of the CM-NAS authors' checkpoints (github.com/JDAI-CV/CM-NAS)."""
from __future__ import annotations

__all__ = ["authors_keys", "stored_keys", "unused_keys"]

import re
from typing import TYPE_CHECKING

from torchreid_nas.layers import bn_slots
from torchreid_nas.state_dicts import COUNTER

if TYPE_CHECKING:
    from torchreid_nas.models.two_stream import TwoStreamNetwork

_BN_NAMES = {"visible": "visible_bn", "infrared": "thermal_bn", "share": "sharable_bn"}


def stored_keys(model: TwoStreamNetwork) -> list[str]:
    """Return the keys of the state dict of ``model`` that a file of authors has under some name.

    Step counters are left out, which a file may lack, and the statistics of ``standardize_input``, a control of ours.
    """
    return [key for key in model.state_dict() if not key.startswith("standardize.") and key.rpartition(".")[2] != COUNTER]


def authors_keys(model: TwoStreamNetwork) -> dict[str, str]:
    """Map every key of :func:`stored_keys` to the key of the authors."""
    slots = {f"backbone.{slot}" for slot in bn_slots(model.backbone)}
    keys = {}
    for key in stored_keys(model):
        module, _, tensor = key.rpartition(".")
        parent, _, leaf = module.rpartition(".")
        if parent in slots:
            keys[key] = f"{_authors_module(parent)}.{_BN_NAMES[leaf]}.{tensor}"
        elif module in slots:
            keys[key] = f"{_authors_module(module)}.{_BN_NAMES['share']}.{tensor}"
        else:
            keys[key] = f"{_authors_module(module)}.{tensor}"
    return keys


def unused_keys(model: TwoStreamNetwork) -> set[str]:
    """Return the keys that the authors store and the model does not use: other BatchNorms of a slot, step counters."""
    tensors = ("weight", "bias", "running_mean", "running_var", COUNTER)
    slots = [f"backbone.{slot}" for slot in bn_slots(model.backbone)]
    modules = [f"{_authors_module(slot)}.{bn}" for slot in slots for bn in _BN_NAMES.values()] + ["bnneck"]
    return {f"{module}.{tensor}" for module in modules for tensor in tensors}


def _authors_module(path: str) -> str:
    """Translate the dotted path of a module here into the path of the authors."""
    path = re.sub(r"downsample\.0$", "downsample.conv", path)
    return re.sub(r"downsample\.1$", "downsample.bn", path)
