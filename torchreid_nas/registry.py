"""Registration in torchreid, in both of its layouts."""
from __future__ import annotations

__all__ = [
    "register_all", "register_engine", "register_image_dataset", "register_loss", "register_method", "register_model",
]

import functools
import importlib
import inspect

import torchreid

from torchreid_nas import data, losses
from torchreid_nas.config import register_keys
from torchreid_nas.host import register_attribute, register_image_dataset, register_lazily, register_model
from torchreid_nas.lazy import imported_names
from torchreid_nas.methods import METHODS, Method


def register_loss(cls: type) -> None:
    """Make ``cls`` an attribute of ``torchreid.losses``; ValueError where that name is taken."""
    register_attribute(torchreid.losses, cls)


def register_engine(cls: type) -> None:
    """Make ``cls`` an attribute of ``torchreid.engine``; ValueError where that name is taken."""
    register_attribute(torchreid.engine, cls)


def register_method(method: type[Method]) -> None:
    """Add a method to :data:`torchreid_nas.methods.METHODS`, its keys to the config, and its models and engines to torchreid.

    Example::

        class MyMethod(CMNASMethod):
            name = "mine"
            factories = {"my_resnet50": my_resnet50}

        register_method(MyMethod)

    Raises:
        ValueError: another method has that name, or torchreid has other models or engines of the same names.
    """
    register_keys(method.keys)
    for name, factory in method.factories.items():
        register_model(name, getattr(importlib.import_module(factory[0]), factory[1]) if isinstance(factory, tuple) else factory)
    for attribute in ("train_class", "search_class"):
        if inspect.getattr_static(method, attribute) is not None:
            module, name = imported_names(method, attribute)
            register_lazily(torchreid.engine, {name: module})
    if METHODS.setdefault(method.name, method) is not method:
        raise ValueError(f'torchreid_nas already has a method "{method.name}"; give the other one another name')


def register_all() -> None:
    """Register everything of this package; again is harmless."""
    for method in list(METHODS.values()):
        register_method(method)
    for name, dataset in _DATASETS.items():
        register_image_dataset(name, dataset)
    for name in losses.__all__:
        register_loss(getattr(losses, name))


_DATASETS = {
    "llcm": data.LLCM,
    "llcm_ir2vis": functools.partial(data.LLCM, query_modality="infrared"),
    "regdb": data.RegDB,
    "regdb_ir2vis": functools.partial(data.RegDB, query_modality="infrared"),
    "sysu_mm01": data.SYSUMM01,
    "sysu_mm01_indoor": functools.partial(data.SYSUMM01, search="indoor"),
}
