"""Forward and backward pass of the searched BatchNorm: the work of a split BatchNorm, and some arithmetic per channel.

The notation is that of mixed_bn.py. With r = 1 / √(σ² + ε), q = p_share γ_s r_s, and N_m values
per channel in a part, N in both,

    y_m = W_m r_m (x − μ_m) + B_m,   W_m r_m = q + p_split γ_m r_m,
    B_m = q (μ_m − μ_s) + p_share β_s + p_split β_m.

The native kernel reduces G_m = Σ dy and H_m = Σ dy r_m (x − μ_m) over a part in one pass. The gradients of q and σ²_s are

    Q = Σ_m H_m / r_m + G_m (μ_m − μ_s),
    V = −½ Q q r_s².

The statistics depend on x as well. The whole gradient is again affine in dy and x per channel:

    dx = W_m r_m dy + b_m (x − μ_m) + c_m
    b_m = 2 V / N − p_split γ_m r_m² H_m / N_m
    c_m = 2 V (μ_m − μ_s) / N − p_split γ_m r_m G_m / N_m − q (G_v + G_t) / N
"""
from __future__ import annotations

__all__ = ["can_mix", "mixed_normalize"]

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torchreid_nas.aten import find_operator
from torchreid_nas.layers.split_function import dense, parts

# Looked up once, as in split_function.py; None where torch has no such operator, see can_mix.
_normalize = find_operator("aten::native_batch_norm.out")
_normalize_on_gpu = find_operator("aten::batch_norm_elemt.out")
_reduce = find_operator("aten::native_batch_norm_backward.default")


def can_mix(x: Tensor) -> bool:
    """Return whether torch has the operators of :func:`mixed_normalize` for the device of ``x``."""
    return _reduce is not None and (_normalize_on_gpu if x.is_cuda else _normalize) is not None


def mixed_normalize(
    x: Tensor, probabilities: Tensor, parameters: Sequence[Tensor], means: Tensor, offsets: Tensor, rates: Tensor, length: int,
) -> Tensor:
    """Normalise a joint batch by the weighted sum of its shared and its split BatchNorm.

    The statistics of x are arguments: their dependence on x is accounted for
    in the backward pass here, not by autograd. The backward pass keeps x and a
    few numbers per channel, and computes only the gradients that are asked
    for. The result can be differentiated once.

    An operation per channel takes as long as the start of the operation, and a
    network has thousands of them: hence the stacks, one operation for all rows.

    Args:
        x: (N, C, H, W), dense, ``[visible; infrared]``; :func:`can_mix` holds for it.
        probabilities: (2,) weights of (share, split).
        parameters: weight and bias, each (C,), of the shared, the visible and the infrared BatchNorm.
        means: (2, C), μ_m.
        offsets: (2, C), μ_m − μ_s.
        rates: (3, C), r of the union, of the visible and of the infrared part.
        length: images of the visible part.

    Returns:
        (N, C, H, W) in the dtype and memory format of x.
    """
    apply: Callable[..., Tensor] = _MixedNormalize.apply
    return apply(x, probabilities, *parameters, means, offsets, rates, length)


