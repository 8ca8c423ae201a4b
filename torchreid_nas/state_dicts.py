"""State dicts in files of many makers: where they lie, and what wrappers add to their keys."""
from __future__ import annotations

__all__ = ["COUNTER", "ENTRIES", "find_state"]

import re
from collections.abc import Mapping
from typing import Any

import torch

from torchreid_nas.errors import InputError, shown

ENTRIES = ("state_dict", "model", "net", "network", "module", "model_state_dict", "ema")
"""Entries under which files keep a state dict; the first that is there and not empty is taken."""

COUNTER = "num_batches_tracked"
"""Last part of the key of a BatchNorm's step counter, which files may lack."""

_DEPTH = 8
# DataParallel and DistributedDataParallel put "module." before every key, torch.compile puts "_orig_mod." before those
# of what it wraps, anywhere; both wrap each other.
_WRAPPED = re.compile(r"^(?:module\.)+")
_COMPILED = "_orig_mod."
_NAMED = 8


def find_state(content: Any, name: str, prefer: str = "model") -> dict[str, torch.Tensor]:
    """Return the state dict in what a checkpoint holds: alone, or under an entry such as ``state_dict``, also nested.

    Prefixes of DataParallel and of torch.compile are dropped, and what is no tensor.

    Args:
        content: what the file holds.
        name: of the file, for the sentence: ``the checkpoint "x.pth"``.
        prefer: the entry to take where both ``model`` and ``ema`` are there.

    Raises:
        InputError: there is no state dict; the entries that are there are named.

    Example:
        >>> weight = torch.zeros(2)
        >>> find_state({"epoch": 3, "net": {"module._orig_mod.fc.weight": weight}}, "the checkpoint")
        {'fc.weight': tensor([0., 0.])}
    """
    state = content
    for _ in range(_DEPTH):
        inner = _inner(state, prefer)
        if inner is None:
            break
        state = inner
    tensors = {
        _WRAPPED.sub("", str(key).replace(_COMPILED, "")): value
        for key, value in (state.items() if isinstance(state, Mapping) else ()) if isinstance(value, torch.Tensor)
    }
    # AveragedModel counts its updates beside the weights.
    tensors.pop("n_averaged", None)
    if not tensors:
        raise InputError(f"{name} holds no state dict{_found(state)}; expected tensors, alone or under {', '.join(ENTRIES)}")
    return tensors


def _inner(content: Any, prefer: str) -> Mapping[Any, Any] | None:
    if not isinstance(content, Mapping):
        return None
    entries = sorted(ENTRIES, key=lambda entry: entry not in ("state_dict", prefer))
    return next((content[entry] for entry in entries if isinstance(content.get(entry), Mapping) and content[entry]), None)


def _found(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f" (it holds a {type(content).__name__})"
    keys = [f'"{shown(key)}"' for key in list(content)[:_NAMED]]
    more = f" and {len(content) - _NAMED} more" if len(content) > _NAMED else ""
    return f" (its entries: {', '.join(keys)}{more})" if keys else " (it is empty)"
