"""What an engine asks of the parts that a user may bring: loaders and networks."""
from __future__ import annotations

__all__ = ["BatchLoader", "EmbeddingModel", "TwoStreamModel"]

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from torchreid_nas.deploy.fold import DeployedNetwork


class BatchLoader(Protocol):
    """What an engine asks of a training loader; torch's ``DataLoader`` has it."""

    @property
    def sampler(self) -> Any:
        """Where it has a method ``set_epoch(epoch)``, the engine calls the method at the start of every epoch."""

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield batches: dictionaries with ``img``, ``pid``, ``camid``, ``impath``, and ``modality`` where there are two."""

    def __len__(self) -> int:
        """Return the number of batches."""


class TwoStreamModel(Protocol):
    """What :class:`~torchreid_nas.engine.CrossModalityEngine` asks of its network beside being a module.

    Attributes:
        bnneck: maps the features before it to the features after it, each (B, D).
    """

    bnneck: nn.Module

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits, (B, classes), of the features after the BNNeck."""

    def features(self, images: Tensor, modality: str | None = None) -> tuple[Tensor, Tensor]:
        """Return the features before and after the BNNeck, each (B, D).

        Args:
            images: (B, 3, H, W).
            modality: ``"visible"``, ``"infrared"``, or ``"both"`` for the joint batch ``[visible; infrared]``.
        """

    def deploy(self, modality: str | None = None, feature: str = "after BNNeck") -> DeployedNetwork:
        """Return the network of one modality for test time, of the features before or after the BNNeck."""


class EmbeddingModel(Protocol):
    """What :class:`~torchreid_nas.engine.DomainAdaptationEngine` asks of its network beside being a module.

    Attributes:
        embedding_dim: D of the embedding.
    """

    embedding_dim: int

    def embedding(self, images: Tensor) -> Tensor:
        """Return the embedding (B, D) that both heads start from, of images (B, 3, H, W)."""

    def classify(self, embedding: Tensor) -> Tensor:
        """Return the logits of the source's identities, (B, classes)."""

    def target_feature(self, embedding: Tensor) -> Tensor:
        """Return what the exemplar memory takes, (B, D)."""
