"""Evaluation of networks that give one feature per image, under the protocol of the data set."""
from __future__ import annotations

__all__ = ["SingleFeatureEngine"]

import numpy as np
import torch

from torchreid_nas.engine.base import ResumableEngine, distances
from torchreid_nas.metrics import PROTOCOLS, average_results, evaluate_market1501


class SingleFeatureEngine(ResumableEngine):
    """:class:`ResumableEngine` for models that return the test feature in eval mode, as torchreid's do."""

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
