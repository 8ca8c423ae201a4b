"""A network as it is at test time: running statistics counted afresh, and the loss of retrieving identities across modalities."""
from __future__ import annotations

__all__ = ["mean_by_identity", "recalibrate", "retrieval_losses"]

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.layers import synchronized_norms


@torch.no_grad()
def recalibrate(model: nn.Module, forward: Callable[[torch.Tensor], object], batches: Iterable[torch.Tensor]) -> None:
    """Replace the running statistics of ``model`` by the means over ``batches``; its weights and its mode stay.

    A network whose weights were trained on other paths, or whose slots have
    just been merged, has running statistics of another network. One pass over
    a few joint batches gives it its own.

    Args:
        model: the network; its BatchNorms are all in train mode during the passes.
        forward: passes a batch through ``model``.
        batches: images (N, C, H, W), joint batches where a BatchNorm is split; of several processes each passes its share of
            every batch.

    Raises:
        InputError: there is no batch.

    Example:
        >>> bn = nn.BatchNorm1d(1).eval()
        >>> recalibrate(bn, bn, [torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0], [6.0]])])
        >>> bn.running_mean.item(), bn.training, bn.momentum
        (3.0, False, 0.1)
    """
    modes = {module: module.training for module in model.modules()}
    norms = [module for module in modes if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    model.train()
    count = 0
    try:
        with synchronized_norms(model):
            for images in batches:
                count += 1
                for norm in norms:
                    # 1/n for the n-th batch makes the running average the mean; None does, too, but has no fast kernel.
                    norm.momentum = 1 / count
                forward(images)
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
        for module, mode in modes.items():
            module.training = mode
    if not count:
        raise InputError("running statistics need at least one batch of images, got none")


def retrieval_losses(
    visible: torch.Tensor, infrared: torch.Tensor, visible_pids: torch.Tensor, infrared_pids: torch.Tensor,
    temperature: float = 0.1,
) -> torch.Tensor:
    r"""Return the loss of retrieval across modalities per query, ``[visible queries; infrared queries]``, (B_v + B_t,).

    .. math:: \ell_q = -\log \frac{\sum_{g: y_g = y_q} e^{\cos(q, g) / \tau}}{\sum_g e^{\cos(q, g) / \tau}}

    The gallery of a query is the whole other modality. It is a smooth stand-in
    for Rank-1 (ours): where Rank-1 jumps, it says how near a query was.

    Args:
        visible: features (B_v, D), of any length.
        infrared: features (B_t, D).
        visible_pids: (B_v,) identities.
        infrared_pids: (B_t,) identities, the same set.
        temperature: τ.

    Raises:
        InputError: an identity is in one modality only.

    Example:
        >>> features, pids = torch.eye(2), torch.tensor([4, 7])
        >>> retrieval_losses(features, features, pids, pids).max().item() < 1e-4
        True
    """
    same = visible_pids[:, None] == infrared_pids[None, :]
    if not (same.any(0).all() and same.any(1).all()):
        raise InputError("retrieval across modalities needs every identity in both modalities; leave the others out")
    similarity = F.normalize(visible) @ F.normalize(infrared).T / temperature
    return torch.cat([_negative_log_share(similarity, same), _negative_log_share(similarity.T, same.T)])


def _negative_log_share(similarity: torch.Tensor, same: torch.Tensor) -> torch.Tensor:
    return torch.logsumexp(similarity, 1) - torch.logsumexp(similarity.masked_fill(~same, -torch.inf), 1)


def mean_by_identity(values: torch.Tensor, pids: Sequence[int] | torch.Tensor) -> torch.Tensor:
    """Return the mean value of each identity, (K,), in the order of the identities' numbers.

    Example:
        >>> mean_by_identity(torch.tensor([1.0, 3.0, 5.0]), [7, 7, 2])
        tensor([5., 2.])
    """
    _, index = torch.unique(torch.as_tensor(pids), return_inverse=True)
    index = index.to(values.device)
    return torch.bincount(index, weights=values.double()).div(torch.bincount(index)).to(values.dtype)
