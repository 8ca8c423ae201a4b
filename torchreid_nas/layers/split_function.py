"""Train-mode BatchNorm of the two parts of a joint batch, each by the native kernel, into one output.

Two layers and ``torch.cat`` copy the output once, and in the backward pass the gradient of the input once more. Here
both parts are views of one tensor. The forward pass writes into the views and copies nothing. The kernel of the
backward pass cannot write into given memory: the gradient of each part is copied while it is still in the cache. In
channels-last as in NCHW a part is one dense block.
"""
from __future__ import annotations

__all__ = ["TrackedBatchNorm", "count_batch", "dense", "finish", "is_plain", "parts", "split_batch_norm"]

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from torchreid_nas.aten import find_operator
from torchreid_nas.layers.norms import has_activation

# The operators are looked up once: a network has dozens of these layers, and every lookup takes microseconds. An operator
# that torch lacks is None; is_plain then sends the parts through the layers themselves.
_normalize = find_operator("aten::_batch_norm_with_update.out")
_differentiate = find_operator("aten::batch_norm_backward.default")


class TrackedBatchNorm(nn.BatchNorm2d):
    """The type of a BatchNorm2d with affine parameters, running statistics and a fixed momentum, which none may lack."""

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float


def split_batch_norm(x: Tensor, visible: nn.BatchNorm2d, infrared: nn.BatchNorm2d, length: int | None = None) -> Tensor:
    """Normalise a joint batch by its parts and move the running statistics of both layers, as their ``forward`` would.

    Args:
        x: (N, C, H, W), ``[visible; infrared]``, in the dtype of the parameters, or float16/bfloat16 where they are float32.
        visible: the layer of the first part; :func:`is_plain` holds for both layers.
        infrared: the layer of the second part.
        length: images of the first part; default half of them.

    Returns:
        (N, C, H, W) in the dtype and the memory format of ``x``. It can be differentiated twice.
    """
    layers = cast("TrackedBatchNorm", visible), cast("TrackedBatchNorm", infrared)
    for bn in layers:
        bn._check_input_dim(x)
    count_batch(*layers)
    parameters = [parameter for bn in layers for parameter in (bn.weight, bn.bias)]
    statistics = [buffer for bn in layers for buffer in (bn.running_mean, bn.running_var)]
    momenta, epsilons = [bn.momentum for bn in layers], [bn.eps for bn in layers]
    apply: Callable[..., Tensor] = _SplitBatchNorm.apply
    return apply(dense(x), *parameters, *statistics, momenta, epsilons, x.shape[0] // 2 if length is None else length)


def count_batch(*layers: TrackedBatchNorm) -> None:
    """Count a batch for each layer, in one operation."""
    torch._foreach_add_([bn.num_batches_tracked for bn in layers], 1)


def is_plain(x: Tensor, *layers: nn.Module, length: int | None = None) -> bool:
    """Return whether :func:`split_batch_norm` may take the place of the layers' own ``forward`` on the parts of ``x``.

    The first part has ``length`` images, by default half of them.

    It may not where a layer is frozen in eval mode, is a subclass (timm's BatchNorm with an activation without parameters
    excepted, see :func:`finish`), has hooks, lacks parameters or running statistics, or averages them cumulatively; where a
    part has one value per channel (the layer refuses it); where torch traces, compiles or transforms the function, which
    see through the layers themselves; and where torch lacks an operator.
    """
    if _normalize is None or _differentiate is None:
        return False
    traced = (
        torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
        or torch.jit.is_tracing()  # type: ignore[no-untyped-call]  # torch gives it no type
    )
    length = x.shape[0] // 2 if length is None else length
    count = min(length, x.shape[0] - length) * x.shape[2] * x.shape[3] if x.dim() == 4 else 0
    return not traced and count > 1 and all(
        _is_plain_type(bn) and bn.training and bn.affine and bn.track_running_stats and bn.running_mean is not None
        and bn.momentum is not None
        and not (bn._forward_hooks or bn._forward_pre_hooks or bn._backward_hooks or bn._backward_pre_hooks)
        for bn in layers
    )


def _is_plain_type(bn: nn.Module) -> bool:
    if type(bn) is nn.BatchNorm2d:
        return True
    return has_activation(bn) and not any(True for child in bn.children() for _ in child.parameters())


def finish(bn: nn.Module, normalized: Tensor) -> Tensor:
    """Return a normalised batch after the dropout and activation of ``bn``, where it is timm's BatchNormAct2d."""
    if not has_activation(bn):
        return normalized
    behind: Any = bn
    output: Tensor = behind.act(behind.drop(normalized))
    return output


def parts(x: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return the visible part of a joint batch, its first ``length`` images, and the infrared part, as views.

    ``narrow`` makes them several times as fast as ``split`` and ``chunk``. Compiled by torch 2.14, two views by
    ``narrow`` before a ReLU gave gradients of NaN (small batches, CPU): compiled code takes ``split``.

    Example:
        >>> parts(torch.arange(4), 2)
        (tensor([0, 1]), tensor([2, 3]))
    """
    if torch.compiler.is_compiling():
        visible, infrared = torch.split(x, [length, x.shape[0] - length])
        return visible, infrared
    return x.narrow(0, 0, length), x.narrow(0, length, x.shape[0] - length)


def dense(x: Tensor, like: Tensor | None = None) -> Tensor:
    """Return ``x`` in the memory format of ``like``, its own unless given, so that each part of the batch is one block."""
    like = x if like is None else like
    channels_last = not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


class _SplitBatchNorm(torch.autograd.Function):
    """Both parts through ``aten::_batch_norm_with_update``, which takes the kernel that ``F.batch_norm`` would (cuDNN's too)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_v: Tensor, bias_v: Tensor, weight_t: Tensor, bias_t: Tensor, mean_v: Tensor,
        var_v: Tensor, mean_t: Tensor, var_t: Tensor, momenta: Sequence[float], epsilons: Sequence[float], length: int,
    ) -> Tensor:
        """Normalise both parts into one output."""
        assert _normalize is not None
        output, channels = torch.empty_like(x), x.shape[1]
        saved = []
        layers = (weight_v, bias_v, mean_v, var_v), (weight_t, bias_t, mean_t, var_t)
        for part, target, tensors, momentum, eps in zip(parts(x, length), parts(output, length), layers, momenta, epsilons):
            # cuDNN needs statistics of the right size. It returns a reserve of its own, not the given one.
            mean, deviation = weight_v.new_empty(channels), weight_v.new_empty(channels)
            reserve = x.new_empty(0, dtype=torch.uint8)
            _, *statistics = _normalize(
                part, *tensors, momentum, eps, out=target, save_mean=mean, save_invstd=deviation, reserve=reserve
            )
            saved += statistics
        ctx.save_for_backward(x, weight_v, weight_t, *saved)
        ctx.epsilons, ctx.length = epsilons, length
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and of the parameters, of which only those that are asked for are computed."""
        assert _differentiate is not None
        x, weight_v, weight_t, *saved = ctx.saved_tensors
        needs_x, *needs = ctx.needs_input_grad[:5]
        differentiable = torch.is_grad_enabled()
        grad_x = torch.empty_like(x) if needs_x and not differentiable else None
        length = ctx.length
        targets = (None, None) if grad_x is None else parts(grad_x, length)
        gradients: list[Tensor] = []
        parameters: list[Tensor | None] = []
        blocks = zip(
            parts(x, length), parts(dense(grad, x), length), targets, (weight_v, weight_t), (saved[:3], saved[3:]), ctx.epsilons,
            (needs[:2], needs[2:]),
        )
        for part, grad_part, target, weight, (mean, deviation, reserve), eps, wanted in blocks:
            grad_in, *of_parameters = _differentiate(
                grad_part, part, weight, None, None, mean, deviation, True, eps, [needs_x, *wanted], reserve
            )
            parameters += of_parameters
            if target is not None:
                target.copy_(grad_in)
            elif needs_x:
                gradients.append(grad_in)
            # This gradient is freed before that of the other part is made, so that both take the same memory.
            del grad_in
        return (torch.cat(gradients) if gradients else grad_x, *parameters, *[None] * 7)
