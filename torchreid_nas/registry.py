"""Registration in torchreid, in both of its layouts."""
from __future__ import annotations

__all__ = ["register_all", "register_model", "register_image_dataset", "register_loss", "register_engine"]

import functools
from collections.abc import Callable, MutableMapping
from types import ModuleType
from typing import Any

import torchreid

from torchreid_nas import data, engine, losses, models
from torchreid_nas.host import IMAGE_DATASETS, MODELS


def register_model(name: str, factory: Callable) -> None:
    """Make ``factory`` known to ``torchreid.models.build_model`` and ``show_avai_models``.

    Raises:
        ValueError: torchreid already has another model of that name.
    """
    _register(MODELS, name, factory, "model")


def register_image_dataset(name: str, dataset: Callable) -> None:
    """Make ``dataset`` known to torchreid's data managers.

    Raises:
        ValueError: torchreid already has another data set of that name.
    """
    _register(IMAGE_DATASETS, name, dataset, "data set")


def register_loss(cls: type) -> None:
    """Make ``cls`` an attribute of ``torchreid.losses``; ValueError where that name is taken."""
    _register_attribute(torchreid.losses, cls)


def register_engine(cls: type) -> None:
    """Make ``cls`` an attribute of ``torchreid.engine``; ValueError where that name is taken."""
    _register_attribute(torchreid.engine, cls)


def register_all() -> None:
    """Register everything of this package; again is harmless."""
    for name in _MODEL_NAMES:
        register_model(name, getattr(models, name))
    for name, dataset in _DATASETS.items():
        register_image_dataset(name, dataset)
    for name in losses.__all__:
        register_loss(getattr(losses, name))
    for cls in (
        engine.BalanceNeckEngine, engine.BalanceNeckSearchEngine, engine.CrossModalityEngine,
        engine.CrossModalitySearchEngine, engine.DomainAdaptationEngine,
    ):
        register_engine(cls)


_MODEL_NAMES = (
    "two_stream_resnet18", "two_stream_resnet50", "two_stream_cdnet", "cdnet", "cdnet_x0_75", "cdnet_x0_5",
    "cdnet_x0_25", "cnet", "ecn_resnet18", "ecn_resnet50",
)

_DATASETS = {
    "regdb": data.RegDB,
    "regdb_ir2vis": functools.partial(data.RegDB, query_modality="infrared"),
    "sysu_mm01": data.SYSUMM01,
    "sysu_mm01_indoor": functools.partial(data.SYSUMM01, search="indoor"),
}


def _register(registry: MutableMapping[str, Any], name: str, value: Any, kind: str) -> None:
    if registry.setdefault(name, value) is not value:
        raise ValueError(f'torchreid already has a {kind} "{name}"; torchreid_nas does not overwrite it')


def _register_attribute(module: ModuleType, cls: type) -> None:
    if getattr(module, cls.__name__, cls) is not cls:
        raise ValueError(f'{module.__name__} already has "{cls.__name__}"; torchreid_nas does not overwrite it')
    setattr(module, cls.__name__, cls)
