"""Training and evaluation of two-stream visible-infrared networks by the recipes of CM-NAS, AGW and CAJ.

Fu et al., ICCV 2021 (CM-NAS); Ye et al., TPAMI 2021 (AGW); Ye et al., ICCV 2021 (CAJ). The recipes differ here by the
triplet loss and by the batch, which is twice as long in its visible part for CAJ.
"""
from __future__ import annotations

__all__ = ["CrossModalityEngine", "CrossModalityLossWeights", "FEATURES", "part_lengths"]

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchreid_nas.data.dataset import VISIBLE
from torchreid_nas.data.interface import DataManager
from torchreid_nas.device import move
from torchreid_nas.distributed import gather_batch, processes
from torchreid_nas.engine.base import total
from torchreid_nas.engine.distances import distances
from torchreid_nas.engine.interface import TwoStreamModel
from torchreid_nas.engine.options import TrainingOptions
from torchreid_nas.engine.plain_network import has_two_streams, train_outputs
from torchreid_nas.engine.retrieval import RetrievalEngine
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.layers import BOTH, joint_lengths, modality_context
from torchreid_nas.losses import (
    C3MMDLoss,
    CrossModalityTripletLoss,
    EnhancedSquaredDifferenceLoss,
    WeightedRegularizedTripletLoss,
    identity_loss,
)
from torchreid_nas.metrics import evaluate_regdb
from torchreid_nas.models.two_stream import FEATURES


@dataclasses.dataclass(frozen=True)
class CrossModalityLossWeights:
    """Loss weights and options of the total loss; the defaults are those of CM-NAS.

    cross-entropy · ``weight_x`` + triplet · ``weight_t`` + correlation
    consistency · ``weight_correlation`` + class MMD · ``weight_mmd``

    AGW and CAJ have no C3MMD: both of its loss weights are 0 there.

    Args:
        weight_x: of the cross-entropy.
        weight_t: of the triplet loss.
        margin: of ``"batch_hard"``, in units of the feature distance; the other triplet losses have none.
        weight_correlation: of the correlation consistency of C3MMD.
        weight_mmd: of the class MMD of C3MMD.
        label_smooth: cross-entropy with torchreid's smoothing of 0.1.
        normalize: bring the features to length 1 before the triplet loss; ``"squared_difference"`` never does.
        triplet: ``"batch_hard"`` of CM-NAS, ``"weighted"`` of AGW, or ``"squared_difference"`` of CAJ.
        alpha: of ``"squared_difference"``, see :class:`~torchreid_nas.losses.EnhancedSquaredDifferenceLoss`.
        gamma: likewise.

    Raises:
        InputError: ``triplet`` is another name.

    Example:
        >>> CrossModalityLossWeights().weight_correlation
        5.0
    """

    weight_x: float = 1.0
    weight_t: float = 1.0
    margin: float = 0.4
    weight_correlation: float = 5.0
    weight_mmd: float = 0.05
    label_smooth: bool = False
    normalize: bool = False
    triplet: str = "batch_hard"
    alpha: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        known = ("batch_hard", "weighted", "squared_difference")
        if self.triplet not in known:
            raise InputError(
                f'the triplet loss "{self.triplet}" is unknown, expected one of {", ".join(known)}{nearest(self.triplet, known)}'
            )


