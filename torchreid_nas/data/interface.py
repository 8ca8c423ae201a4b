"""What an engine asks of a data manager: of any, and of one that knows how its targets are tested."""
from __future__ import annotations

__all__ = ["DataManager", "TestingDataManager"]

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from torchreid_nas.metrics.protocols import Protocol as TestProtocol


class DataManager(Protocol):
    """What torchreid's ``Engine`` reads of a data manager; torchreid's own managers and this package's have it.

    Attributes:
        train_loader: batches of training, dictionaries with ``img``, ``pid``, ``camid``, …
        test_loader: for each target the loaders ``"query"`` and ``"gallery"``; empty where nothing is tested.
        sources: names of the data sets that are trained on.
        num_train_pids: identities among the training images.
    """

    train_loader: Any
    test_loader: Mapping[str, Mapping[str, Any]]
    sources: Sequence[str]

    @property
    def num_train_pids(self) -> int:
        """Identities among the training images."""


@runtime_checkable
class TestingDataManager(Protocol):
    """What an engine of this package asks of a data manager besides, for tests by other protocols than Market-1501's.

    Targets of a manager without these methods, such as torchreid's own, are
    scored by the protocol of Market-1501 on one gallery.
    """

    def protocols(self, name: str) -> list[TestProtocol]:
        """Return how a target is scored, in one or in several ways; the first one counts."""

    def test_galleries(self, name: str, protocol: TestProtocol) -> list[np.ndarray]:
        """Return for each trial of a target the positions of its gallery among the images of the gallery loader."""
