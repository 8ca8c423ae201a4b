"""Registration in torchreid, in both of its layouts."""
from __future__ import annotations

__all__ = ["register_all", "register_model", "register_image_dataset", "register_loss", "register_engine"]

import functools

import torchreid

from torchreid_nas import data, losses, models
from torchreid_nas.host import register_attribute, register_image_dataset, register_lazily, register_model


def register_loss(cls: type) -> None:
    """Make ``cls`` an attribute of ``torchreid.losses``; ValueError where that name is taken."""
    register_attribute(torchreid.losses, cls)


def register_engine(cls: type) -> None:
    """Make ``cls`` an attribute of ``torchreid.engine``; ValueError where that name is taken."""
    register_attribute(torchreid.engine, cls)


def register_all() -> None:
    """Register everything of this package; again is harmless."""
    for name in _MODEL_NAMES:
        register_model(name, getattr(models, name))
    for name, dataset in _DATASETS.items():
        register_image_dataset(name, dataset)
    for name in losses.__all__:
        register_loss(getattr(losses, name))
    register_lazily(torchreid.engine, _ENGINES)


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

# Named by their modules: a process that only extracts features imports no training.
_ENGINES = {
    "BalanceNeckEngine": "torchreid_nas.engine.balance",
    "BalanceNeckSearchEngine": "torchreid_nas.engine.search",
    "CrossModalityEngine": "torchreid_nas.engine.cross_modality",
    "CrossModalitySearchEngine": "torchreid_nas.engine.search",
    "DomainAdaptationEngine": "torchreid_nas.engine.domain_adaptation",
}
