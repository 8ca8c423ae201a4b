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

Of several processes with synchronised statistics, N, N_m, and G, H, Q and V in dx are those of the batch of all processes.
"""
from __future__ import annotations

__all__ = ["mixed_normalize"]

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torchreid_nas.distributed import all_sum
from torchreid_nas.layers.affine import affine_sum, channel_affine, sums_of_gradient
from torchreid_nas.layers.split_function import dense, parts


def mixed_normalize(
    x: Tensor, probabilities: Tensor, parameters: Sequence[Tensor], means: Tensor, offsets: Tensor, rates: Tensor, length: int,
    counts: Tensor | None = None,
) -> Tensor:
    """Normalise a joint batch by the weighted sum of its shared and its split BatchNorm.

    The statistics of x are arguments: their dependence on x is accounted for
    in the backward pass here, not by autograd. The backward pass keeps x and a
    few numbers per channel, and computes only the gradients that are asked
    for. The result can be differentiated once.

    An operation per channel takes as long as the start of the operation, and a
    network has thousands of them: hence the stacks, one operation for all rows.

    Args:
        x: (N, C, H, W), dense, ``[visible; infrared]``; :func:`~torchreid_nas.layers.affine.can_normalize` holds for its device.
        probabilities: (2,) weights of (share, split).
        parameters: weight and bias, each (C,), of the shared, the visible and the infrared BatchNorm.
        means: (2, C), μ_m.
        offsets: (2, C), μ_m − μ_s.
        rates: (3, C), r of the union, of the visible and of the infrared part.
        length: images of the visible part.
        counts: (3, 1), values per channel of the union, of the visible and of the infrared part of all processes, whose
            statistics the others are; None where they are those of x.

    Returns:
        (N, C, H, W) in the dtype and memory format of x.
    """
    apply: Callable[..., Tensor] = _MixedNormalize.apply
    return apply(x, probabilities, *parameters, means, offsets, rates, length, counts)


class _MixedNormalize(torch.autograd.Function):
    """See :func:`mixed_normalize`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, probabilities: Tensor, weight: Tensor, bias: Tensor, weight_v: Tensor, bias_v: Tensor,
        weight_t: Tensor, bias_t: Tensor, means: Tensor, offsets: Tensor, rates: Tensor, length: int, counts: Tensor | None,
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
        affine = channel_affine(x, gain)
        pairs = zip(parts(x, length), parts(output, length), scale.unbind(), means.unbind(), shift.unbind())
        for part, target, *coefficients in pairs:
            affine(part, *coefficients, out=target)
        ctx.length = length
        ctx.save_for_backward(x, chances, weights, biases, means, offsets, rates, gains, scale, counts)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, the probabilities and the parameters."""
        x, chances, weights, biases, means, offsets, rates, gains, scale, whole = ctx.saved_tensors
        needs_x, needs_probabilities, *needs_parameters = ctx.needs_input_grad[:8]
        length = ctx.length
        inputs, grads, centres = parts(x, length), parts(dense(grad, x), length), means.unbind()
        own, own_rates = gains[1:], rates[1:]
        rate, *rates_m = rates.unbind()
        sums = [sums_of_gradient(*row) for row in zip(grads, inputs, centres, rates_m)]
        by_scale, by_shift = (torch.stack(rows) for rows in zip(*sums))  # H and G
        both = sums[0][1] + sums[1][1]
        by_gain = _by_gain(by_scale, by_shift, own_rates, offsets)
        grad_x, grad_probabilities = None, None
        of_parameters: list[Tensor | None] = [None] * 6
        if needs_x:
            gain = gains[0]
            if whole is None:
                counts = [part.numel() // x.shape[1] for part in inputs]
                total = sum(counts)
                all_scale, all_shift, all_both, all_gain = by_scale, by_shift, both, by_gain
                shared, factor, of_both = own, -1 / counts[0], -1 / total
                if counts[0] != counts[1]:
                    shared, factor = own * own.new_tensor([[-1 / count] for count in counts]), 1.0
            else:
                total = whole[0]
                all_scale, all_shift = all_sum(torch.stack((by_scale, by_shift)))
                all_both, all_gain = all_shift.sum(dim=0) / -total, _by_gain(all_scale, all_shift, own_rates, offsets)
                shared, factor, of_both = -own / whole[1:], 1.0, 1.0
            by_variance = (all_gain * gain).mul_(rate).mul_(rate).mul_(-1 / total)  # 2 V / N
            slope = torch.addcmul(by_variance, shared * own_rates, all_scale, value=factor)
            shift = torch.addcmul(by_variance * offsets, shared, all_shift, value=factor)
            shift.addcmul_(gain, all_both, value=of_both)
            grad_x = torch.empty_like(x)
            affine = channel_affine(x, gain)
            coefficients = (tensor.unbind() for tensor in (slope, means, shift, scale))
            for target, part, grad_part, *own_of in zip(parts(grad_x, length), inputs, grads, *coefficients):
                affine_sum(affine, part, grad_part, target, *own_of)
        if needs_probabilities or any(needs_parameters):
            of_weights = torch.cat(((by_gain * rate)[None], by_scale))
            of_biases = torch.cat((both[None], by_shift))
            if needs_probabilities:
                share, split_v, split_t = torch.addcmul(of_weights * weights, of_biases, biases).sum(1).unbind()
                grad_probabilities = torch.stack((share, split_v + split_t))
            if any(needs_parameters):
                pairs = zip((of_weights * chances).unbind(), (of_biases * chances).unbind())
                of_parameters = [gradient for pair in pairs for gradient in pair]
        return grad_x, grad_probabilities, *of_parameters, None, None, None, None, None


def _by_gain(by_scale: Tensor, by_shift: Tensor, own_rates: Tensor, offsets: Tensor) -> Tensor:
    """Return Q, (C,), from H and G of both parts, (2, C)."""
    return torch.add(*torch.addcmul(by_scale / own_rates, by_shift, offsets).unbind())
