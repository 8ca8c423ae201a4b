"""Batch-hard triplet losses, of one set of images and within and across two modalities."""
from __future__ import annotations

__all__ = ["BatchHardTripletLoss", "BatchLoss", "CrossModalityTripletLoss", "same_identity"]

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchreid_nas.device import move
from torchreid_nas.errors import InputError
from torchreid_nas.losses.halves import check_nonnegative, full_precision_halves, full_precision_parts


class BatchLoss(nn.Module):
    """A loss of all images of a batch, computed in float32 or better; a subclass says its formula in ``_loss``."""

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            features: (B, D) of all images of the batch, any floating dtype.
            pids: (B,) identities. Identities on the CPU spare the GPU a synchronisation.

        Returns:
            Scalar, float32 (float64 for float64 features).

        Raises:
            InputError: shapes do not fit, or the batch holds one identity only.
        """
        with full_precision_halves(features, features) as (features, _):
            return self._loss(features, pids)

    def _loss(self, features: Tensor, pids: Tensor) -> Tensor:
        raise NotImplementedError


class BatchHardTripletLoss(BatchLoss):
    r"""Batch-hard triplet loss of one set of images.

    Hermans, Beyer, Leibe. "In Defense of the Triplet Loss for Person
    Re-Identification", arXiv 1703.07737, Eq. 5:

    .. math:: L = \frac{1}{B} \sum_a \max(0, \max_{y_p = y_a} d(a, p) - \min_{y_n \ne y_a} d(a, n) + m)

    The anchor itself is among its positives. Distances are Euclidean, features
    are not normalised. The value is that of torchreid's ``TripletLoss`` (from
    open-reid), which loops over the anchors in Python. Ours: the search for the
    pairs, see :class:`CrossModalityTripletLoss`.

    Args:
        margin: m, in units of the feature distance.
        normalize: bring the features to length 1 first; not in the paper.

    Raises:
        InputError: ``margin`` is negative or not finite.

    >>> features = torch.tensor([[0.0], [1.0], [3.0], [3.0]])
    >>> BatchHardTripletLoss(margin=2.0)(features, torch.tensor([0, 0, 1, 1]))
    tensor(0.2500)
    """

    def __init__(self, margin: float = 0.3, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        self.margin = check_nonnegative("margin", margin)

    def _loss(self, features: Tensor, pids: Tensor) -> Tensor:
        features = F.normalize(features) if self.normalize else features
        same = same_identity(pids, features)[:, None]
        return _mean_hinge(features, _hardest(features.detach(), same), self.margin)

    def extra_repr(self) -> str:
        """Return margin and normalisation, for ``repr``."""
        return f"margin={self.margin}, normalize={self.normalize}"


class CrossModalityTripletLoss(nn.Module):
    """Mean of four batch-hard triplet losses: vv, tt, vt and tv.

    Hermans et al., "In Defense of the Triplet Loss", arXiv 1703.07737 ("batch hard",
    Eq. 5), as the authors of CM-NAS (Fu et al., ICCV 2021) use it in their code. The
    term *ab* takes its anchors from modality *a*. From modality *b* it takes the
    farthest image of the same identity and the nearest image of another identity.
    Distances are Euclidean, features are not normalised, and each of the 4B anchors
    adds max(0, d_positive − d_negative + margin) / 4B.

    In vv and tt the anchor itself is among the positives, at distance 0. The anchor
    is the hardest positive only where the half holds no other image of its identity
    (or nothing but copies). With one instance the term is max(0, margin − d_negative).

    Ours: one matrix of squared distances of the whole batch, without gradient,
    chooses the pairs. The distances of the chosen pairs then come from the feature
    differences: near duplicates do not suffer from the cancellation in
    ‖a‖² + ‖b‖² − 2aᵀb, and two equal features have the distance 0 with a zero
    gradient. The visible part may be n copies, as in a batch of CAJ,
    [visible; visible; infrared]: the loss stays the mean of the four terms, each
    the mean over its own anchors, and each anchor searches all copies.

    Args:
        margin: in units of the feature distance.
        normalize: bring the features to length 1 first, which the authors' code has as an option.

    Raises:
        InputError: ``margin`` is negative or not finite.

    >>> visible = infrared = torch.tensor([[0.0], [1.0]])
    >>> CrossModalityTripletLoss(margin=1.5)(visible, infrared, torch.tensor([0, 1]))
    tensor(0.5000)
    """

    def __init__(self, margin: float = 0.4, normalize: bool = False) -> None:
        super().__init__()
        self.normalize = normalize
        self.margin = check_nonnegative("margin", margin)

    def forward(self, visible: Tensor, infrared: Tensor, pids: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            visible: (B, D) features; (n·B, D) for n copies.
            infrared: (B, D) features in the same identity order.
            pids: (B,) identities, the same for the infrared part and each visible copy. Identities on the CPU spare the
                GPU a synchronisation.

        Returns:
            Scalar, float32 (float64 for float64 features).

        Raises:
            InputError: shapes do not fit, are not (B, D) and (B,), or the batch holds one identity only.
        """
        with full_precision_parts(visible, infrared) as (visible, infrared):
            same = same_identity(pids, infrared)[:, None]
            features = torch.cat((visible, infrared))
            features = F.normalize(features) if self.normalize else features
            if len(visible) == len(infrared):
                return _mean_hinge(features, _hardest(features.detach(), same), self.margin)
            return self._of_copies(features, same[:, 0])

    def _of_copies(self, features: Tensor, same: Tensor) -> Tensor:
        """Return the loss of parts of unequal lengths; ``same`` is (B, B)."""
        batch = len(same)
        parts = len(features) // batch
        whole = same.repeat(parts, parts)
        values = features.detach()
        distance = torch.addmm(values.square().sum(dim=1), values, values.mT, alpha=-2)
        positive, negative = distance.masked_fill(~whole, -torch.inf), distance.masked_fill(whole, torch.inf)
        edge = len(features) - batch
        terms = []
        for searched, first in ((slice(0, edge), 0), (slice(edge, None), edge)):
            hardest = torch.stack((positive[:, searched].argmax(dim=1), negative[:, searched].argmin(dim=1))) + first
            partners = features.index_select(0, hardest.flatten()).view(2, *features.shape)
            d_positive, d_negative = torch.linalg.vector_norm(features - partners, dim=-1)
            hinge = (d_positive - d_negative + self.margin).relu()
            terms += [hinge[:edge].mean(), hinge[edge:].mean()]
        return torch.stack(terms).mean()

    def extra_repr(self) -> str:
        """Return margin and normalisation, for ``repr``."""
        return f"margin={self.margin}, normalize={self.normalize}"


