"""Evaluation: features of every image through the branch of its modality, scored under the protocol of the data set."""
from __future__ import annotations

__all__ = ["EvaluationOptions", "RetrievalEngine"]

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from torchreid_nas.data.interface import TestingDataManager
from torchreid_nas.deploy.optimize import images_at_once
from torchreid_nas.engine.base import ResumableEngine
from torchreid_nas.engine.distances import distances
from torchreid_nas.engine.scoring import ProtocolTest, ScoredFeatures, score_features
from torchreid_nas.errors import InputError
from torchreid_nas.layers import MODALITIES, modality_context
from torchreid_nas.metrics import PROTOCOLS, evaluate_market1501
from torchreid_nas.models import deploy_network

Forward = Callable[[torch.Tensor, str], Sequence[torch.Tensor]]

@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """How features are computed for a test.

    The default asks the model itself, in float32, as the figures of papers are
    made, whatever precision it was trained in. Anything else asks its deployed
    form: see :func:`torchreid_nas.models.optimize_network`.

    Args:
        precision: ``"fp32"``, ``"bf16"``, or ``"auto"``, bfloat16 where the hardware computes it.
        compile: with torch.compile.
        flip: take the mean of the features of an image and of its mirror image, as CAJ and DEEN do.
    """

    precision: str = "fp32"
    compile: bool = False
    flip: bool = False

    @property
    def by_model(self) -> bool:
        """Whether the model itself is asked, and not its deployed form."""
        return self == EvaluationOptions(flip=self.flip)


