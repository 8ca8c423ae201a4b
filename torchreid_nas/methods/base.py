"""What the methods of all papers share."""
from __future__ import annotations

__all__ = ["BaseMethod", "usable_workers"]

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.config import keys_that_decide
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.methods.interface import Method

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from yacs.config import CfgNode

    from torchreid_nas.config import Key
    from torchreid_nas.data import ReIDDataManager
    from torchreid_nas.engine import TrainingOptions
    from torchreid_nas.search import SearchSpace


class BaseMethod(Method):
    """A method whose data and training options follow from the common keys of the config.

    Subclasses set the class attributes and implement the methods that raise ``NotImplementedError``.

    Args:
        cfg: see :mod:`torchreid_nas.config`.
        device: where the network lives.

    Attributes:
        own_keys: what :meth:`reads` returns, whatever the model.
        standardizes: whether the models obey ``model.standardize_input``.

    Raises:
        InputError: ``model.name`` is none of the method's, or ``model.standardize_input`` has no effect on it.
    """

    factories: ClassVar[Mapping[str, tuple[str, str] | Callable[..., Any]]] = {}
    spaces: ClassVar[Sequence[str]] = ()
    own_keys: ClassVar[Sequence[str]] = ()
    keys: ClassVar[Mapping[str, Key]] = {}
    decides: ClassVar[Sequence[str]] = ()
    ablation: ClassVar[Mapping[str, tuple[str, Mapping[str, Any]]]] = {}
    search_class: ClassVar[Any] = None
    path_search_class: ClassVar[Any] = None
    standardizes: ClassVar[bool] = False

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
        """Return the names of the models that this method trains."""
        return tuple(cls.factories)

    def factory(self) -> Callable[..., nn.Module]:
        """Return the model factory of ``model.name``."""
        factory = self.factories[self.cfg.model.name]
        return getattr(importlib.import_module(factory[0]), factory[1]) if isinstance(factory, tuple) else factory

    @classmethod
    def reads(cls, model: str) -> Sequence[str]:
        """Return :attr:`own_keys`."""
        return cls.own_keys

    # -- what subclasses decide -----------------------------------------------

    def check_batch(self) -> None:
        """Accept every ``train.batch_size``."""

    def model_options(self) -> dict[str, Any]:
        """Return nothing: the factory has no argument of that kind."""
        return {}

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        """Return the config's network with ``architecture``; see :meth:`Method.build_model`."""
        raise NotImplementedError

    def build_unsearched(self, num_classes: int, pretrained: bool = True) -> nn.Module:
        """Return the network with :attr:`plain_architecture`."""
        return self.build_model(num_classes, self.plain_architecture, pretrained)

    def space(self, model: nn.Module | None = None) -> SearchSpace:
        """Return the space of ``search.space`` as the ``search`` section describes it; see :meth:`Method.space`."""
        from torchreid_nas.search import find_space

        self.check_space()
        return find_space(self.cfg.search.space).from_config(self.cfg.search)

    @classmethod
    def deciding_keys(cls, cfg: CfgNode, stage: str) -> Sequence[str]:
        """Return the keys of the stage, of the recipe of a search by paths, and the method's own; see the interface."""
        recipe = keys_that_decide("paths") if stage == "search" and cls.searches_paths(cfg) else ()
        return (*keys_that_decide(stage), *recipe, *cls.decides)

    @classmethod
    def searches_paths(cls, cfg: CfgNode) -> bool:
        """Return whether the search scores paths, as ``search.method`` says; see :meth:`Method.searches_paths`."""
        from torchreid_nas.search import find_space

        if cls.path_search_class is None:
            return False
        able = find_space(cfg.search.space).has_paths
        if cfg.search.method == "paths" and not able:
            raise InputError(f"search.method is paths, which the space {cfg.search.space} has none of; set it gradient")
        return able and cfg.search.method != "gradient"

    def search_split(self, data: Any) -> tuple[DataLoader[Any], DataLoader[Any], int]:
        """Return the loaders of the search; see :meth:`Method.search_split`."""
        raise NotImplementedError

    def search_options(self) -> dict[str, Any]:
        """Return the fields of SearchOptions that depend on the method."""
        raise NotImplementedError

    def engine_options(self) -> dict[str, Any]:
        """Return the further arguments of both engines; see :meth:`Method.engine_options`."""
        raise NotImplementedError

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """Return nothing to say of the network."""
        return {}

    def figure_options(self) -> dict[str, Any]:
        """Return nothing that the picture of the architecture must know."""
        return {}

    def data_options(self, for_test: bool) -> dict[str, Any]:
        """Return the further arguments of the data manager."""
        return {}

    # -- what they share ------------------------------------------------------

    def data(self, targets: Sequence[str], holdout: float = 0.0) -> ReIDDataManager:
        """Return the data manager of the common keys, :meth:`data_options` added."""
        from torchreid_nas.data.registered import test_targets
        from torchreid_nas.data.transforms import Erasing

        cfg, erase = self.cfg, self.cfg.data.random_erase
        return self.manager(
            root=cfg.data.root, sources=cfg.data.sources, targets=test_targets(cfg.test.protocol, targets),
            height=cfg.data.height, width=cfg.data.width, transforms=cfg.data.transforms, norm_mean=cfg.data.norm_mean,
            norm_std=cfg.data.norm_std, interpolation=cfg.data.interpolation,
            erasing=Erasing(erase.probability, tuple(erase.area), tuple(erase.aspect), tuple(erase.fill)),
            split_id=cfg.data.split_id,
            layout=cfg.data.layout, split_seed=cfg.data.split_seed, train_share=cfg.data.train_share,
            batch_size_train=cfg.train.batch_size, batch_size_test=cfg.test.batch_size, workers=usable_workers(cfg.data.workers),
            num_instances=cfg.sampler.num_instances, num_batches=cfg.train.num_batches or None,
            use_gpu=self.device.type == "cuda", seed=cfg.train.seed, gallery_draw=cfg.test.gallery_draw,
            shot=cfg.test.shot, protocols=cfg.test.protocol, num_trials=cfg.test.num_trials, holdout=holdout,
            holdout_seed=cfg.train.seed,
            cache=cfg.data.cache, cache_dir=cfg.data.cache_dir, device=self.device,
            channels_last=cfg.train.channels_last, training=not targets,
            **self.data_options(for_test=bool(targets)),
        )

    def training_options(self) -> TrainingOptions:
        """Return the options of the ``train`` section."""
        from torchreid_nas.engine import TrainingOptions

        train = self.cfg.train
        return TrainingOptions(
            self.device, train.seed, train.amp, train.channels_last, train.ema, train.eval_freq, train.accumulate,
            train.compile, train.sync_bn, train.checkpoint_minutes, train.keep_checkpoints,
        )

    def pretrained(self) -> bool | Path:
        """Return ``model.pretrained`` as the model factories take it; of the folder of a run its trained weights.

        Raises:
            InputError: the run of that folder is not trained.
        """
        from torchreid_nas.run.folder import weights_file

        value = self.cfg.model.pretrained
        return value == "imagenet" if value in ("imagenet", "") else weights_file(value)

    def outside_spaces(self) -> list[str]:
        """Return the names of the registered search spaces that are not the method's own and search this model."""
        from torchreid_nas.search import SPACES

        return [name for name, space in SPACES.items() if self.cfg.model.name in space.models]

    def check_space(self) -> None:
        """Refuse a search where there is nothing to search, and a ``search.space`` of another method."""
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


def usable_workers(wanted: int) -> int:
    """Return ``wanted`` loader processes, at most one per core of this process: more wait for each other."""
    return min(wanted, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
