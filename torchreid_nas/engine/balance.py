"""Training and evaluation of networks with balance necks, the recipe of CDNet (Li et al., CVPR 2021)."""
from __future__ import annotations

__all__ = ["BalanceNeckEngine"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchreid_nas.data.interface import DataManager
from torchreid_nas.device import move
from torchreid_nas.distributed import gather
from torchreid_nas.engine.base import total
from torchreid_nas.engine.options import TrainingOptions
from torchreid_nas.engine.retrieval import RetrievalEngine
from torchreid_nas.errors import InputError
from torchreid_nas.losses import BatchHardTripletLoss, identity_loss


class BalanceNeckEngine(RetrievalEngine):
    """torchreid engine that sums cross-entropy and batch-hard triplet loss over all branches.

    torchreid's own ``ImageTripletEngine`` averages over the branches. Any
    torchreid model built with ``loss="triplet"`` fits; a model of one branch
    is the usual case.

    Args:
        datamanager: see :class:`RetrievalEngine`.
        model: built with ``loss="triplet"``: in train mode it returns logits
            and features, each a tensor or a tuple with a tensor per branch.
        optimizer: see :class:`RetrievalEngine`.
        scheduler: see :class:`RetrievalEngine`.
        options: see :class:`RetrievalEngine`.
        margin: of the triplet loss on Euclidean distances of features that are not normalised; 0.3 in the paper.
        weight_x: loss weight of the cross-entropy; 1 in the paper.
        weight_t: loss weight of the triplet loss; 1 in the paper.
        label_smooth: whether the cross-entropy smooths its labels; not in the paper.
        normalize: whether the triplet loss brings features to length 1; not in the paper.
    """

    def __init__(
        self, datamanager: DataManager, model: nn.Module, optimizer: Optimizer | None = None,
        scheduler: LRScheduler | None = None, options: TrainingOptions | None = None, margin: float = 0.3,
        weight_x: float = 1.0, weight_t: float = 1.0, label_smooth: bool = False, normalize: bool = False,
    ) -> None:
        super().__init__(datamanager, model, optimizer, scheduler, options)
        self.weight_x, self.weight_t = weight_x, weight_t
        self.criterion_x = identity_loss(label_smooth)
        self.criterion_t = BatchHardTripletLoss(margin, normalize)

    def losses(self, data: Mapping[str, Any], metric_only: bool = False) -> dict[str, torch.Tensor]:
        """Forward a batch and return the weighted terms, each summed over the branches.

        Args:
            data: a batch of the data manager.
            metric_only: leave cross-entropy out, for identities that the classifiers do not know.

        Raises:
            InputError: the model was built with ``loss="softmax"`` and gives no features.
        """
        # The logits of two branches look like logits and features.
        if getattr(self.model, "loss", "triplet") == "softmax":
            raise InputError(
                f'this {type(self.model).__name__} was built with loss="softmax" and gives no features for the triplet loss; '
                'build it with loss="triplet"'
            )
        images, pids = self.parse_data_for_train(data)
        with self.precision.autocast():
            logits, features = self.model(self.precision.to_device(images))
        terms: dict[str, torch.Tensor] = {}
        if not metric_only:
            labels = move(pids, self.options.device)
            terms["ce"] = self.weight_x * total([self.criterion_x(branch.float(), labels) for branch in _branches(logits)])
        # The triplet loss checks its labels. The check of labels on the CPU does not wait for a GPU.
        # Triplets are formed in the batch of all processes.
        pids = gather(pids)
        terms["triplet"] = self.weight_t * total(
            [self.criterion_t(gather(branch.float()), pids) for branch in _branches(features)]
        )
        return terms


def _branches(output: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return output if isinstance(output, (tuple, list)) else (output,)
