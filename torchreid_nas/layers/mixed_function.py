"""Forward and backward of the searched BatchNorm: the work of a split one, and some arithmetic per channel.

With the notation of mixed_bn.py, r = 1 / √(σ² + ε), q = p_share γ_s r_s, and N values per channel in a half,

    y_m = W_m r_m (x − μ_m) + B_m,   W_m r_m = q + p_split γ_m r_m,
    B_m = q (μ_m − μ_s) + p_share β_s + p_split β_m.

Let G_m = Σ dy and H_m = Σ dy r_m (x − μ_m) over the half, which the native kernel reduces in one pass, and

    Q = Σ_m H_m / r_m + G_m (μ_m − μ_s),   the gradient of q,
    V = −½ Q q r_s²,                       the gradient of σ²_s.

The statistics depend on x too; all of it together is again affine in dy and x per channel:

    dx = W_m r_m dy + b_m (x − μ_m) + c_m
    N b_m = V − p_split γ_m r_m² H_m
    N c_m = V (μ_m − μ_s) − p_split γ_m r_m G_m − q (G_v + G_t) / 2
"""
from __future__ import annotations

__all__ = ["MixedNormalize"]

import torch
from torch import Tensor

from torchreid_nas.layers.split_function import dense

_native = torch.ops.aten


class MixedNormalize(torch.autograd.Function):
    """A joint batch by the weighted sum of its shared and its split BatchNorm.

    Inputs: x (2B, C, H, W); probabilities (2,) of (share, split); weights and
    biases (3, C) of the shared, the visible and the infrared BatchNorm; means
    and variances (2, C), biased, of the halves, whose dependence on x is
    accounted for here, not by autograd; ε.

    What is kept for the backward pass is x and a few numbers per channel. Of
    the gradients only those that are asked for are computed. It can be
    differentiated once.
    """

    @staticmethod
    def forward(ctx, x, probabilities, weights, biases, means, variances, eps):
        share, split = probabilities
        apart = (means[0] - means[1]) / 2
        offsets = torch.stack((apart, -apart))
        rate = torch.rsqrt(variances + eps)
        rate_s = torch.rsqrt(variances.mean(0) + apart.square() + eps)
        gain = share * weights[0] * rate_s
        own = split * weights[1:] * rate
        scale = gain + own
        shift = gain * offsets + share * biases[0] + split * biases[1:]
        output = torch.empty_like(x)
        for part, target, *coefficients in zip(x.chunk(2), output.chunk(2), scale, means, shift):
            _affine(part, *coefficients, out=target)
        ctx.save_for_backward(x, probabilities, weights, biases, means, offsets, rate, rate_s, gain, own, scale)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, probabilities, weights, biases, means, offsets, rate, rate_s, gain, own, scale = ctx.saved_tensors
        needs_x, needs_probabilities, needs_weights, needs_biases, *_ = ctx.needs_input_grad
        parts, grads = x.chunk(2), dense(grad, x).chunk(2)
        sums = [_reduce(*tensors) for tensors in zip(grads, parts, means, rate)]
        by_scale, by_shift = (torch.stack(column) for column in zip(*sums))
        both = by_shift.sum(0)
        by_gain = (by_scale / rate + by_shift * offsets).sum(0)
        grad_x = grad_probabilities = grad_weights = grad_biases = None
        if needs_x:
            count = parts[0].numel() // x.shape[1]
            by_variance = -0.5 * by_gain * gain * rate_s.square()
            slope = (by_variance - own * rate * by_scale) / count
            shift = (by_variance * offsets - own * by_shift - gain * both / 2) / count
            grad_x = torch.empty_like(x)
            for target, part, grad_part, *coefficients, factor in zip(grad_x.chunk(2), parts, grads, slope, means, shift, scale):
                _affine_sum(part, *coefficients, grad_part, factor, out=target)
        if needs_probabilities:
            share = by_gain @ (weights[0] * rate_s) + biases[0] @ both
            split = (weights[1:] * by_scale).sum() + (biases[1:] * by_shift).sum()
            grad_probabilities = torch.stack((share, split)).to(probabilities.dtype)
        if needs_weights:
            grad_weights = torch.cat((probabilities[0] * rate_s * by_gain[None], probabilities[1] * by_scale))
        if needs_biases:
            grad_biases = torch.cat((probabilities[0] * both[None], probabilities[1] * by_shift))
        return grad_x, grad_probabilities, grad_weights, grad_biases, None, None, None


def _affine(x: Tensor, slope: Tensor, mean: Tensor, shift: Tensor, out: Tensor) -> None:
    """Write slope · (x − mean) + shift per channel: BatchNorm in eval mode with variance 1, coefficients in full precision."""
    unused = mean.new_empty(0), mean.new_empty(0)
    _native.native_batch_norm.out(
        x, slope, shift, mean, torch.ones_like(mean), False, 0.0, 0.0, out=out, save_mean=unused[0], save_invstd=unused[1]
    )


def _affine_sum(x: Tensor, slope: Tensor, mean: Tensor, shift: Tensor, y: Tensor, factor: Tensor, out: Tensor) -> None:
    """Write slope · (x − mean) + shift + factor · y per channel."""
    if factor.dtype == x.dtype:
        _affine(x, slope, mean, shift, out=out)
        out.addcmul_(y, factor[:, None, None])
        return
    # addcmul_ would either widen the whole tensors to the factor's dtype or round the factor to theirs. Both summands
    # are made anew: on CPUs a sum in place takes up to three times as long in bfloat16.
    zero = torch.zeros_like(factor)
    first, second = torch.empty_like(x), torch.empty_like(y)
    _affine(x, slope, mean, shift, out=first)
    _affine(y, factor, zero, zero, out=second)
    torch.add(first, second, out=out)


def _reduce(grad: Tensor, x: Tensor, mean: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
    """Return H and G of the module docstring, each (C,)."""
    # The kernel takes the dtype of its sums from the weight.
    weight = torch.ones_like(mean)
    _, by_scale, by_shift = _native.native_batch_norm_backward(
        grad, x, weight, None, None, mean, rate, True, 0.0, [False, True, True]
    )
    return by_scale, by_shift
