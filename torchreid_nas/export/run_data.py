"""The data of a finished run: images for checks, and Rank-1 and mAP of exported networks under the run's protocol."""
from __future__ import annotations

__all__ = ["RunData", "accuracy"]

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from torchreid_nas.config import load_config
from torchreid_nas.engine import EvaluationOptions, RetrievalEngine
from torchreid_nas.errors import InputError
from torchreid_nas.layers import MODALITIES, active_modality
from torchreid_nas.methods import make_method
from torchreid_nas.metrics import RankingResult
from torchreid_nas.run.folder import RunFolder


class RunData:
    """The targets that the config of a run names.

    Args:
        folder: of the run.

    Raises:
        InputError: the folder holds no run, or the data of the run are missing.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        run = RunFolder(Path(folder).expanduser())
        if not run.is_run():
            raise InputError(f'"{folder}" is no folder of a run, so it names no data')
        self.cfg = load_config(run.config)
        self.manager = make_method(self.cfg, torch.device("cpu")).data(self.cfg.data.targets)

    def test_paths(self, modality: str | None = None) -> list[Path]:
        """Return the images of queries and galleries, of one modality or (None) of all."""
        parts = [part for name in self.manager.targets for part in self.manager.test_loader[name].values()]
        return _paths([loader.dataset for loader in parts], modality)

    def train_paths(self, modality: str | None = None) -> list[Path]:
        """Return the images of the training part, of one modality or (None) of all."""
        return _paths([self.manager.trainset], modality)


def accuracy(
    run_data: RunData, networks: Mapping[str | None, Callable[[torch.Tensor], torch.Tensor]],
) -> dict[str, RankingResult]:
    """Return the mean result of every target over its galleries, with the first protocol of the run's test stage.

    Args:
        run_data: of the run.
        networks: modality -> network that maps normalised images to features; None -> network of all other modalities.
    """
    cfg, manager = run_data.cfg, run_data.manager
    engine = RetrievalEngine(manager, _Branches(networks))
    engine.evaluation = EvaluationOptions(flip=cfg.test.flip)
    results = {}
    for name in manager.targets:
        loaders = manager.test_loader[name]
        engine.score(
            name, loaders["query"], loaders["gallery"], cfg.test.dist_metric, cfg.test.normalize_feature,
            cfg.test.rerank,
        )
        mean, _ = list(engine.results[name].values())[-1]
        results[name] = mean
    return results


class _Branches(nn.Module):
    """One network per modality behind a plain ``forward``; the modality that the engine declares chooses the network."""

    def __init__(self, networks: Mapping[str | None, Callable[[torch.Tensor], torch.Tensor]]) -> None:
        super().__init__()
        self._networks = dict(networks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        modality = active_modality(self.training)
        return self._networks[modality if modality in self._networks else None](images)


def _paths(datasets: Iterable[Any], modality: str | None) -> list[Path]:
    wanted = None if modality is None else MODALITIES.index(modality)
    paths = (
        Path(item[0]) for dataset in datasets for item in dataset.data
        if wanted is None or dataset.modality_of(item[2]) == wanted
    )
    return list(dict.fromkeys(paths))
