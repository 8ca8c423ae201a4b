"""The searched BatchNorm of CM-NAS: a weighted sum of a shared and a split BatchNorm at the price of one.

Both candidates are affine in x once the statistics are given. The statistics of
the union follow from the statistics of its two parts, w_v and w_t of the batch
(one half each, or two and one third for a batch of CAJ). Per modality m:

    p_share · BN_share(x) + p_split · BN_m(x) = W_m · (x − μ_m) / σ_m + B_m
    W_m = p_share · γ_s · σ_m / σ_s + p_split · γ_m
    B_m = p_share · (β_s + γ_s · (μ_m − μ_s) / σ_s) + p_split · β_m
    μ_s = w_v μ_v + w_t μ_t,   σ²_s = w_v σ²_v + w_t σ²_t + w_v w_t (μ_v − μ_t)²

The paper publishes no relaxation; the softmax over two logits is ours.
"""
from __future__ import annotations

__all__ = ["MixedBatchNorm1d", "MixedBatchNorm2d"]

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F

from torchreid_nas.architecture import SHARE, SPLIT
from torchreid_nas.errors import InputError
from torchreid_nas.layers.affine import can_normalize
from torchreid_nas.layers.mixed_function import mixed_normalize
from torchreid_nas.layers.modality import BOTH
from torchreid_nas.layers.norms import has_activation
from torchreid_nas.layers.split_bn import SplitBatchNorm2d, normalize_by_modality
from torchreid_nas.layers.split_function import TrackedBatchNorm, count_batch, dense, finish, parts
from torchreid_nas.layers.split_norm import MixedNorm, SplitNorm, check_joint, forward_parts
from torchreid_nas.layers.sync_norm import are_synchronized, normalize_with, track, uncompiled, whole_statistics


