"""Cross-modality class-consistent MMD (C3MMD) of CM-NAS and its two parts.

Fu, Hu, Wu, Shi, Mei, He. "CM-NAS: Cross-Modality Neural Architecture Search
for Visible-Infrared Person Re-Identification", ICCV 2021. The name C3MMD comes
from arXiv 2101.08467v1.

The three losses take the two halves of a batch: features after the BNNeck of
shape (B, D) with B = P * K. Both halves hold the same P identities in the same
order, with K = ``num_instances`` consecutive images of each identity.

A batch of CAJ is [visible; visible; infrared]: its visible part is n = 2 copies
of the visible half, (n·B, D) features, each copy with the identities of the
infrared part. The losses take such a part too (ours).
"""
from __future__ import annotations

__all__ = ["ClassMMDLoss", "CorrelationConsistencyLoss", "C3MMDLoss"]

import torch
from torch import Tensor, nn

from torchreid_nas.errors import InputError
from torchreid_nas.losses.halves import check_nonnegative, check_num_instances, full_precision_parts


class ClassMMDLoss(nn.Module):
    r"""Class-specific squared maximum mean discrepancy between the modalities.

    Fu et al. (CM-NAS), ICCV 2021. Features are L2-normalised. The loss is the mean
    over the identities of the biased MMD² with the kernel k(a, b) = (aᵀb)²:

    .. math:: L = \frac{1}{P K^2} \sum_p \sum_{i,j}
              (v_{pi}^\top v_{pj})^2 + (t_{pi}^\top t_{pj})^2 - 2 (v_{pi}^\top t_{pj})^2

    This equals the mean over identities of ‖mean(v vᵀ) − mean(t tᵀ)‖²_F, a
    distance between D × D second moments. The K × K products above never form
    the second moments. The value lies in [0, 2]; where the true value is 0,
    rounding may give a value slightly below 0.

    Ours: a feature that is exactly zero has no direction and stays zero. The
    visible images of an identity may be n·K, where the visible part is n copies:
    mean(v vᵀ) is then over all of them.

    Args:
        num_instances: K, images per identity and modality.

    Raises:
        InputError: ``num_instances`` is no integer of at least 1.

    >>> one, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    >>> ClassMMDLoss(num_instances=1)(one, other)
    tensor(2.)
    """

    def __init__(self, num_instances: int) -> None:
        super().__init__()
        self.num_instances = check_num_instances(num_instances)

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            visible: (B, D) features, identities in runs of K; (n·B, D) for n copies.
            infrared: (B, D) features of the same identities in the same order.

        Returns:
            Scalar, float32 (float64 for float64 features).

        Raises:
            InputError: shapes do not fit, are not (B, D), or B is no multiple of K.
        """
        with full_precision_parts(visible, infrared) as (visible, infrared):
            batch, dim = infrared.shape
            if batch % self.num_instances:
                raise InputError(
                    f"each half holds {batch} images, expected a multiple of num_instances = {self.num_instances}; "
                    "use an identity sampler with the same number of instances"
                )
            groups = (-1, self.num_instances, dim)
            v = _normalize_rows(visible).reshape(groups)
            t = _normalize_rows(infrared).reshape(groups)
            if len(v) != len(t):
                v = v.reshape(-1, len(t), *groups[1:]).transpose(0, 1).flatten(1, 2)
                pairs = torch.bmm(v, v.mT), torch.bmm(t, t.mT), torch.bmm(v, t.mT)
                vv, tt, vt = (products.square().mean() for products in pairs)
                return vv + tt - 2 * vt
            vv, tt, vt = torch.bmm(v, v.mT), torch.bmm(t, t.mT), torch.bmm(v, t.mT)
            return (vv.square() + tt.square() - 2 * vt.square()).mean()

    def extra_repr(self) -> str:
        """Return K, for ``repr``."""
        return f"num_instances={self.num_instances}"


class CorrelationConsistencyLoss(nn.Module):
    r"""Consistency of the correlations within either modality.

    Fu et al. (CM-NAS), ICCV 2021. G(F) = F Fᵀ takes the features as they are, and
    Ĝ is G with L2-normalised rows:

    .. math:: L = \frac{1}{B^2} \| \hat G(F_v) - \hat G(F_t) \|_F^2

    Gradients reach both modalities. Ours: a row of G that is exactly zero
    stays zero. A visible part of n copies counts by the mean over the copies.

    >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> CorrelationConsistencyLoss()(features, 2 * features)
    tensor(0.)
    """

    def forward(self, visible: Tensor, infrared: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            visible: (B, D) features; (n·B, D) for n copies.
            infrared: (B, D) features of the same identities in the same order.

        Returns:
            Scalar, float32 (float64 for float64 features).

        Raises:
            InputError: shapes do not fit or are not (B, D).
        """
        with full_precision_parts(visible, infrared) as (visible, infrared):
            of_infrared = _normalize_rows(infrared @ infrared.mT)
            copies = torch.split(visible, len(infrared))
            return torch.stack([(_normalize_rows(v @ v.mT) - of_infrared).square().mean() for v in copies]).mean()


