"""Batch-hard triplet losses, of one set of images and within and across two modalities."""
from __future__ import annotations

__all__ = ["BatchHardTripletLoss", "CrossModalityTripletLoss"]

import torch
from torch import Tensor, nn

from torchreid_nas.device import move
from torchreid_nas.errors import InputError
from torchreid_nas.losses.halves import check_nonnegative, full_precision_halves


class BatchHardTripletLoss(nn.Module):
    """Batch-hard triplet loss of one set of images (Hermans et al., "In Defense of the Triplet Loss", arXiv 1703.07737).

    The mean over the batch of max(0, d_positive − d_negative + margin) of the
    farthest image of the same identity, the anchor itself among them, and the
    nearest of another one; distances are Euclidean, features not normalised.
    That is torchreid's ``TripletLoss`` (open-reid's), which walks the anchors
    in Python. Pairs are chosen as :class:`CrossModalityTripletLoss` does (ours).

    Args:
        margin: margin in units of the feature distance.

    Raises:
        InputError: ``margin`` is negative or not finite.
    """

    def __init__(self, margin: float = 0.3) -> None:
        super().__init__()
        self.margin = check_nonnegative("margin", margin)

    def forward(self, features: Tensor, pids: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            features: (B, D), any floating dtype.
            pids: (B,) identities. On the CPU they spare the GPU a synchronisation.

        Returns:
            Scalar, float32 (float64 for float64 features).

        Raises:
            InputError: shapes do not fit, or the batch holds one identity only.
        """
        with full_precision_halves(features, features) as (features, _):
            same = _same_identity(pids, features)[:, None]
            return _mean_hinge(features, _hardest(features.detach(), same), self.margin)

    def extra_repr(self) -> str:
        return f"margin={self.margin}"


class CrossModalityTripletLoss(nn.Module):
    """Mean of four batch-hard triplet losses: vv, tt, vt and tv.

    Hermans et al., "In Defense of the Triplet Loss", arXiv 1703.07737 ("batch hard"),
    used as in the authors' code of CM-NAS (Fu et al., ICCV 2021): the term
    *ab* takes its anchors from modality *a*, and the farthest image of the same
    identity and the nearest image of another one from modality *b*. Distances
    are Euclidean, features are not normalised, and each of the 4B anchors adds
    max(0, d_positive − d_negative + margin) / 4B.

    In vv and tt the anchor itself is among the positives, at distance 0. It is
    the hardest one only when the half holds no other image of its identity (or
    nothing but copies), so with one instance the term is max(0, margin − d_negative).

    Ours: pairs are chosen by one matrix of squared distances of the whole
    batch, which carries no gradient; the distances of the chosen pairs are then
    taken from the feature differences. That spares near duplicates the
    cancellation in ‖a‖² + ‖b‖² − 2aᵀb, and two equal features have the distance
    0 with a zero gradient.

    Args:
        margin: margin in units of the feature distance.

    Raises:
        InputError: ``margin`` is negative or not finite.
    """

    def __init__(self, margin: float = 0.4) -> None:
        super().__init__()
        self.margin = check_nonnegative("margin", margin)

    def forward(self, visible: Tensor, infrared: Tensor, pids: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            visible: (B, D) features.
            infrared: (B, D) features in the same identity order.
            pids: (B,) identities, the same for both halves. On the CPU they spare the GPU a synchronisation.

        Returns:
            Scalar, float32 (float64 for float64 features).

        Raises:
            InputError: shapes differ, are not (B, D) and (B,), or the batch holds one identity only.
        """
        with full_precision_halves(visible, infrared) as (visible, infrared):
            same = _same_identity(pids, visible)[:, None]
            features = torch.cat((visible, infrared))
            return _mean_hinge(features, _hardest(features.detach(), same), self.margin)

    def extra_repr(self) -> str:
        return f"margin={self.margin}"


def _same_identity(pids: Tensor, features: Tensor) -> Tensor:
    """Return (B, B) bool on the features' device, true where the identities of two rows agree."""
    pids = torch.as_tensor(pids)
    if pids.shape != features.shape[:1]:
        raise InputError(
            f"pids has shape {tuple(pids.shape)}, expected ({features.shape[0]},); "
            "pass one identity per feature row, of two halves those of the visible one, which both share"
        )
    if (pids == pids[0]).all():
        raise InputError(
            f"every image of the batch is of identity {pids[0].item()}, so no triplet has a negative; "
            "draw at least two identities per batch"
        )
    pids = move(pids, features.device)
    return pids[:, None] == pids


def _mean_hinge(features: Tensor, hardest: Tensor, margin: float) -> Tensor:
    """Return the mean of max(0, d_positive − d_negative + margin) over anchors and parts searched."""
    partners = features.index_select(0, hardest.flatten()).view(*hardest.shape, -1)
    d_positive, d_negative = torch.linalg.vector_norm(features - partners, dim=-1)
    return (d_positive - d_negative + margin).relu().mean()


def _hardest(features: Tensor, same: Tensor) -> Tensor:
    """Rows of the hardest positive and negative of each anchor in each part of the features.

    Args:
        features: (M·B, D), the parts one after the other, without gradient.
        same: (B, 1, B), true where the identities of two rows of a part agree.

    Returns:
        (2, M, M·B) rows of ``features``, indexed by positive or negative, part searched, anchor.
    """
    batch = same.shape[0]
    parts = len(features) // batch
    # ‖a‖² of the anchor shifts a whole row and cannot change which entry is largest or smallest.
    distance = torch.addmm(features.square().sum(dim=1), features, features.mT, alpha=-2)
    distance = distance.view(parts, batch, parts, batch)
    positive = distance.masked_fill(~same, -torch.inf).argmax(dim=-1)
    negative = distance.masked_fill(same, torch.inf).argmin(dim=-1)
    first_row = torch.arange(parts, device=features.device) * batch
    # The anchor comes last, so that backward sums the gradients of an anchor's four partners over a leading
    # dimension; over an inner one that sum alone was half of the loss's time on a CPU.
    return (torch.stack((positive, negative)) + first_row).flatten(1, 2).mT
