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

from collections.abc import Callable

import torch
from torch import Tensor

from torchreid_nas.layers.split_function import dense, halves

# Looked up once, as in split_function.py.
_normalize = torch.ops.aten.native_batch_norm.out
_normalize_on_gpu = torch.ops.aten.batch_norm_elemt.out
_reduce = torch.ops.aten.native_batch_norm_backward.default


class MixedNormalize(torch.autograd.Function):
    """A joint batch by the weighted sum of its shared and its split BatchNorm.

    Inputs: x (2B, C, H, W); probabilities (2,) of (share, split); weight and
    bias, each (C,), of the shared, the visible and the infrared BatchNorm; and
    the statistics of x, whose dependence on it is accounted for here, not by
    autograd: means μ_m (2, C), offsets μ_m − μ_s (2, C), rates r (3, C) of the
    union, the visible and the infrared half.

    What is kept for the backward pass is x and a few numbers per channel. Of
    the gradients only those that are asked for are computed. It can be
    differentiated once.

    What is done per channel takes as long as the operations take to start, of
    which a network has thousands: hence the stacks, one operation for all rows.
    """

    @staticmethod
    def forward(
        ctx, x, probabilities, weight, bias, weight_v, bias_v, weight_t, bias_t, means, offsets, rates,
    ):
        weights, biases = torch.stack((weight, weight_v, weight_t)), torch.stack((bias, bias_v, bias_t))
        chances = torch.cat((probabilities, probabilities[1:]))[:, None]
        gains = (weights * rates).mul_(chances)  # q, and p_split γ_m r_m
        likely = biases * chances
        gain = gains[0]
        scale = gains[1:] + gain
        shift = torch.addcmul(likely[1:] + likely[0], gain, offsets)
        output = torch.empty_like(x)
        affine = _affine(x, gain)
        for part, target, *coefficients in zip(halves(x), halves(output), scale.unbind(), means.unbind(), shift.unbind()):
            affine(part, *coefficients, out=target)
        ctx.save_for_backward(x, chances, weights, biases, means, offsets, rates, gains, scale)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, chances, weights, biases, means, offsets, rates, gains, scale = ctx.saved_tensors
        needs_x, needs_probabilities, *needs_parameters = ctx.needs_input_grad[:8]
        parts, grads, centres = halves(x), halves(dense(grad, x)), means.unbind()
        own, own_rates = gains[1:], rates[1:]
        rate, *rates_m = rates.unbind()
        sums = [
            # Of the weight the kernel takes no more than the dtype of its sums.
            _reduce(grad_part, part, rate, None, None, mean, rate_m, True, 0.0, [False, True, True])[1:]
            for grad_part, part, mean, rate_m in zip(grads, parts, centres, rates_m)
        ]
        by_scale, by_shift = (torch.stack(rows) for rows in zip(*sums))  # H and G
        both = sums[0][1] + sums[1][1]
        by_gain = torch.add(*torch.addcmul(by_scale / own_rates, by_shift, offsets).unbind())  # Q
        grad_x, grad_probabilities, of_parameters = None, None, [None] * 6
        if needs_x:
            count = parts[0].numel() // x.shape[1]
            gain = gains[0]
            by_variance = (by_gain * gain).mul_(rate).mul_(rate).mul_(-0.5 / count)  # V / N
            slope = torch.addcmul(by_variance, own * own_rates, by_scale, value=-1 / count)
            shift = torch.addcmul(by_variance * offsets, own, by_shift, value=-1 / count)
            shift.addcmul_(gain, both, value=-0.5 / count)
            grad_x = torch.empty_like(x)
            affine = _affine(x, gain)
            coefficients = (tensor.unbind() for tensor in (slope, means, shift, scale))
            for target, part, grad_part, *own_of in zip(halves(grad_x), parts, grads, *coefficients):
                _affine_sum(affine, part, grad_part, *own_of, out=target)
        if needs_probabilities or any(needs_parameters):
            of_weights = torch.cat(((by_gain * rate)[None], by_scale))
            of_biases = torch.cat((both[None], by_shift))
            if needs_probabilities:
                share, split_v, split_t = torch.addcmul(of_weights * weights, of_biases, biases).sum(1).unbind()
                grad_probabilities = torch.stack((share, split_v + split_t))
            if any(needs_parameters):
                pairs = zip((of_weights * chances).unbind(), (of_biases * chances).unbind())
                of_parameters = [gradient for pair in pairs for gradient in pair]
        return grad_x, grad_probabilities, *of_parameters, None, None, None


def _affine(x: Tensor, like: Tensor) -> Callable[..., None]:
    """Return what writes slope · (part − mean) + shift per channel of a part of x, with coefficients of ``like``'s dtype.

    On a GPU that is one kernel. On a CPU it is BatchNorm in eval mode with variance 1.
    """
    if x.is_cuda:
        return lambda part, slope, mean, shift, out: _normalize_on_gpu(part, None, shift, mean, slope, 0.0, out=out)
    ones = torch.ones_like(like)
    return lambda part, slope, mean, shift, out: _normalize(
        part, slope, shift, mean, ones, False, 0.0, 0.0, out=out, save_mean=mean.new_empty(0), save_invstd=mean.new_empty(0)
    )


def _affine_sum(
    affine: Callable[..., None], x: Tensor, y: Tensor, slope: Tensor, mean: Tensor, shift: Tensor, factor: Tensor, out: Tensor,
) -> None:
    """Write slope · (x − mean) + shift + factor · y per channel."""
    if factor.dtype == x.dtype or x.is_cuda:
        affine(x, slope, mean, shift, out=out)
        out.addcmul_(y, factor[:, None, None])
        return
    # On a CPU addcmul_ would either widen the whole tensors to the factor's dtype or round the factor to theirs. Both
    # summands are made anew: a sum in place takes up to three times as long in bfloat16 there.
    zero = torch.zeros_like(factor)
    first, second = torch.empty_like(x), torch.empty_like(y)
    affine(x, slope, mean, shift, out=first)
    affine(y, factor, zero, zero, out=second)
    torch.add(first, second, out=out)
