"""BatchNorm whose statistics are those of the batch of all processes, per modality where the modalities are split.

:func:`synchronized_norms` makes every BatchNorm of a network such a BatchNorm for the time of a block. Within the block the
layers have another class and the same parameters, buffers and hooks. Evaluation, checkpoints and export never meet that
class. With n rows per process, whose part p has mean μ_p and variance σ²_p, every process sends once

    N = Σ n,   S = Σ n μ_p,   Q = Σ n (σ²_p + μ_p²)   ->   μ = S / N,   σ² = Q / N − μ²,

in float64, in which the difference loses nothing that counts. The backward pass sends the sums over dy and dy · x̂. Both
parts of a split BatchNorm travel together. ``torch.nn.SyncBatchNorm`` knows neither parts nor CPUs.
"""
from __future__ import annotations

__all__ = [
    "are_synchronized", "average_statistics", "normalize_parts", "normalize_with", "synchronized_norms", "track", "uncompiled",
    "whole_statistics",
]

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from torchreid_nas.distributed import all_sum, average, processes
from torchreid_nas.errors import InputError
from torchreid_nas.layers.affine import affine_sum, can_normalize, channel_affine, sums_of_gradient
from torchreid_nas.layers.norms import is_batchnorm
from torchreid_nas.layers.split_function import dense, finish
from torchreid_nas.layers.swapping import behaving

_Function = TypeVar("_Function", bound=Callable[..., Any])
# torch.compile leaves a function that sends messages alone.
uncompiled: Callable[[_Function], _Function] = torch.compiler.disable


class _Synchronized(nn.Module):
    """What :func:`synchronized_norms` puts before the class of a BatchNorm."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise a batch by the statistics of all processes in train mode, and as the class behind does in eval mode."""
        bn: Any = self
        if not bn.training:
            output: Tensor = super().forward(x)
            return output
        bn._check_input_dim(x)
        images = x if x.dim() == 4 else x.reshape(*x.shape[:2], -1, 1)
        return finish(bn, normalize_parts(images, (bn,), (len(x),)).reshape(x.shape))


