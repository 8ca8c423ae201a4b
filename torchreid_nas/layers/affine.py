"""An affine map per channel of a batch, and the sums of its backward pass, by torch's own kernels of BatchNorm."""
from __future__ import annotations

__all__ = ["affine_sum", "can_normalize", "channel_affine", "sums_of_gradient"]

from collections.abc import Callable

import torch
from torch import Tensor

from torchreid_nas.aten import find_operator

# The operators are looked up once, as in split_function.py. can_normalize says where torch lacks one, which is then None.
_normalize = find_operator("aten::native_batch_norm.out")
_normalize_on_gpu = find_operator("aten::batch_norm_elemt.out")
_reduce = find_operator("aten::native_batch_norm_backward.default")


def can_normalize(device: torch.device) -> bool:
    """Return whether torch has the operators of this module for ``device``.

    >>> can_normalize(torch.device("cpu"))
    True
    """
    return _reduce is not None and (_normalize_on_gpu if device.type == "cuda" else _normalize) is not None


def sums_of_gradient(grad: Tensor, x: Tensor, mean: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Return Σ grad · rate (x − mean) and Σ grad per channel, in one pass, in the dtype of ``mean``.

    Args:
        grad: (N, C, H, W), dense in the memory format of ``x``.
        x: (N, C, H, W).
        mean: (C,).
        rate: (C,).

    >>> x = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    >>> sums_of_gradient(torch.ones_like(x), x, torch.ones(1), torch.ones(1))
    (tensor([2.]), tensor([2.]))
    """
    assert _reduce is not None
    # The kernel takes from the weight the dtype of its sums and nothing else.
    _, by_scale, by_shift = _reduce(grad, x, rate, None, None, mean, rate, True, 0.0, [False, True, True])
    return by_scale, by_shift


def channel_affine(x: Tensor, like: Tensor) -> Callable[..., None]:
    """Return a function that writes slope · (part − mean) + shift per channel of a part of x.

    The coefficients have the dtype of ``like``. On a GPU the function is one
    kernel. On a CPU it is BatchNorm in eval mode with variance 1.

    >>> x, one = torch.ones(2, 1, 1, 1), torch.ones(1)
    >>> out = torch.empty_like(x)
    >>> _ = channel_affine(x, one)(x, 3 * one, 0 * one, one, out=out)
    >>> out.flatten()
    tensor([4., 4.])
    """
    if x.is_cuda:
        on_gpu = _normalize_on_gpu
        assert on_gpu is not None
        return lambda part, slope, mean, shift, out: on_gpu(part, None, shift, mean, slope, 0.0, out=out)
    ones, on_cpu = torch.ones(like.shape[-1], dtype=like.dtype), _normalize
    assert on_cpu is not None
    return lambda part, slope, mean, shift, out: on_cpu(
        part, slope, shift, mean, ones, False, 0.0, 0.0, out=out, save_mean=mean.new_empty(0), save_invstd=mean.new_empty(0)
    )


def affine_sum(
    write: Callable[..., None], x: Tensor, y: Tensor, out: Tensor, slope: Tensor, mean: Tensor, shift: Tensor, factor: Tensor,
) -> None:
    """Write slope · (x − mean) + shift + factor · y per channel into ``out``; ``write`` is :func:`channel_affine` of ``x``."""
    if factor.dtype == x.dtype or x.is_cuda:
        write(x, slope, mean, shift, out=out)
        out.addcmul_(y, factor[:, None, None])
        return
    # On a CPU addcmul_ either widens the whole tensors to the dtype of the factor or rounds the factor to the dtype of
    # the tensors. A sum in place takes up to three times as long in bfloat16 on a CPU: both summands are new tensors.
    zero = torch.zeros_like(factor)
    first, second = torch.empty_like(x), torch.empty_like(y)
    write(x, slope, mean, shift, out=first)
    write(y, factor, zero, zero, out=second)
    torch.add(first, second, out=out)
