"""Training and evaluation of networks with balance necks, the recipe of CDNet (Li et al., CVPR 2021)."""
from __future__ import annotations

__all__ = ["BalanceNeckEngine"]

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from torchreid_nas.device import move
from torchreid_nas.engine.options import TrainingOptions
from torchreid_nas.engine.retrieval import RetrievalEngine
from torchreid_nas.errors import InputError
from torchreid_nas.losses import BatchHardTripletLoss, identity_loss


class BalanceNeckEngine(RetrievalEngine):
    """torchreid engine that sums the losses of all branches: CE + batch-hard triplet of each, all weights 1.

    (torchreid's own ``ImageTripletEngine`` averages over the branches.) Any
    torchreid model built with ``loss="triplet"`` fits, one branch being the
    usual case.

    Args:
        datamanager, model, optimizer, scheduler, options: see :class:`RetrievalEngine`.
        margin: of the triplet loss, un-normalised Euclidean; 0.3 in the paper.
        weight_x, weight_t: of the two losses; 1 in the paper.
        label_smooth: none in the paper.
    """

    def __init__(
        self, datamanager, model: nn.Module, optimizer=None, scheduler=None, options: TrainingOptions | None = None,
        margin: float = 0.3, weight_x: float = 1.0, weight_t: float = 1.0, label_smooth: bool = False,
    ) -> None:
        super().__init__(datamanager, model, optimizer, scheduler, options)
        self.weight_x, self.weight_t = weight_x, weight_t
        self.criterion_x = identity_loss(label_smooth)
        self.criterion_t = BatchHardTripletLoss(margin)

    def losses(self, data: Mapping[str, Any], metric_only: bool = False) -> dict[str, torch.Tensor]:
        """Forward a batch and return the weighted terms, each summed over the branches.

        Args:
            data: a batch of the data manager.
            metric_only: leave cross-entropy out, for identities that the classifiers do not know.

        Raises:
            InputError: the model was built with ``loss="softmax"`` and gives no features.
        """
        # Two branches' logits would pass for logits and features.
        if getattr(self.model, "loss", "triplet") == "softmax":
            raise InputError(
                f'this {type(self.model).__name__} was built with loss="softmax" and gives no features for the triplet loss; '
                'build it with loss="triplet"'
            )
        images, pids = self.parse_data_for_train(data)
        with self.precision.autocast():
            logits, features = self.model(self.precision.to_device(images))
        terms = {}
        if not metric_only:
            labels = move(pids, self.options.device)
            terms["ce"] = self.weight_x * sum(self.criterion_x(branch.float(), labels) for branch in _branches(logits))
        # The triplet loss checks its labels; on the CPU that does not wait for a GPU.
        terms["triplet"] = self.weight_t * sum(
            self.criterion_t(branch.float(), pids) for branch in _branches(features)
        )
        return terms


def _branches(output: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return output if isinstance(output, (tuple, list)) else (output,)
