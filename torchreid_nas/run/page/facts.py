"""What a run's folder holds, read as far as it is there and whole: a page of a broken run shows the rest."""
from __future__ import annotations

__all__ = ["RunFacts"]

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from yacs.config import CfgNode

from torchreid_nas.architecture import Architecture
from torchreid_nas.config import load_config
from torchreid_nas.data.dataset import MODALITIES, Item
from torchreid_nas.data.manager import ReIDDataManager
from torchreid_nas.engine.scoring import ScoredFeatures
from torchreid_nas.errors import InputError
from torchreid_nas.evidence.certificate import digest_of_items, read_certificate
from torchreid_nas.evidence.feature_store import load_test_features
from torchreid_nas.evidence.store import StoredTest, load_scores
from torchreid_nas.files import read_json
from torchreid_nas.report.history import read_history
from torchreid_nas.report.style import is_generated
from torchreid_nas.run.folder import SEARCHED, RunFolder
from torchreid_nas.run.setup import RunSetup

_Value = TypeVar("_Value")


class RunFacts:
    """The content of a run's folder. A value whose file is missing is None or empty; of a damaged file a fault is noted too.

    Args:
        path: the folder of a run.

    Attributes:
        folder: of the run.
        faults: a sentence per file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        self.faults: list[str] = []

    def _read(self, path: Path, read: Callable[[Path], _Value]) -> _Value | None:
        return self.attempt(lambda: read(path)) if path.exists() else None

    def attempt(self, make: Callable[[], _Value]) -> _Value | None:
        """Return a value, or None where it cannot be had, which becomes a fault."""
        try:
            return make()
        except InputError as error:
            self.faults.append(str(error))
            return None

    @functools.cached_property
    def cfg(self) -> CfgNode | None:
        """The config."""
        return self._read(self.folder.config, load_config)

    @functools.cached_property
    def results(self) -> Mapping[str, Any]:
        """The content of ``results.json``; empty without it."""
        return self._read(self.folder.results, lambda _: self.folder.read_results()) or {}

    @functools.cached_property
    def rows(self) -> list[Mapping[str, Any]]:
        """The entries of ``results.json`` that have what a table needs."""
        needed = {"dataset", "feature", "ranks", "cmc", "num_valid_queries", "num_trials"}
        return [row for row in self.results.get("results", ()) if needed <= set(row)]

    @functools.cached_property
    def certificate(self) -> Mapping[str, Any]:
        """The content of ``certificate.json``; empty without it."""
        return self._read(self.folder.certificate, read_certificate) or {}

    @functools.cached_property
    def data(self) -> Mapping[str, Any]:
        """The parts of ``data.json`` by name."""
        kept = self._read(self.folder.data, read_json)
        parts = kept.get("parts") if isinstance(kept, dict) else None
        return {name: part for name, part in parts.items() if isinstance(part, dict)} if isinstance(parts, dict) else {}

    @functools.cached_property
    def search(self) -> list[dict[str, Any]]:
        """The rows of the search's history."""
        return self._read(self.folder.search.history, read_history) or []

    @functools.cached_property
    def train(self) -> list[dict[str, Any]]:
        """The rows of the training's history."""
        return self._read(self.folder.train.history, read_history) or []

    @functools.cached_property
    def architecture(self) -> Architecture | None:
        """What the search found, or what the run was trained with where that is a file or the advisor's advice."""
        searched = self.cfg is not None and self.cfg.model.architecture == SEARCHED or self.folder.is_searched()
        path = self.folder.architecture if searched else self.folder.train.architecture
        return self._read(path, Architecture.load)

    @functools.cached_property
    def scores(self) -> dict[tuple[str, str, str], StoredTest]:
        """The scores of the queries by target, protocol and feature."""
        stored = self._read(self.folder.scores, load_scores) or []
        return {(test.dataset, test.protocol, test.feature): test for test in stored}

    @functools.cached_property
    def features(self) -> dict[str, ScoredFeatures]:
        """The features of the test by target."""
        return {scored.dataset: scored for scored in self._read(self.folder.test_features, load_test_features) or []}

    @functools.cached_property
    def generated(self) -> bool:
        """Whether the images are generated."""
        return is_generated(self.results) or bool(self.cfg is not None and self.cfg.synthetic.enabled)

    @functools.cached_property
    def _manager(self) -> ReIDDataManager | None:
        cfg = self.cfg
        if cfg is None or not Path(cfg.data.root).is_dir():
            where = "" if cfg is None else f' at "{cfg.data.root}"'
            self.faults.append(f"The images are not there{where}, so that no pictures are shown.")
            return None
        cfg = cfg.clone()
        cfg.defrost()
        # The lists need no accelerator, and decoding the images again would take longer than the page.
        cfg.device, cfg.data.workers, cfg.data.cache = "cpu", 0, "off"
        cfg.freeze()
        return self.attempt(lambda: RunSetup.of(cfg).method.data(list(cfg.data.targets), 0.0))

    def items(self, dataset: str) -> Mapping[str, Sequence[Item]] | None:
        """Return the images of a target, ``query`` and ``gallery`` in the order of the test; None where they are not those."""
        if self._manager is None or self.cfg is None or dataset not in self._manager.test_dataset:
            return None
        items: Mapping[str, Sequence[Item]] = self._manager.test_dataset[dataset]
        tested = next((test for test in self.certificate.get("tests", ()) if test["dataset"] == dataset), None)
        if tested is None or any(digest_of_items(items[part], self.cfg.data.root) != tested[part] for part in items):
            self.faults.append(f"The images of {dataset} are not known to be those of the test, so that none are shown.")
            return None
        return items

    def modality(self, dataset: str, camid: int) -> str:
        """Return the modality of a camera of a target; all are visible where that is not known."""
        manager = self._manager
        return MODALITIES[manager.datasets[dataset].modality_of(camid) if manager is not None else 0]