class MixedBatchNorm2d(MixedNorm):
    """Shared and split BatchNorm at once, weighted by two logits.

    In train mode a joint batch is normalised by its own statistics, and the
    running statistics of all three BatchNorms move as those of plain layers.
    Where one of the three is in eval mode (frozen), all three normalise by
    their running statistics, which stay. A batch of one declared modality has
    the same statistics for both candidates. A joint batch can be differentiated
    once (mixed_function.py), as both orders of the search need.

    Args:
        bn: the layer to search over, or the number of channels of a new one.
            The shared BatchNorm and the BatchNorms of the modalities start
            from its parameters and running statistics.

    Attributes:
        logits: (2,) parameter, preferences for ``(share, split)``, zero at the
            start. It belongs to the architecture optimiser only.
        temperature: divides the logits before the softmax.
        noise: (2,) tensor added to the logits (Gumbel noise), or None.
        choice: ``"share"`` or ``"split"`` for that candidate alone, exactly as :meth:`harden` makes it; the other one,
            its running statistics included, stays. None for the weighted sum.

    Shapes: (N, C, H, W) -> (N, C, H, W) in the dtype and memory format of the
    input. Statistics of float16/bfloat16 inputs have the dtype of the parameters.

    Raises:
        InputError: ``bn`` lacks affine parameters, running statistics or a
            fixed momentum.

    Example:
        >>> layer = MixedBatchNorm2d(4)
        >>> layer(torch.randn(6, 4, 2, 2)).shape
        torch.Size([6, 4, 2, 2])
        >>> layer.probabilities().tolist()
        [0.5, 0.5]
        >>> type(layer.harden(choice_is_split=True)).__name__
        'SplitBatchNorm2d'
    """

    split_class: type[SplitNorm] = SplitBatchNorm2d

    def __init__(self, bn: nn.BatchNorm2d | nn.BatchNorm1d | int) -> None:
        bn = nn.BatchNorm2d(bn) if isinstance(bn, int) else bn
        if not (bn.affine and bn.track_running_stats and bn.momentum is not None):
            raise InputError(
                "a searched BatchNorm needs affine parameters, running statistics and a fixed momentum; "
                f"got {bn}"
            )
        super().__init__(bn)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise a batch (N, C, H, W).

        Raises:
            InputError: the modality is not known in eval mode, a joint batch
                does not divide into its parts, or a modality has one value
                per channel in train mode.
        """
        if self.choice == SHARE:
            output: torch.Tensor = self.share(x)
            return output
        if self.choice == SPLIT:
            return normalize_by_modality(self, x, self.visible, self.infrared)
        # The activation of timm's BatchNormAct2d acts on the weighted sum.
        return finish(self.share, self._weighted_sum(x))

    def _weighted_sum(self, x: torch.Tensor) -> torch.Tensor:
        modality = self.modality()
        probabilities = self.probabilities()
        own = self.visible, self.infrared
        by_batch = self.training and self.share.training and all(bn.training for bn in own)
        if modality != BOTH:
            return self._forward_single(x, getattr(self, modality), probabilities, by_batch)
        length, whole = check_joint(self, x), x.shape[0]
        if not by_batch:
            return torch.cat([self._forward_single(part, bn, probabilities, False) for part, bn in zip(parts(x, length), own)])
        parameters = [parameter for bn in (self.share, *own) for parameter in (bn.weight, bn.bias)]
        if are_synchronized(self.share, *own):
            return self._forward_synchronized(dense(x), probabilities, parameters, length)
        _refuse_one_value(x, min(length, whole - length))
        if not can_normalize(x.device):
            return self._forward_plain(x, probabilities, length)
        x = dense(x)
        with torch.no_grad():
            count_batch(self.share, *own)
            (mean_v, var_v), (mean_t, var_t) = (_statistics(part, bn) for part, bn in zip(parts(x, length), own))
            infrared_share = (whole - length) / whole
            mean = torch.lerp(mean_v, mean_t, infrared_share)
            means = torch.stack((mean_v, mean_t))
            offsets = means - mean
            var = torch.lerp(var_v, var_t, infrared_share)
            # w_v w_t (μ_v − μ_t)² is minus the product of the offsets. The offsets of two halves are opposite: it is a square.
            var = var.addcmul_(offsets[0], offsets[0]) if 2 * length == whole else var.addcmul_(*offsets, value=-1)
            _track(self.share, mean, var, count=x.numel() // x.shape[1])
            rates = torch.stack((var, var_v, var_t)).add_(self.share.eps).rsqrt_()
        return mixed_normalize(x, probabilities, parameters, means, offsets, rates, length)

    @uncompiled
    def _forward_synchronized(
        self, x: torch.Tensor, probabilities: torch.Tensor, parameters: Sequence[torch.Tensor], length: int,
    ) -> torch.Tensor:
        """Return the weighted sum by the statistics of all processes."""
        statistics = whole_statistics(x, (length, x.shape[0] - length), with_union=True)
        with torch.no_grad():
            for bn, count, mean, var in zip((self.share, self.visible, self.infrared), *statistics):
                track(bn, mean, var, count)
            counts, means, rates = (
                value.to(probabilities.dtype)
                for value in (statistics.counts, statistics.means, (statistics.variances + self.share.eps).rsqrt())
            )
            offsets = (statistics.means[1:] - statistics.means[0]).to(probabilities.dtype)
        return mixed_normalize(x, probabilities, parameters, means[1:], offsets, rates, length, counts)

    def _forward_plain(self, x: torch.Tensor, probabilities: torch.Tensor, length: int) -> torch.Tensor:
        """Return the weighted sum as the formula has it, by public functions of torch."""
        share, split = probabilities
        visible, infrared = parts(x, length)
        own = _normalized(self.visible, visible), _normalized(self.infrared, infrared)
        output: torch.Tensor = share * _normalized(self.share, x) + split * torch.cat(own)
        return output

    def _forward_single(
        self, x: torch.Tensor, bn: TrackedBatchNorm, probabilities: torch.Tensor, by_batch: bool,
    ) -> torch.Tensor:
        share, split = probabilities
        if by_batch:
            # Both candidates have the statistics of x: they differ by their parameters alone.
            weight, bias = share * self.share.weight + split * bn.weight, share * self.share.bias + split * bn.bias
            if are_synchronized(self.share, bn):
                x = dense(x)
                statistics = whole_statistics(x, (len(x),))
                for layer in (self.share, bn):
                    track(layer, statistics.means[0], statistics.variances[0], statistics.counts[0])
                return normalize_with(x, (len(x),), statistics, bn.eps, [weight], [bias])
            _refuse_one_value(x, x.shape[0])
            with torch.no_grad():
                count_batch(self.share, bn)
                _statistics(x, self.share)
            return F.batch_norm(x, bn.running_mean, bn.running_var, weight, bias, True, bn.momentum, bn.eps)
        gain = share * self.share.weight * torch.rsqrt(self.share.running_var + self.share.eps)
        weight = gain * torch.sqrt(bn.running_var + bn.eps) + split * bn.weight
        bias = gain * (bn.running_mean - self.share.running_mean) + share * self.share.bias + split * bn.bias
        return F.batch_norm(x, bn.running_mean, bn.running_var, weight, bias, False, 0.0, bn.eps)


class MixedBatchNorm1d(MixedBatchNorm2d):
    """:class:`MixedBatchNorm2d` in the place of a BatchNorm1d.

    Shapes: (N, C) or (N, C, L) -> the same; the rows of an image stand together.

    Example:
        >>> MixedBatchNorm1d(nn.BatchNorm1d(4))(torch.randn(6, 4)).shape
        torch.Size([6, 4])
    """

    split_class = SplitNorm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise a batch; see :meth:`MixedBatchNorm2d.forward`."""
        if self.choice == SHARE:
            output: torch.Tensor = self.share(x)
            return output
        if self.choice == SPLIT:
            return forward_parts(self, x, self.visible, self.infrared)
        return self._weighted_sum(x.reshape(*x.shape[:2], -1, 1)).reshape(x.shape)

    def _forward_plain(self, x: torch.Tensor, probabilities: torch.Tensor, length: int) -> torch.Tensor:
        return super()._forward_plain(x.flatten(2), probabilities, length)[..., None]


def _normalized(bn: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return what a BatchNorm gives before the activation that timm's may have."""
    output: torch.Tensor = nn.BatchNorm2d.forward(cast(nn.BatchNorm2d, bn), x) if has_activation(bn) else bn(x)
    return output


def _refuse_one_value(x: torch.Tensor, images: int) -> None:
    """Raise InputError where the smallest part of x, of so many images, has one value per channel."""
    if images * x.shape[2:].numel() == 1:
        # The kernel makes the running variance NaN and raises no error.
        raise InputError(
            f"a searched BatchNorm got one value per channel, {(images, *x.shape[1:])}, which has no variance; "
            "give each modality more images, or larger ones"
        )


def _statistics(x: torch.Tensor, bn: TrackedBatchNorm) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and biased variance of x, each (C,), and move the running statistics of ``bn``."""
    return torch.batch_norm_update_stats(x, bn.running_mean, bn.running_var, bn.momentum)


def _track(bn: TrackedBatchNorm, mean: torch.Tensor, var: torch.Tensor, count: int) -> None:
    """Move the running statistics of ``bn`` as native BatchNorm does: unbiased variance, exponential average."""
    running = bn.running_mean, bn.running_var
    batch = mean.to(running[0].dtype), (var * (count / max(count - 1, 1))).to(running[1].dtype)
    torch._foreach_lerp_(running, batch, bn.momentum)
