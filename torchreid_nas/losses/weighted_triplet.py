"""Weighted regularised triplet loss (AGW) and the enhanced squared difference (CAJ), over all images of a batch."""
from __future__ import annotations

__all__ = ["EnhancedSquaredDifferenceLoss", "WeightedRegularizedTripletLoss"]

import torch
from torch import Tensor
from torch.nn import functional as F

from torchreid_nas.losses.halves import check_nonnegative
from torchreid_nas.losses.triplet import BatchLoss, same_identity

# The authors' floor of a squared distance is 1e-12, so an image lies at 1e-6 from itself.
_SMALLEST_DISTANCE = 1e-6
_DENOMINATOR = 1e-6
# exp(88) is the last power of e in float32.
_LARGEST_EXPONENT = 88.0


class WeightedRegularizedTripletLoss(BatchLoss):
    r"""Weighted regularised triplet loss of a batch, whatever the modality of its images.

    Ye, Shen, Lin, Xiang, Shao, Hoi. "Deep Learning for Person Re-identification: A Survey
    and Outlook", TPAMI 2021 (AGW), Eq. 10 and 11:

    .. math::
        L = \frac{1}{B} \sum_a \log(1 + \exp(\sum_p w^+_{ap} d_{ap} - \sum_n w^-_{an} d_{an}))

    :math:`w^+` is the softmax of the distances over the positives of the anchor, :math:`w^-`
    the softmax of the negated distances over its negatives. The anchor is one of its
    positives. As in the authors' code, each softmax adds 1e-6 to its denominator and no
    distance is below 1e-6. The loss has no margin.

    Args:
        normalize: divide each feature by its length first.

    >>> features = torch.tensor([[0.0], [1.0], [4.0], [4.0]])
    >>> WeightedRegularizedTripletLoss()(features, torch.tensor([0, 0, 1, 1]))
    tensor(0.0526)
    """

    def __init__(self, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = bool(normalize)

    def _loss(self, features: Tensor, pids: Tensor) -> Tensor:
        if self.normalize:
            features = F.normalize(features)
        positive, negative = _weighted_distances(features, pids, alpha=1.0)
        return F.softplus(positive - negative).mean()

    def extra_repr(self) -> str:
        """Return the option, for ``repr``."""
        return f"normalize={self.normalize}"


class EnhancedSquaredDifferenceLoss(BatchLoss):
    r"""Weighted regularised triplet loss with a squared difference of the two distances.

    Ye, Ruan, Du, Shou. "Channel Augmented Joint Learning for Visible-Infrared
    Recognition", ICCV 2021 (CAJ), Eq. 9 to 11. With the weighted distances p to the
    positives and n to the negatives of an anchor (see
    :class:`WeightedRegularizedTripletLoss`; :math:`\alpha` multiplies the distances in both
    softmaxes):

    .. math::
        L = \frac{1}{B} \sum_a \log(1 + \exp(-y_a \gamma (p_a - n_a)^2)),
        \quad y_a = 1 \text{ where } n_a \ge p_a \text{ and } -1 \text{ elsewhere}

    As in the authors' code, the exponent :math:`\gamma (p_a - n_a)^2` ends at 88. An anchor
    beyond this end has no gradient.

    Args:
        alpha: sharpness of the two softmaxes; the paper's is 1.
        gamma: factor of the squared difference; the paper's is 1.

    Raises:
        InputError: ``alpha`` or ``gamma`` is negative or not finite.

    >>> features = torch.tensor([[0.0], [1.0], [4.0], [4.0]])
    >>> EnhancedSquaredDifferenceLoss()(features, torch.tensor([0, 0, 1, 1]))
    tensor(0.0015)
    """

    def __init__(self, alpha: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__()
        self.alpha = check_nonnegative("alpha", alpha)
        self.gamma = check_nonnegative("gamma", gamma)

    def _loss(self, features: Tensor, pids: Tensor) -> Tensor:
        positive, negative = _weighted_distances(features, pids, self.alpha)
        squared = (self.gamma * (positive - negative).square()).clamp(max=_LARGEST_EXPONENT)
        return F.softplus(torch.where(negative >= positive, -squared, squared)).mean()

    def extra_repr(self) -> str:
        """Return the two factors, for ``repr``."""
        return f"alpha={self.alpha}, gamma={self.gamma}"


def _weighted_distances(features: Tensor, pids: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Return two (B,) tensors: each anchor's weighted mean distance to its positives and to its negatives."""
    same = same_identity(pids, features)
    distance = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist").clamp(min=_SMALLEST_DISTANCE)
    positive = _softmax(alpha * distance, same)
    negative = _softmax(-alpha * distance, ~same)
    return (positive * distance).sum(dim=1), (negative * distance).sum(dim=1)


def _softmax(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the softmax of each row over its chosen columns, 0 elsewhere, with 1e-6 in the denominator.

    The authors subtract a row's largest value from its exponents, and this largest value is at least 0: the columns that
    are not chosen count as 0 there. The 1e-6 makes a difference for negated distances, whose largest is below 0.
    """
    kept = torch.where(chosen, values, torch.zeros_like(values))
    exponential = torch.exp(kept - kept.amax(dim=1, keepdim=True)) * chosen
    return exponential / (exponential.sum(dim=1, keepdim=True) + _DENOMINATOR)
