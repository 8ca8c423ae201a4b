"""What every task has in common."""
from __future__ import annotations

__all__ = ["Task"]

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.data import ReIDDataManager
from torchreid_nas.engine import ResumableEngine, TrainingOptions
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.search import SPACES, SearchSpace


class Task:
    """Builds data, model, space and engines from a config; the pipeline decides when.

    Subclasses set the class attributes and implement the methods that raise
    ``NotImplementedError``.

    Attributes:
        manager: the data manager's class.
        spaces: names of the search spaces that fit the models.
        plain_architecture: what a supernet is built from, and what stands in
            for the architecture to be found in a dry run.
        train_class, search_class: the engines.
        standardizes: whether the models heed ``model.standardize_input``.
        harmless: config keys that may change between a run and its
            resumption without changing a number of its training.
    """

    manager: ClassVar[type[ReIDDataManager]]
    spaces: ClassVar[Sequence[str]]
    plain_architecture: ClassVar[str]
    train_class: ClassVar[type[ResumableEngine]]
    search_class: ClassVar[type[ResumableEngine]]
    standardizes: ClassVar[bool] = False
    harmless: ClassVar[Sequence[str]] = ("data.root", "data.save_dir", "data.targets", "data.cache_dir")

    def __init__(self, cfg: CfgNode, device: torch.device) -> None:
        self.cfg, self.device = cfg, device
        known = self.models()
        if cfg.model.name not in known:
            raise InputError(
                f'model.name is "{cfg.model.name}", expected one of {", ".join(known)}{nearest(cfg.model.name, known)}'
            )
        if cfg.model.standardize_input and not self.standardizes:
            raise InputError(
                f"model.standardize_input is True, which model.name {cfg.model.name} would not heed; set it False, or a "
                "two-stream network as model.name"
            )

    @classmethod
    def models(cls) -> Sequence[str]:
        """Names of the models of this task."""
        raise NotImplementedError

    # -- what subclasses decide -----------------------------------------------

    def check_batch(self) -> None:
        """Raise InputError where ``train.batch_size`` does not suit the task, whatever the data; managers know the rest."""

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        """Return the config's network with ``architecture``."""
        raise NotImplementedError

    def build_unsearched(self, num_classes: int, pretrained: bool = True) -> nn.Module:
        """Return the network that the search makes its supernet of."""
        return self.build_model(num_classes, self.plain_architecture, pretrained)

    def space(self, model: nn.Module | None = None) -> SearchSpace:
        """Return the search space, with its budget for the supernet ``model`` where the config has one."""
        raise NotImplementedError

    def search_split(self, data: ReIDDataManager) -> tuple[DataLoader, DataLoader, int]:
        """Return the loaders of weights and architecture, and the number of identities of the former."""
        raise NotImplementedError

    def search_options(self) -> dict[str, Any]:
        """Return the fields of SearchOptions that depend on the task."""
        raise NotImplementedError

    def engine_options(self) -> dict[str, Any]:
        """Return the further arguments of both engines: losses and their weights."""
        raise NotImplementedError

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """Return what results.json says of the network."""
        raise NotImplementedError

    def figure_options(self) -> dict[str, Any]:
        """Return what the picture of the architecture must know of the network."""
        return {}

    def data_options(self, for_test: bool) -> dict[str, Any]:
        """Return the further arguments of the data manager."""
        return {}

    # -- what they share ------------------------------------------------------

    def data(self, targets: Sequence[str], holdout: float = 0.0) -> ReIDDataManager:
        """Return the data manager: for a test where there are targets, otherwise for training."""
        cfg = self.cfg
        return self.manager(
            root=cfg.data.root, sources=cfg.data.sources, targets=list(targets), height=cfg.data.height,
            width=cfg.data.width, transforms=cfg.data.transforms, norm_mean=cfg.data.norm_mean,
            norm_std=cfg.data.norm_std, split_id=cfg.data.split_id, batch_size_train=cfg.train.batch_size,
            batch_size_test=cfg.test.batch_size, workers=min(cfg.data.workers, _cores()),
            num_instances=cfg.sampler.num_instances, num_batches=cfg.train.num_batches or None,
            use_gpu=self.device.type == "cuda", seed=cfg.train.seed, gallery_draw=cfg.test.gallery_draw,
            shot=cfg.test.shot, num_trials=cfg.test.num_trials, holdout=holdout, holdout_seed=cfg.train.seed,
            cache=cfg.data.cache, cache_dir=cfg.data.cache_dir, device=self.device,
            channels_last=self.training_options().channels_last,
            **self.data_options(for_test=bool(targets)),
        )

    def training_options(self) -> TrainingOptions:
        """Return how the engines train."""
        train = self.cfg.train
        return TrainingOptions(
            self.device, train.seed, train.amp, train.channels_last, train.ema, train.eval_freq, train.accumulate,
            train.compile,
        )

    def pretrained(self) -> bool | Path:
        """Return ``model.pretrained`` as the model factories take it."""
        value = self.cfg.model.pretrained
        return {"imagenet": True, "": False}.get(value) if value in ("imagenet", "") else Path(value)

    def outside_spaces(self) -> list[str]:
        """Return the names of the registered search spaces that are not the method's own and search this model."""
        return [name for name, space in SPACES.items() if self.cfg.model.name in space.models]

    def check_space(self) -> None:
        """Raise InputError where the search space does not fit the model."""
        spaces = [*self.spaces, *self.outside_spaces()]
        if not spaces:
            raise InputError(
                f"there is nothing to search in model.name {self.cfg.model.name}; leave search out of --stages and set "
                f"model.architecture {self.plain_architecture}"
            )
        if self.cfg.search.space not in spaces:
            raise InputError(
                f'search.space is "{self.cfg.search.space}", expected {" or ".join(spaces)} '
                f'for model.name {self.cfg.model.name}'
            )


def _cores() -> int:
    """Cores that this process may use: more loader processes than that only stand in each other's way."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