def part_lengths(data: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many visible and how many infrared images a training batch ``[visible; infrared]`` holds.

    A batch that does not name modalities has two halves.

    Raises:
        InputError: the images are in another order, or the visible part is not one or more copies of the infrared one.

    Example:
        >>> part_lengths({"img": torch.zeros(6, 3, 2, 2), "modality": torch.tensor([0, 0, 0, 0, 1, 1])})
        (4, 2)
    """
    count = len(data["img"])
    if "modality" not in data:
        return count // 2, count - count // 2
    modality = torch.as_tensor(data["modality"])
    visible = int((modality == VISIBLE).sum())
    infrared = count - visible
    if not infrared or visible < infrared or visible % infrared or not bool((modality[:visible] == VISIBLE).all()):
        raise InputError(
            f"a training batch holds {visible} visible and {infrared} infrared images, expected [visible; infrared] in this "
            "order with equal parts, or the visible images as several copies of equal length; draw batches by "
            "CrossModalityIdentitySampler"
        )
    return visible, infrared


class CrossModalityEngine(RetrievalEngine):
    """torchreid engine for two-stream networks, and for any other that torchreid builds with ``loss="triplet"``.

    A training batch is ``[visible; infrared]`` with the same order of
    identities in both halves, as :class:`CrossModalityIdentitySampler` yields
    it, or ``[visible; visible; infrared]`` of CAJ, whose copies have this order
    each. Every triplet loss reads the features before the BNNeck, C3MMD the
    features after it. Evaluation sends every image through the branch of its
    own modality, under the protocol of the data set, and reports both features.
    A network without a BNNeck gives one feature to both losses, and to the test (ours).

    Args:
        datamanager: a :class:`CrossModalityDataManager`.
        model: see :class:`~torchreid_nas.engine.interface.TwoStreamModel`, or any network of torchreid's convention, whose
            BatchNorms may be split by :func:`torchreid_nas.layers.split_batchnorm`.
        optimizer: see :class:`RetrievalEngine`.
        scheduler: see :class:`RetrievalEngine`.
        options: see :class:`RetrievalEngine`.
        num_instances: images per identity and modality in a batch (K).
        losses: see :class:`CrossModalityLossWeights`.
    """

    def __init__(
        self, datamanager: DataManager, model: nn.Module, optimizer: Optimizer | None = None,
        scheduler: LRScheduler | None = None, options: TrainingOptions | None = None, num_instances: int = 4,
        losses: CrossModalityLossWeights | None = None,
    ) -> None:
        super().__init__(datamanager, model, optimizer, scheduler, options)
        self._two_streams = has_two_streams(model)
        if self._two_streams:
            self.features = FEATURES
        self.weights = losses or CrossModalityLossWeights()
        self.criterion_x = identity_loss(self.weights.label_smooth)
        self.criterion_t = CrossModalityTripletLoss(self.weights.margin, self.weights.normalize)
        self.criterion_all: nn.Module | None = None
        if self.weights.triplet == "weighted":
            self.criterion_all = WeightedRegularizedTripletLoss(self.weights.normalize)
        elif self.weights.triplet == "squared_difference":
            self.criterion_all = EnhancedSquaredDifferenceLoss(self.weights.alpha, self.weights.gamma)
        self.criterion_c3mmd = C3MMDLoss(num_instances, self.weights.weight_correlation, self.weights.weight_mmd)

    # -- training -------------------------------------------------------------

    def losses(self, data: Mapping[str, Any], metric_only: bool = False) -> dict[str, torch.Tensor]:
        """Forward a joint batch and return the weighted terms of the loss by name.

        Args:
            data: a batch of the data manager.
            metric_only: leave cross-entropy out, for identities that the
                classifier does not know.

        Returns:
            ``"ce"`` (not with ``metric_only``), ``"triplet"`` and ``"c3mmd"``, scalars.

        Raises:
            InputError: the batch is not [visible; infrared] in this order, or its identities are not in one order.
        """
        images, pids = self.parse_data_for_train(data)
        # The labels stay on the CPU, where the losses check them without waiting for a GPU.
        lengths = part_lengths(data)
        terms: dict[str, torch.Tensor] = {}
        with self.precision.autocast(), joint_lengths(*lengths):
            logits, before, after = self._forward(self.precision.to_device(images), metric_only)
        if not metric_only:
            labels = move(pids, after.device)
            terms["ce"] = self.weights.weight_x * total([self.criterion_x(branch.float(), labels) for branch in logits])
        # Pairs and triplets are formed in the batch of all processes.
        visible, infrared = lengths
        parts = (infrared,) * (visible // infrared + 1)
        before, after, pids = gather_batch(before, parts), gather_batch(after, parts), gather_batch(pids, parts)
        lengths = visible * processes(), infrared * processes()
        visible_pids, infrared_pids = pids.split(lengths)
        triplet = self.criterion_t(*before.split(lengths), infrared_pids) if self.criterion_all is None else (
            self.criterion_all(before, pids)
        )
        terms["triplet"] = self.weights.weight_t * triplet
        terms["c3mmd"] = self.criterion_c3mmd(
            *after.split(lengths), visible_pids=visible_pids, infrared_pids=infrared_pids
        )
        return terms

    def _forward(self, images: torch.Tensor, metric_only: bool) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
        """Return the logits of every branch, and the features before and after the BNNeck, of a joint batch."""
        if not self._two_streams:
            with modality_context(BOTH):
                logits, features = train_outputs(self.model, images)
            return logits, features, features
        model: TwoStreamModel = self.model
        before, after = model.features(images, BOTH)
        return [] if metric_only else [model.classify(after)], before, after

    # -- evaluation -----------------------------------------------------------

    def test_features(self, model: Any, images: torch.Tensor, modality: str) -> Sequence[torch.Tensor]:
        """Return the features before and after the BNNeck, of a network without one its features."""
        if not self._two_streams:
            return super().test_features(model, images, modality)
        network: TwoStreamModel = model
        return network.features(images, modality)

    def test_network(self, model: Any, modality: str, images: torch.Tensor) -> Callable[..., Sequence[torch.Tensor]]:
        """Return the fast form of :meth:`test_features`; the BNNeck, which divides by small deviations, stays in float32."""
        if not self._two_streams:
            return super().test_network(model, modality, images)
        before = model.deploy(modality, "before BNNeck").optimize(**self.test_options(images))

        def forward(images: torch.Tensor) -> Sequence[torch.Tensor]:
            pooled = before(images)
            return pooled, model.bnneck(pooled)

        return forward

    @torch.no_grad()
    def validate(self) -> dict[str, float] | None:
        """Retrieve the held-out identities in both directions; the score is the mean of both mAPs (ours)."""
        loaders = getattr(self.datamanager, "validation_loader", None)
        if not loaders:
            return None
        (*_, query), q_pids, _ = self.extract(loaders["query"])
        (*_, gallery), g_pids, _ = self.extract(loaders["gallery"])
        distmat = distances(query, gallery, "euclidean", normalize=True).numpy()
        forth, back = evaluate_regdb(distmat, q_pids, g_pids), evaluate_regdb(distmat.T, g_pids, q_pids)
        return {"score": (forth.mAP + back.mAP) / 2, "rank1": float(forth.cmc[0] + back.cmc[0]) / 2}