def same_identity(pids: Tensor, features: Tensor) -> Tensor:
    """Return (B, B) bool on the features' device, true where the identities of two rows agree."""
    pids = torch.as_tensor(pids)
    if pids.shape != features.shape[:1]:
        raise InputError(
            f"pids has shape {tuple(pids.shape)}, expected ({features.shape[0]},); "
            "pass one identity per feature row; the two halves of a batch share the identities of the visible half"
        )
    if (pids == pids[0]).all():
        raise InputError(
            f"every image of the batch is of identity {pids[0].item()}, so no triplet has a negative; "
            "draw at least two identities per batch"
        )
    pids = move(pids, features.device)
    same: Tensor = pids[:, None] == pids
    return same


def _mean_hinge(features: Tensor, hardest: Tensor, margin: float) -> Tensor:
    """Return the mean of max(0, d_positive − d_negative + margin) over anchors and parts searched."""
    partners = features.index_select(0, hardest.flatten()).view(*hardest.shape, -1)
    d_positive, d_negative = torch.linalg.vector_norm(features - partners, dim=-1)
    hinge: Tensor = (d_positive - d_negative + margin).relu()
    return hinge.mean()


def _hardest(features: Tensor, same: Tensor) -> Tensor:
    """Return the rows of the hardest positive and negative of each anchor in each part of the features.

    Args:
        features: (M·B, D), the parts one after the other, without gradient.
        same: (B, 1, B), true where the identities of two rows of a part agree.

    Returns:
        (2, M, M·B) rows of ``features``, indexed by positive or negative, part searched, anchor.
    """
    batch = same.shape[0]
    parts = len(features) // batch
    # ‖a‖² of the anchor shifts a whole row, so it is left out: the largest and smallest column stay the same.
    distance = torch.addmm(features.square().sum(dim=1), features, features.mT, alpha=-2)
    distance = distance.view(parts, batch, parts, batch)
    positive = distance.masked_fill(~same, -torch.inf).argmax(dim=-1)
    negative = distance.masked_fill(same, torch.inf).argmin(dim=-1)
    first_row = torch.arange(parts, device=features.device) * batch
    # The anchor is the last dimension: backward then sums the gradients of an anchor's four partners over a leading
    # dimension. The sum over an inner dimension took half of the loss's time on a CPU.
    rows: Tensor = (torch.stack((positive, negative)) + first_row).flatten(1, 2).mT
    return rows
