"""Training and test of a classifier: the pretraining of CDNet (Li et al., CVPR 2021) on ImageNet and CIFAR."""
from __future__ import annotations

__all__ = ["TOP", "ClassificationEngine"]

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchreid_nas.data.class_manager import TOP_K
from torchreid_nas.data.interface import DataManager
from torchreid_nas.device import move
from torchreid_nas.engine.base import ResumableEngine, total
from torchreid_nas.engine.options import TrainingOptions
from torchreid_nas.engine.plain_network import train_outputs
from torchreid_nas.engine.scoring import ProtocolResult, ProtocolTest
from torchreid_nas.errors import InputError
from torchreid_nas.losses import identity_loss
from torchreid_nas.metrics import QueryScores, RankingResult, find_score
from torchreid_nas.models.necked import check_classifies, class_logits

_LOGGER = logging.getLogger(__name__)

TOP = (1, 5)
"""The k of the top-k accuracies."""
_FEATURE = "logits"


class ClassificationEngine(ResumableEngine):
    """torchreid engine that trains a network to name the class of an image, by cross-entropy summed over its branches.

    A test reports top-1 and, with more than five classes, top-5 accuracy. An
    image counts as classified by its k-th logit where fewer than k other
    classes have a logit that is larger, or as large and of a smaller number
    (ours: torch's ``topk`` leaves the order of ties open).

    Args:
        datamanager: batches whose ``pid`` is the class; see :class:`~torchreid_nas.data.class_manager.ClassDataManager`.
        model: built with ``loss="triplet"``, see :func:`~torchreid_nas.engine.plain_network.train_outputs`; the features
            are left alone.
        optimizer: see :class:`ResumableEngine`.
        scheduler: see :class:`ResumableEngine`.
        options: see :class:`ResumableEngine`.
        label_smooth: whether the cross-entropy smooths its labels by 0.1, as the authors do on CIFAR.

    Raises:
        InputError: the network has no classifier to be tested by.
    """

    # What a test of retrieval is asked besides; nothing here depends on these.
    evaluation: Any = None
    matrix_bytes: float = 0.0
    keeps_features = False

    def __init__(
        self, datamanager: DataManager, model: nn.Module, optimizer: Optimizer | None = None,
        scheduler: LRScheduler | None = None, options: TrainingOptions | None = None, label_smooth: bool = False,
    ) -> None:
        check_classifies(model)
        super().__init__(datamanager, model, optimizer, scheduler, options)
        self.criterion = identity_loss(label_smooth)

    def losses(self, data: Mapping[str, Any], metric_only: bool = False) -> dict[str, torch.Tensor]:
        """Forward a batch and return the cross-entropy, summed over the branches.

        Args:
            data: a batch of the data manager.
            metric_only: refused, since there is no other loss than cross-entropy.

        Raises:
            InputError: a label is none of the classifier's classes.
        """
        if metric_only:
            raise InputError("a classification has no metric loss; search with a space whose validation part has all classes")
        images, labels = self.parse_data_for_train(data)
        with self.precision.autocast():
            logits, _ = train_outputs(self.model, self.precision.to_device(images))
        _check_labels(labels, logits[0].shape[1])
        labels = move(labels, self.options.device)
        return {"ce": total([self.criterion(branch.float(), labels) for branch in logits])}

    @torch.no_grad()
    def validate(self) -> dict[str, float] | None:
        """Classify the held-out images; the score is the top-1 accuracy."""
        loader = getattr(self.datamanager, "validation_loader", None)
        if loader is None:
            return None
        queries = self._classify(loader)
        return {"score": float(queries.values["top1"].mean())}

    @torch.no_grad()
    def _evaluate(  # type: ignore[override]  # no distance, no ranking
        self, dataset_name: str = "", query_loader: Any = None, gallery_loader: Any = None, **_: Any,
    ) -> tuple[float, float]:
        """Test one target, as torchreid's loop asks; returns top-1 and top-5 accuracy, in the places of Rank-1 and mAP."""
        with self.precision.explained_layout(self.model):
            queries = self._classify(query_loader)
        scores = queries.means()
        trial = RankingResult(np.empty(0), scores, len(queries.first), queries)
        test = ProtocolTest(TOP_K, [np.arange(0)])
        others = [result for result in self.tested if result.dataset != dataset_name]
        self.tested = [*others, ProtocolResult(dataset_name, _FEATURE, test, [trial], [queries])]
        _LOGGER.info("  ".join(f"{find_score(name).title} {value:.1%}" for name, value in scores.items()))
        return scores["top1"], scores.get("top5", scores["top1"])

    def _classify(self, loader: Iterable[Mapping[str, Any]]) -> QueryScores:
        """Return for every image the 0-based place of its class among all classes, and whether it counts as top-k."""
        model = self.evaluated_model.eval()
        places, classes = [], 0
        for data in loader:
            images, labels, _ = self.parse_data_for_eval(data)
            with self.precision.autocast():
                logits = class_logits(model, self.precision.to_device(images)).float().cpu()
            classes = logits.shape[1]
            _check_labels(labels, classes)
            places.append(_places(logits, labels))
        first = torch.cat(places).numpy().astype(np.int32)
        values = {f"top{k}": (first < k).astype(np.float64) for k in TOP if k < classes}
        return QueryScores(first, np.ones_like(first), classes, values)


def _places(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the place of each label among the logits (B, C) in descending order; ties keep the order of the classes."""
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1]) < labels[:, None]
    return ((logits > own) | ((logits == own) & before)).sum(dim=1)


def _check_labels(labels: torch.Tensor | Sequence[int], classes: int) -> None:
    """Raise InputError for a label that is no class of the classifier; labels lie on the CPU still."""
    values = torch.as_tensor(labels)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"a batch has the label {low if low < 0 else high}, and the classifier has {classes} classes, 0 to {classes - 1}; "
            "give data of the classes that the network was built for"
        )
