"""The searched BatchNorm of CM-NAS: a weighted sum of a shared and a split BN at the price of one.

Both candidates are affine in x given the statistics, and the statistics of the
union follow from those of its two equal halves, so that per modality m

    p_share · BN_share(x) + p_split · BN_m(x) = W_m · (x − μ_m) / σ_m + B_m
    W_m = p_share · γ_s · σ_m / σ_s + p_split · γ_m
    B_m = p_share · (β_s + γ_s · (μ_m − μ_s) / σ_s) + p_split · β_m
    μ_s = (μ_v + μ_t) / 2,   σ²_s = (σ²_v + σ²_t) / 2 + ((μ_v − μ_t) / 2)²

The paper publishes no relaxation; this one (softmax over two logits) is ours.
"""
from __future__ import annotations

__all__ = ["MixedBatchNorm2d"]

import copy

import torch
from torch import nn
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.layers.mixed_function import MixedNormalize
from torchreid_nas.layers.modality import BOTH, ModalityLayer
from torchreid_nas.layers.split_bn import SplitBatchNorm2d, check_joint
from torchreid_nas.layers.split_function import count_batch, dense, halves


class MixedBatchNorm2d(ModalityLayer):
    """Shared and split BatchNorm at once, weighted by two logits.

    Args:
        bn: the layer to search over, or the number of channels of a new one;
            the shared BN and those of the modalities all start from its
            parameters and running statistics.

    Attributes:
        logits: (2,) parameter, preferences for ``(share, split)``, zero at the
            start. It belongs to the architecture optimiser only.
        temperature: divides the logits before the softmax.
        noise: (2,) tensor added to the logits (Gumbel noise), or None.

    In train mode a joint batch is normalised by its own statistics, and the
    running statistics of all three BatchNorms move as those of plain ones
    would. Where one of the three is in eval mode (frozen), all normalise by
    their running statistics, which stay. A batch of one declared modality has
    the same statistics for both candidates. Dtype: float16/bfloat16 inputs keep statistics in the dtype of
    the parameters. A joint batch can be differentiated once (mixed_function.py),
    which is what both orders of the search need.
    """

    def __init__(self, bn: nn.BatchNorm2d | int) -> None:
        super().__init__()
        bn = nn.BatchNorm2d(bn) if isinstance(bn, int) else bn
        if not (bn.affine and bn.track_running_stats and bn.momentum is not None):
            raise InputError(
                "a searched BatchNorm needs affine parameters, running statistics and a fixed momentum; "
                f"got {bn}"
            )
        self.share = copy.deepcopy(bn)
        self.visible = copy.deepcopy(bn)
        self.infrared = copy.deepcopy(bn)
        self.logits = nn.Parameter(bn.weight.new_zeros(2))
        self.temperature = 1.0
        self.noise: torch.Tensor | None = None
        self.training = bn.training

    def probabilities(self) -> torch.Tensor:
        """Return (2,) weights of ``(share, split)`` as the forward pass uses them."""
        logits = self.logits if self.noise is None else self.logits + self.noise
        return torch.softmax(logits if self.temperature == 1 else logits / self.temperature, dim=0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        modality = self.modality()
        probabilities = self.probabilities()
        own = self.visible, self.infrared
        by_batch = self.training and self.share.training and all(bn.training for bn in own)
        if modality != BOTH:
            return self._forward_single(x, getattr(self, modality), probabilities, by_batch)
        check_joint(self, x)
        if not by_batch:
            return torch.cat([self._forward_single(part, bn, probabilities, False) for part, bn in zip(halves(x), own)])
        x = dense(x)
        with torch.no_grad():
            count_batch(self.share, *own)
            (mean_v, var_v), (mean_t, var_t) = (_statistics(part, bn) for part, bn in zip(halves(x), own))
            mean = torch.lerp(mean_v, mean_t, 0.5)
            means = torch.stack((mean_v, mean_t))
            offsets = means - mean
            var = torch.lerp(var_v, var_t, 0.5).addcmul_(offsets[0], offsets[0])
            _track(self.share, mean, var, count=x.numel() // x.shape[1])
            rates = torch.stack((var, var_v, var_t)).add_(self.share.eps).rsqrt_()
        parameters = [parameter for bn in (self.share, *own) for parameter in (bn.weight, bn.bias)]
        return MixedNormalize.apply(x, probabilities, *parameters, means, offsets, rates)

    def _forward_single(
        self, x: torch.Tensor, bn: nn.BatchNorm2d, probabilities: torch.Tensor, by_batch: bool,
    ) -> torch.Tensor:
        share, split = probabilities
        if by_batch:
            # The statistics of x are those of both candidates, which then differ by their parameters alone.
            with torch.no_grad():
                count_batch(self.share, bn)
                _statistics(x, self.share)
            weight, bias = share * self.share.weight + split * bn.weight, share * self.share.bias + split * bn.bias
            return F.batch_norm(x, bn.running_mean, bn.running_var, weight, bias, True, bn.momentum, bn.eps)
        gain = share * self.share.weight * torch.rsqrt(self.share.running_var + self.share.eps)
        weight = gain * torch.sqrt(bn.running_var + bn.eps) + split * bn.weight
        bias = gain * (bn.running_mean - self.share.running_mean) + share * self.share.bias + split * bn.bias
        return F.batch_norm(x, bn.running_mean, bn.running_var, weight, bias, False, 0.0, bn.eps)

    def harden(self, choice_is_split: bool) -> nn.Module:
        """Return the plain layer that this one equals when one candidate has all the weight."""
        if not choice_is_split:
            return copy.deepcopy(self.share).requires_grad_()
        layer = SplitBatchNorm2d(self.share)
        layer.visible, layer.infrared = copy.deepcopy(self.visible), copy.deepcopy(self.infrared)
        return layer.requires_grad_()


def _statistics(x: torch.Tensor, bn: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and biased variance of x, each (C,), and move the running statistics of ``bn``."""
    if x.numel() == x.shape[1]:
        # The kernel would make the running variance NaN without a word.
        raise InputError(
            f"a searched BatchNorm got one value per channel, {tuple(x.shape)}, which has no variance; "
            "give each modality more images, or larger ones"
        )
    return torch.batch_norm_update_stats(x, bn.running_mean, bn.running_var, bn.momentum)


def _track(bn: nn.BatchNorm2d, mean: torch.Tensor, var: torch.Tensor, count: int) -> None:
    """Move the running statistics of ``bn`` as native BatchNorm does: unbiased variance, exponential average."""
    running = bn.running_mean, bn.running_var
    batch = mean.to(running[0].dtype), (var * (count / max(count - 1, 1))).to(running[1].dtype)
    torch._foreach_lerp_(running, batch, bn.momentum)