class RetrievalEngine(ResumableEngine):
    """:class:`ResumableEngine` that extracts features once per target and scores them on all of its galleries.

    Data managers of this package say which protocols a target has and which
    galleries are drawn from its pool; for torchreid's own it is Market-1501's.

    Attributes:
        features: names of what :meth:`test_features` returns; the last one counts.
        matrix_bytes: the largest distance matrix to make; a target with a larger one
            is ranked from its features by blocks, which leaves no matrix for pictures.
        evaluation: how :meth:`score` computes features; what is looked at during training is computed as it trains.
        keeps_features: keep in ``scored`` what :meth:`score` scored, one entry per target.
    """

    features: Sequence[str] = ("test feature",)
    matrix_bytes: float = 4 * 2**30
    evaluation = EvaluationOptions()
    keeps_features: bool = False

    def test_features(self, model: nn.Module, images: torch.Tensor, modality: str) -> Sequence[torch.Tensor]:
        """Return the test features (B, D) of images of one modality, one per name in ``features``."""
        with modality_context(modality):
            return (model(images),)

    def test_network(self, model: nn.Module, modality: str, images: torch.Tensor) -> Callable[..., Sequence[torch.Tensor]]:
        """Return the fast form of :meth:`test_features` for batches of one modality like ``images``, by ``evaluation``."""
        network = deploy_network(model, 0, modality).optimize(**self.test_options(images))
        return lambda images: (network(images),)

    def test_options(self, images: torch.Tensor) -> dict[str, Any]:
        """Return the options by which a network is optimised for batches like ``images``."""
        return {
            "precision": self.evaluation.precision, "compile": self.evaluation.compile,
            "at_once": images_at_once(len(images)), "size": tuple(images.shape[2:]),
        }

    @torch.no_grad()
    def extract(
        self, loader: Iterable[Mapping[str, Any]], forward: Forward | None = None, flip: bool = False,
    ) -> tuple[list[torch.Tensor], np.ndarray, np.ndarray]:
        """Return for every name in ``features`` the features, (N, D) float32 on the CPU, then pids and camids.

        Args:
            loader: batches of images, identities and cameras.
            forward: features of images of a modality; default :meth:`test_features` of the evaluated model.
            flip: see :class:`EvaluationOptions`.
        """
        model = self.evaluated_model.eval()
        forward = forward or (lambda images, modality: self.test_features(model, images, modality))
        parts: list[list[torch.Tensor]] = [[] for _ in self.features]
        pids, camids = [], []
        for data in loader:
            _, batch_pids, batch_camids = self.parse_data_for_eval(data)
            out = self.by_modality(data, forward)
            if flip:
                mirrored = self.by_modality({**data, "img": data["img"].flip(-1)}, forward)
                out = [(feature + other) / 2 for feature, other in zip(out, mirrored)]
            for which, part in enumerate(parts):
                part.append(out[which].cpu())
            pids.append(batch_pids)
            camids.append(batch_camids)
        return [torch.cat(part) for part in parts], torch.cat(pids).numpy(), torch.cat(camids).numpy()

    def by_modality(
        self, data: Mapping[str, Any], forward: Forward,
    ) -> list[torch.Tensor]:
        """Call ``forward(images, modality)`` on the visible and on the infrared images of a batch.

        Returns float32 features in the order of the batch.
        """
        images = self.precision.to_device(data["img"])
        modalities = data.get("modality", torch.zeros(len(images)))
        out: list[torch.Tensor] = []
        for index, modality in enumerate(MODALITIES):
            # Found where the loader left them, on the CPU: a GPU need not be waited for.
            rows = (modalities == index).nonzero().flatten()
            if not len(rows):
                continue
            rows = rows.to(images.device)
            with self.precision.autocast():
                found = forward(images[rows], modality)
            out = out or [feature.new_zeros(len(images), feature.shape[1], dtype=torch.float32) for feature in found]
            for whole, feature in zip(out, found):
                whole[rows] = feature.float()
        return out

    @torch.no_grad()
    def validate(self) -> dict[str, float] | None:
        """Retrieve the held-out identities across cameras; the score is the mAP."""
        loaders = getattr(self.datamanager, "validation_loader", None)
        if not loaders:
            return None
        (query, q_pids, q_camids), (gallery, g_pids, g_camids) = map(self.extract, (loaders["query"], loaders["gallery"]))
        distmat = distances(query[-1], gallery[-1], "euclidean", normalize=True).numpy()
        result = evaluate_market1501(distmat, q_pids, g_pids, q_camids, g_camids)
        return {"score": result.mAP, "rank1": float(result.cmc[0])}

    def test(self, **kwargs: Any) -> float:
        """Torchreid's evaluation of every target.

        Raises:
            InputError: pictures of rankings are asked for and a target has no distance matrix to draw them from.
        """
        for name in self.test_loader if kwargs.get("visrank") else ():
            if not self._makes_matrix(name, bool(kwargs.get("rerank"))):
                raise InputError(
                    f"test.visrank needs the distance matrix of {name}, which is larger than test.matrix_gib; raise that, "
                    "or turn test.visrank off"
                )
        return super().test(**kwargs)

    def score(
        self, dataset_name: str, query_loader: Iterable[Mapping[str, Any]], gallery_loader: Iterable[Mapping[str, Any]],
        dist_metric: str, normalize_feature: bool, rerank: bool,
        visrank: bool = False,
    ) -> np.ndarray | None:
        """Score one target under its protocols, all of their galleries from one extraction of the features.

        Returns:
            The distance matrix of the last feature, see :func:`torchreid_nas.engine.scoring.score_features`.
        """
        forward = None if self.evaluation.by_model else self._fast_forward()
        query, q_pids, q_camids = self.extract(query_loader, forward, self.evaluation.flip)
        gallery, g_pids, g_camids = self.extract(gallery_loader, forward, self.evaluation.flip)
        tests = self._tests(dataset_name, len(g_pids))
        scored = ScoredFeatures(dataset_name, self.features, query, gallery, q_pids, q_camids, g_pids, g_camids, tests)
        results, distmat = score_features(scored, dist_metric, normalize_feature, rerank, self.matrix_bytes, visrank)
        self.tested = [*(result for result in self.tested if result.dataset != dataset_name), *results]
        if self.keeps_features:
            self.scored.append(scored)
        return distmat

    def _makes_matrix(self, dataset_name: str, rerank: bool) -> bool:
        """Whether a target is scored from its distance matrix: where that has at most :attr:`matrix_bytes`.

        Re-ranked distances are a matrix in any case.
        """
        query, gallery = self.datamanager.fetch_test_loaders(dataset_name)
        return rerank or 4 * len(query) * len(gallery) <= self.matrix_bytes

    def _tests(self, dataset_name: str, num_gallery: int) -> list[ProtocolTest]:
        """Return protocols and galleries of a target."""
        data = self.datamanager
        if isinstance(data, TestingDataManager):
            return [ProtocolTest(one, data.test_galleries(dataset_name, one)) for one in data.protocols(dataset_name)]
        return [ProtocolTest(PROTOCOLS["market1501"], [np.arange(num_gallery)])]

    def _fast_forward(self) -> Forward:
        """Return what computes features by ``evaluation``; every modality's network is made once, when asked for."""
        model = self.evaluated_model.eval()
        networks: dict[str, Callable[..., Sequence[torch.Tensor]]] = {}

        def forward(images: torch.Tensor, modality: str) -> Sequence[torch.Tensor]:
            if modality not in networks:
                networks[modality] = self.test_network(model, modality, images)
            return networks[modality](images)

        return forward