class C3MMDLoss(nn.Module):
    r"""Weighted sum of correlation consistency and class-specific MMD.

    Fu et al. (CM-NAS), ICCV 2021:

    .. math:: L = \lambda_{corr} L_{corr} + \lambda_{MMD} L_{MMD}

    The default loss weights are those of the authors' training code. Cross-entropy
    and triplet loss are not part of this loss.

    Args:
        num_instances: K, images per identity and modality.
        weight_correlation: loss weight of :class:`CorrelationConsistencyLoss`.
        weight_mmd: loss weight of :class:`ClassMMDLoss`.

    Raises:
        InputError: ``num_instances`` is no integer of at least 1, or a loss weight is negative or not finite.

    >>> visible, infrared = torch.eye(4), torch.eye(4).roll(1, dims=0)
    >>> pids = torch.tensor([7, 7, 9, 9])
    >>> C3MMDLoss(num_instances=2)(visible, infrared, pids, pids)
    tensor(0.0250)
    """

    def __init__(self, num_instances: int, weight_correlation: float = 5.0, weight_mmd: float = 0.05) -> None:
        super().__init__()
        self.weight_correlation = check_nonnegative("weight_correlation", weight_correlation)
        self.weight_mmd = check_nonnegative("weight_mmd", weight_mmd)
        self.correlation = CorrelationConsistencyLoss()
        self.mmd = ClassMMDLoss(num_instances)

    def forward(
        self,
        visible: Tensor,
        infrared: Tensor,
        visible_pids: Tensor | None = None,
        infrared_pids: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            visible: (B, D) features, identities in runs of K; (n·B, D) for n copies.
            infrared: (B, D) features of the same identities in the same order.
            visible_pids: (B,) or (n·B,) identities of the visible part. Where the identities of
                both halves are given, their order is checked. Identities on the CPU
                spare the GPU a synchronisation.
            infrared_pids: (B,) identities of the infrared half.

        Returns:
            Scalar, float32 (float64 for float64 features).

        Raises:
            InputError: shapes do not fit, are not (B, D), B is no multiple of K, or
                the identities are not in the same order in runs of K.
        """
        mmd = self.mmd(visible, infrared)
        if visible_pids is not None or infrared_pids is not None:
            self._check_order(len(visible), len(infrared), visible_pids, infrared_pids)
        loss: Tensor = self.weight_correlation * self.correlation(visible, infrared) + self.weight_mmd * mmd
        return loss

    def _check_order(self, length: int, batch: int, visible_pids: Tensor | None, infrared_pids: Tensor | None) -> None:
        if visible_pids is None or infrared_pids is None:
            missing = "visible_pids" if visible_pids is None else "infrared_pids"
            raise InputError(f"{missing} is missing; pass the identities of both halves, or of neither")
        visible_pids, infrared_pids = torch.as_tensor(visible_pids), torch.as_tensor(infrared_pids)
        if visible_pids.shape != (length,) or infrared_pids.shape != (batch,):
            expected = f"({batch},) for both" if length == batch else f"({length},) and ({batch},)"
            raise InputError(
                f"visible_pids has shape {tuple(visible_pids.shape)} and infrared_pids {tuple(infrared_pids.shape)}, "
                f"expected {expected}; pass one identity per feature row"
            )
        infrared_pids = infrared_pids.to(visible_pids.device).repeat(length // batch)
        if not torch.equal(visible_pids, infrared_pids):
            at = int((visible_pids != infrared_pids).nonzero()[0])
            raise InputError(
                f"row {at} is identity {int(visible_pids[at])} in the visible and {int(infrared_pids[at])} in the "
                "infrared half, expected the same identity order in both; use CrossModalityIdentitySampler"
            )
        runs = visible_pids.view(-1, self.mmd.num_instances)
        mixed = (runs != runs[:, :1]).any(dim=1)
        if mixed.any():
            at = int(mixed.nonzero()[0]) * self.mmd.num_instances
            raise InputError(
                f"rows {at} to {at + runs.shape[1] - 1} hold the identities {runs[mixed][0].tolist()}, "
                f"expected runs of num_instances = {runs.shape[1]} images of one identity; "
                "use CrossModalityIdentitySampler with the same number"
            )

    def extra_repr(self) -> str:
        """Return the loss weights, for ``repr``."""
        return f"weight_correlation={self.weight_correlation}, weight_mmd={self.weight_mmd}"


def _normalize_rows(x: Tensor) -> Tensor:
    # Division by max(norm, 1e-12) would multiply the gradient of a zero row by 1e12.
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / norm.masked_fill(norm == 0, 1)