class _MixedNormalize(torch.autograd.Function):
    """See :func:`mixed_normalize`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, probabilities: Tensor, weight: Tensor, bias: Tensor, weight_v: Tensor, bias_v: Tensor,
        weight_t: Tensor, bias_t: Tensor, means: Tensor, offsets: Tensor, rates: Tensor, length: int,
    ) -> Tensor:
        """Write both parts into one output, each by one affine map per channel."""
        weights, biases = torch.stack((weight, weight_v, weight_t)), torch.stack((bias, bias_v, bias_t))
        chances = torch.cat((probabilities, probabilities[1:]))[:, None]
        gains = (weights * rates).mul_(chances)  # q, and p_split γ_m r_m
        likely = biases * chances
        gain = gains[0]
        scale = gains[1:] + gain
        shift = torch.addcmul(likely[1:] + likely[0], gain, offsets)
        output = torch.empty_like(x)
        affine = _affine(x, gain)
        pairs = zip(parts(x, length), parts(output, length), scale.unbind(), means.unbind(), shift.unbind())
        for part, target, *coefficients in pairs:
            affine(part, *coefficients, out=target)
        ctx.length = length
        ctx.save_for_backward(x, chances, weights, biases, means, offsets, rates, gains, scale)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, the probabilities and the parameters."""
        assert _reduce is not None
        x, chances, weights, biases, means, offsets, rates, gains, scale = ctx.saved_tensors
        needs_x, needs_probabilities, *needs_parameters = ctx.needs_input_grad[:8]
        length = ctx.length
        inputs, grads, centres = parts(x, length), parts(dense(grad, x), length), means.unbind()
        own, own_rates = gains[1:], rates[1:]
        rate, *rates_m = rates.unbind()
        sums = [
            # The kernel takes from the weight the dtype of its sums and nothing else.
            _reduce(grad_part, part, rate, None, None, mean, rate_m, True, 0.0, [False, True, True])[1:]
            for grad_part, part, mean, rate_m in zip(grads, inputs, centres, rates_m)
        ]
        by_scale, by_shift = (torch.stack(rows) for rows in zip(*sums))  # H and G
        both = sums[0][1] + sums[1][1]
        by_gain = torch.add(*torch.addcmul(by_scale / own_rates, by_shift, offsets).unbind())  # Q
        grad_x, grad_probabilities = None, None
        of_parameters: list[Tensor | None] = [None] * 6
        if needs_x:
            counts = [part.numel() // x.shape[1] for part in inputs]
            total = sum(counts)
            gain = gains[0]
            by_variance = (by_gain * gain).mul_(rate).mul_(rate).mul_(-1 / total)  # 2 V / N
            shared, factor = own, -1 / counts[0]
            if counts[0] != counts[1]:
                shared, factor = own * own.new_tensor([[-1 / count] for count in counts]), 1.0
            slope = torch.addcmul(by_variance, shared * own_rates, by_scale, value=factor)
            shift = torch.addcmul(by_variance * offsets, shared, by_shift, value=factor)
            shift.addcmul_(gain, both, value=-1 / total)
            grad_x = torch.empty_like(x)
            affine = _affine(x, gain)
            coefficients = (tensor.unbind() for tensor in (slope, means, shift, scale))
            for target, part, grad_part, *own_of in zip(parts(grad_x, length), inputs, grads, *coefficients):
                _affine_sum(affine, part, grad_part, target, *own_of)
        if needs_probabilities or any(needs_parameters):
            of_weights = torch.cat(((by_gain * rate)[None], by_scale))
            of_biases = torch.cat((both[None], by_shift))
            if needs_probabilities:
                share, split_v, split_t = torch.addcmul(of_weights * weights, of_biases, biases).sum(1).unbind()
                grad_probabilities = torch.stack((share, split_v + split_t))
            if any(needs_parameters):
                pairs = zip((of_weights * chances).unbind(), (of_biases * chances).unbind())
                of_parameters = [gradient for pair in pairs for gradient in pair]
        return grad_x, grad_probabilities, *of_parameters, None, None, None, None


def _affine(x: Tensor, like: Tensor) -> Callable[..., None]:
    """Return a function that writes slope · (part − mean) + shift per channel of a part of x.

    The coefficients have the dtype of ``like``. On a GPU the function is one
    kernel. On a CPU it is BatchNorm in eval mode with variance 1.
    """
    if x.is_cuda:
        on_gpu = _normalize_on_gpu
        assert on_gpu is not None
        return lambda part, slope, mean, shift, out: on_gpu(part, None, shift, mean, slope, 0.0, out=out)
    ones, on_cpu = torch.ones_like(like), _normalize
    assert on_cpu is not None
    return lambda part, slope, mean, shift, out: on_cpu(
        part, slope, shift, mean, ones, False, 0.0, 0.0, out=out, save_mean=mean.new_empty(0), save_invstd=mean.new_empty(0)
    )


def _affine_sum(
    affine: Callable[..., None], x: Tensor, y: Tensor, out: Tensor, slope: Tensor, mean: Tensor, shift: Tensor, factor: Tensor,
) -> None:
    """Write slope · (x − mean) + shift + factor · y per channel into ``out``."""
    if factor.dtype == x.dtype or x.is_cuda:
        affine(x, slope, mean, shift, out=out)
        out.addcmul_(y, factor[:, None, None])
        return
    # On a CPU addcmul_ either widens the whole tensors to the dtype of the factor or rounds the factor to the dtype of
    # the tensors. A sum in place takes up to three times as long in bfloat16 on a CPU: both summands are new tensors.
    zero = torch.zeros_like(factor)
    first, second = torch.empty_like(x), torch.empty_like(y)
    affine(x, slope, mean, shift, out=first)
    affine(y, factor, zero, zero, out=second)
    torch.add(first, second, out=out)