@contextlib.contextmanager
def synchronized_norms(model: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Inside the block take the statistics of BatchNorms in train mode over the batches of all processes.

    Every process must pass its share of each batch through the same layers in the same order. Norms of each image by
    itself need nothing. The function does nothing in a single process.

    Args:
        model: plain, split and searched BatchNorms of 1 and 2 dimensions, timm's with activation among them.
        wanted: False leaves the statistics to each process.

    Raises:
        InputError: this torch lacks an operator.

    Example:
        >>> bn = nn.BatchNorm1d(1)
        >>> with synchronized_norms(bn):
        ...     bn(torch.tensor([[1.0], [3.0]])).shape
        torch.Size([2, 1])
    """
    layers = [layer for layer in model.modules() if is_batchnorm(layer)] if wanted and processes() > 1 else []
    if layers and not all(can_normalize(parameter.device) for parameter in model.parameters()):
        raise InputError(
            f"torch {torch.__version__} lacks an operator that synchronised BatchNorms need; set train.sync_bn False, or "
            "install another torch"
        )
    with behaving(layers, _Synchronized):
        yield


def average_statistics(*models: nn.Module) -> None:
    """Replace the running statistics of every BatchNorm by their mean over all processes, where each counted its own images.

    Example:
        >>> bn = nn.BatchNorm1d(1)
        >>> average_statistics(bn)
        >>> bn.running_var.item()
        1.0
    """
    layers: list[Any] = [layer for model in models for layer in model.modules() if is_batchnorm(layer)]
    average([buffer for bn in layers for buffer in (bn.running_mean, bn.running_var) if buffer is not None])


def are_synchronized(*layers: nn.Module) -> bool:
    """Return whether all ``layers`` are BatchNorms in train mode inside a block of :func:`synchronized_norms`."""
    return all(isinstance(layer, _Synchronized) and layer.training for layer in layers)


class Statistics(NamedTuple):
    """Statistics of the batch of all processes, in float64, one row per part.

    Attributes:
        counts: (P, 1), values per channel.
        means: (P, C).
        variances: (P, C), biased.
    """

    counts: Tensor
    means: Tensor
    variances: Tensor


@torch.no_grad()
def whole_statistics(x: Tensor, lengths: Sequence[int], with_union: bool = False) -> Statistics:
    """Return the statistics of the parts of a batch over all processes.

    Args:
        x: (N, C, H, W), dense, this process's share of the batch.
        lengths: images of each part of ``x``.
        with_union: add the row of all parts together in front.
    """
    channels = x.shape[1]
    scratch = x.new_zeros(2, channels, dtype=torch.promote_types(x.dtype, torch.float32))
    rows = []
    for part in torch.split(x, list(lengths)):
        mean, variance = (value.double() for value in torch.batch_norm_update_stats(part, scratch[0], scratch[1], 0.0))
        count = part.numel() // channels
        rows.append(torch.cat((mean.new_tensor([count]), mean * count, (variance + mean.square()) * count)))
    sums = all_sum(torch.stack(rows))
    if with_union:
        sums = torch.cat((sums.sum(dim=0, keepdim=True), sums))
    counts, of_values, of_squares = torch.split(sums, [1, channels, channels], dim=1)
    means = of_values / counts
    return Statistics(counts, means, (of_squares / counts - means.square()).clamp(min=0))


@torch.no_grad()
def track(bn: Any, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    """Count a batch and move the running statistics of ``bn`` as torch does: unbiased variance, exponential average.

    Args:
        bn: a BatchNorm.
        mean: (C,), of the batch of all processes.
        variance: (C,), biased.
        count: (1,), values per channel.
    """
    if not bn.track_running_stats or bn.running_mean is None:
        return
    bn.num_batches_tracked.add_(1)
    # Without momentum torch takes the mean over all batches.
    rate = 1 / bn.num_batches_tracked.double() if bn.momentum is None else bn.momentum
    for running, value in ((bn.running_mean, mean), (bn.running_var, variance * (count / (count - 1)))):
        running.copy_(torch.lerp(running.double(), value, rate))


@uncompiled
def normalize_parts(x: Tensor, layers: Sequence[Any], lengths: Sequence[int]) -> Tensor:
    """Normalise each part of a batch by a layer of its own and the statistics of all processes; move the layers' statistics.

    Args:
        x: (N, C, H, W), this process's share of the batch.
        layers: a BatchNorm per part.
        lengths: images of each part.

    Returns:
        (N, C, H, W) in the dtype and memory format of ``x``. It can be differentiated once.
    """
    x = dense(x)
    statistics = whole_statistics(x, lengths)
    for bn, count, mean, variance in zip(layers, *statistics):
        track(bn, mean, variance, count)
    dtype = torch.promote_types(x.dtype, torch.float32)
    ones, zeros = x.new_ones(x.shape[1], dtype=dtype), x.new_zeros(x.shape[1], dtype=dtype)
    return normalize_with(
        x, lengths, statistics, layers[0].eps, [ones if bn.weight is None else bn.weight for bn in layers],
        [zeros if bn.bias is None else bn.bias for bn in layers],
    )


def normalize_with(
    x: Tensor, lengths: Sequence[int], statistics: Statistics, eps: float, weights: Sequence[Tensor], biases: Sequence[Tensor],
) -> Tensor:
    """Normalise each part of a batch by given statistics of all processes, which depend on ``x`` in the backward pass.

    Args:
        x: (N, C, H, W), dense.
        lengths: images of each part.
        statistics: of the parts.
        eps: added to the variances.
        weights: a scale (C,) per part.
        biases: a shift (C,) per part.

    Returns:
        (N, C, H, W) in the dtype and memory format of ``x``. It can be differentiated once.
    """
    dtype = weights[0].dtype
    means, rates = statistics.means.to(dtype), (statistics.variances + eps).rsqrt().to(dtype)
    apply: Callable[..., Tensor] = _Normalize.apply
    return apply(x, list(lengths), means, rates, statistics.counts.to(dtype), *weights, *biases)


class _Normalize(torch.autograd.Function):
    """See :func:`normalize_with`.

    With G = Σ dy and H = Σ dy r (x − μ) over the part of all processes, dx = γ r (dy − G / N − r (x − μ) H / N).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lengths: list[int], means: Tensor, rates: Tensor, counts: Tensor, *parameters: Tensor,
    ) -> Tensor:
        weights, biases = parameters[: len(lengths)], parameters[len(lengths) :]
        output = torch.empty_like(x)
        write = channel_affine(x, means)
        gains = torch.stack([weight.detach() for weight in weights]) * rates
        for part, target, gain, mean, bias in zip(torch.split(x, lengths), torch.split(output, lengths), gains, means, biases):
            write(part, gain, mean, bias, out=target)
        ctx.lengths = lengths
        ctx.save_for_backward(x, means, rates, counts, gains)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, means, rates, counts, gains = ctx.saved_tensors
        lengths = ctx.lengths
        inputs, grads = torch.split(x, lengths), torch.split(dense(grad, x), lengths)
        sums = [sums_of_gradient(*row) for row in zip(grads, inputs, means, rates)]
        by_scale, by_shift = (torch.stack(rows) for rows in zip(*sums))  # H and G of this process
        grad_x = None
        if ctx.needs_input_grad[0]:
            whole_scale, whole_shift = all_sum(torch.stack((by_scale, by_shift)))
            shared = -gains / counts
            slopes, shifts = shared * rates * whole_scale, shared * whole_shift
            grad_x = torch.empty_like(x)
            write = channel_affine(x, means)
            rows = zip(inputs, grads, torch.split(grad_x, lengths), slopes, means, shifts, gains)
            for part, grad_part, target, *coefficients in rows:
                affine_sum(write, part, grad_part, target, *coefficients)
        return grad_x, None, None, None, None, *by_scale, *by_shift
