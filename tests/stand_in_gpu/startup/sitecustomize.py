"""Compute what is on the stand-in GPU by the CPU's kernels, in the same memory. Python runs this file by its name.

Every operator of torch that has a kernel for CUDA gets another: it refuses tensors of the CPU where CUDA would, takes
the others for tensors of the CPU and calls the operator on them. Views, allocation, copies to and fro, streams and
events stay torch's own.
"""
from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import torch
from torch.utils._pytree import tree_leaves, tree_map

_CPU, _GPU = torch.device("cpu"), torch.device("cuda:0")
# Torch's own code does without a kernel.
_OWN = {
    "_local_scalar_dense", "_lazy_clone", "_pin_memory", "_reshape_alias", "_resize_output_", "alias", "as_strided",
    "as_strided_", "empty", "empty_strided", "is_pinned", "is_set_to", "new_empty", "record_stream", "resize_", "set_", "unfold",
    "view", "view_as_complex", "view_as_real",
}
# Composed of others, among them some that only CUDA has.
_COMPOSED = {"convolution", "convolution_backward", "copy_"}
# What takes tensors of the CPU beside those of a GPU.
_MIXED = {"copy_", "index", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put", "_foreach_copy_"}


def _affine(x, weight, bias, mean, invstd, eps, *, out):
    channel = (-1, *[1] * (x.dim() - 2))
    weight = invstd if weight is None else weight * invstd
    return out.copy_((x - mean.view(channel)) * weight.view(channel) + bias.view(channel))


# What only CUDA computes.
_OF_CUDA = {"aten::batch_norm_elemt.out": _affine}
_generators: dict[int, tuple[torch.Generator, torch.Generator]] = {}


def _replace_kernels() -> torch.library.Library:
    library = torch.library.Library("aten", "IMPL")
    for name in torch._C._dispatch_get_all_op_names():
        base, _, overload = name.removeprefix("aten::").partition(".")
        operator = getattr(getattr(torch.ops.aten, base, None), overload or "default", None)
        if not name.startswith("aten::") or operator is None or base in _OWN:
            continue
        is_view = any(out.alias_info is not None and not out.alias_info.is_write for out in operator._schema.returns)
        known = base in _COMPOSED or torch._C._dispatch_has_kernel_for_dispatch_key(name, "CUDA")
        if known and not is_view:
            library.impl(name.removeprefix("aten::"), _kernel(operator, base, _OF_CUDA.get(name)), "CUDA")
    return library


def _kernel(operator: torch._ops.OpOverload, base: str, formula: Callable | None):
    schema = operator._schema

    def run(*args, **kwargs):
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        strangers = [tuple(tensor.shape) for tensor in tensors if not tensor.is_cuda and tensor.dim()]
        if strangers and base not in _MIXED:
            raise RuntimeError(f"Expected all tensors on cuda:0, {operator} got tensors {strangers} on the CPU")
        lowered, named = tree_map(_lower, args), tree_map(_lower, kwargs)
        if named.get("pin_memory"):
            named["pin_memory"] = False
        # A number stands for a tensor only until a kernel in Python is called.
        numbers = any(isinstance(value, (int, float)) and declared.type.kind() == "TensorType"
                      for declared, value in zip(schema.arguments, args))
        out = (formula or (operator.overloadpacket if numbers else operator))(*lowered, **named)
        for tensor, low in zip(tree_leaves((args, kwargs)), tree_leaves((lowered, named))):
            if isinstance(tensor, torch.Tensor) and tensor.is_cuda and tensor.shape != low.shape:
                # The kernel gave an output its size.
                _memory(tensor.resize_(low.shape)).copy_(low)
        given = {**dict(zip((declared.name for declared in schema.arguments), args)), **kwargs}
        results = [_raise(schema, declared, value, given) for declared, value in zip(
            schema.returns, out if len(schema.returns) > 1 else (out,)
        )]
        return tuple(results) if len(results) > 1 else results[0] if results else None

    return run


def _lower(value):
    if isinstance(value, torch.Tensor):
        return _memory(value) if value.is_cuda else value
    if isinstance(value, torch.device):
        return _CPU
    if isinstance(value, torch.Generator) and value.device.type == "cuda":
        # Kept with the one that it stands for, whose place in memory is its name.
        return _generators.setdefault(id(value), (torch.Generator().manual_seed(value.initial_seed()), value))[0]
    return value


def _raise(schema, declared, value, given):
    """What the operator wrote into is returned itself, everything else goes to the GPU."""
    if declared.alias_info is None:
        return tree_map(lambda leaf: _sent(leaf) if isinstance(leaf, torch.Tensor) else leaf, value)
    return next(given[one.name] for one in schema.arguments
                if one.alias_info is not None and one.alias_info.before_set & declared.alias_info.before_set)


def _memory(tensor: torch.Tensor) -> torch.Tensor:
    """The memory of a tensor on the stand-in as a tensor of the CPU."""
    storage = tensor.untyped_storage()
    if not tensor.numel() or not storage.nbytes():
        return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype)
    same = torch._C._construct_storage_from_data_pointer(storage.data_ptr(), _CPU, storage.nbytes())
    return torch.empty(0, dtype=tensor.dtype).set_(same, tensor.storage_offset(), tensor.size(), tensor.stride())


def _sent(tensor: torch.Tensor) -> torch.Tensor:
    out = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=_GPU)
    if tensor.numel():
        _memory(out).copy_(tensor)
    return out


# Convolutions of cuDNN are compiled for the device.
torch.backends.cudnn.enabled = False
torch.cuda.init()
if not os.environ.get("STAND_IN_LAUNCHES"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _library = _replace_kernels()
