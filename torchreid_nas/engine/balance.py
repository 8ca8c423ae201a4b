"""Training and evaluation of networks with balance necks, the recipe of CDNet (Li et al., CVPR 2021)."""
from __future__ import annotations

__all__ = ["BalanceNeckEngine"]

from typing import Any, Mapping

import numpy as np
import torch
import torchreid
from torch import nn

from torchreid_nas.engine.base import ResumableEngine, TrainingOptions, distances
from torchreid_nas.metrics import PROTOCOLS, average_results, evaluate_market1501


class BalanceNeckEngine(ResumableEngine):
    """torchreid engine that sums the losses of all branches: CE + batch-hard triplet of each, all weights 1.

    (torchreid's own ``ImageTripletEngine`` averages over the branches.) Any
    torchreid model built with ``loss="triplet"`` fits, one branch being the
    usual case.

    Args:
        datamanager, model, optimizer, scheduler, options: see :class:`ResumableEngine`.
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
        self.criterion_x = torchreid.losses.CrossEntropyLoss(
            num_classes=datamanager.num_train_pids, use_gpu=self.use_gpu, label_smooth=label_smooth
        )
        self.criterion_t = torchreid.losses.TripletLoss(margin=margin)

    def losses(self, data: Mapping[str, Any], metric_only: bool = False) -> dict[str, torch.Tensor]:
        """Forward a batch and return the weighted terms, each summed over the branches.

        Args:
            data: a batch of the data manager.
            metric_only: leave cross-entropy out, for identities that the classifiers do not know.
        """
        images, pids = self.parse_data_for_train(data)
        images, pids = self.to_device(images), pids.to(self.options.device)
        with self.autocast():
            logits, features = self.model(images)
        terms = {} if metric_only else {
            "ce": self.weight_x * sum(self.criterion_x(branch.float(), pids) for branch in _branches(logits))
        }
        terms["triplet"] = self.weight_t * sum(
            self.criterion_t(branch.float(), pids) for branch in _branches(features)
        )
        return terms

    @torch.no_grad()
    def extract(self, loader) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
        """Return the test features, (N, D) float32 on the CPU, with pids and camids."""
        model = self.evaluated_model.eval()
        features, pids, camids = [], [], []
        for data in loader:
            images, batch_pids, batch_camids = self.parse_data_for_eval(data)
            with self.autocast():
                features.append(model(self.to_device(images)).float().cpu())
            pids.append(batch_pids)
            camids.append(batch_camids)
        return torch.cat(features), torch.cat(pids).numpy(), torch.cat(camids).numpy()

    @torch.no_grad()
    def validate(self) -> dict[str, float] | None:
        """Retrieve the held-out identities across cameras; the score is the mAP."""
        loaders = getattr(self.datamanager, "validation_loader", None)
        if not loaders:
            return None
        query, gallery = self.extract(loaders["query"]), self.extract(loaders["gallery"])
        distmat = distances(query[0], gallery[0], "euclidean", normalize=True).numpy()
        result = evaluate_market1501(distmat, query[1], gallery[1], query[2], gallery[2])
        return {"score": result.mAP, "rank1": float(result.cmc[0])}

    def score(
        self, dataset_name: str, query_loader, gallery_loader, dist_metric: str, normalize_feature: bool, rerank: bool,
    ) -> np.ndarray:
        """Score one target under its protocol and return its distance matrix."""
        (query, q_pids, q_camids), (gallery, g_pids, g_camids) = map(self.extract, (query_loader, gallery_loader))
        distmat = self.distance_matrix(query, gallery, dist_metric, normalize_feature, rerank)
        protocol = PROTOCOLS[self.datamanager.protocol(dataset_name)]
        result = protocol(distmat, q_pids, g_pids, q_camids, g_camids)
        self.results[dataset_name] = {"test feature": average_results([result])}
        return distmat


def _branches(output: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return output if isinstance(output, (tuple, list)) else (output,)
