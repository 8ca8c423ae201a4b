"""A check, on a CPU, of what would make a GPU wait."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WAIT = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}


class _NoReading(TorchDispatchMode):
    """Follows what is computed from marked tensors, which stand for those on a GPU, and refuses to look at its values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        marked = any(_is_marked(tensor) for tensor in given)
        name = func.__name__.split(".")[0]
        by_mask = name.startswith("index") and any(tensor.dtype == torch.bool for tensor in given[1:])
        if marked and (name in _WAIT or (by_mask and name not in ("index_select", "index_add"))):
            raise AssertionError(f"{name} of a tensor that is computed on the device: a GPU would be waited for")
        out = func(*args, **kwargs)
        if marked:
            _mark(tree_leaves(out))
        return out


def _is_marked(tensor: torch.Tensor) -> bool:
    return getattr(tensor, "on_device", False)


def _mark(values: Any) -> None:
    for value in values:
        if isinstance(value, torch.Tensor):
            value.on_device = True


@contextlib.contextmanager
def nothing_waits_for(*modules: nn.Module) -> Iterator[None]:
    """Fail where the block reads a value that is computed from parameters or buffers of the modules."""
    for module in modules:
        _mark(module.state_dict(keep_vars=True).values())
    tolist = torch.Tensor.tolist

    def guarded(tensor: torch.Tensor) -> list:
        assert not _is_marked(tensor), "tolist of a tensor that is computed on the device: a GPU would be waited for"
        return tolist(tensor)

    with pytest.MonkeyPatch.context() as patch, _NoReading():
        # It reads memory without an operator that a mode could see.
        patch.setattr(torch.Tensor, "tolist", guarded)
        yield
