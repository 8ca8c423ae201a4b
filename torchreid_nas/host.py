"""What torchreid keeps private, in either of its layouts, and how names enter it. Only this module reads it."""
from __future__ import annotations

__all__ = [
    "IMAGE_DATASETS", "MODELS", "BasicBlock", "Bottleneck", "ResNet", "register_attribute", "register_image_dataset",
    "register_lazily", "register_model",
]

import importlib
import sys
from collections.abc import Callable, Mapping, MutableMapping
from types import ModuleType
from typing import Any

import torchreid

# Read by vars(): inside a class Python would rewrite an attribute with two underscores.
MODELS: MutableMapping[str, Callable] = vars(torchreid.models)["__model_factory"]
"""Factories by the names that ``torchreid.models.build_model`` knows."""

IMAGE_DATASETS: MutableMapping[str, Any] = vars(torchreid.data.datasets)["__image_datasets"]
"""Classes by the names that torchreid's data managers know."""

# ``torchreid.models`` gives the factories of its ResNets alone; the classes stand in the module of the factories.
_RESNET: Any = sys.modules[torchreid.models.resnet50.__module__]
ResNet: Any = _RESNET.ResNet
"""torchreid's ResNet."""
BasicBlock: Any = _RESNET.BasicBlock
"""The block of torchreid's ResNet-18."""
Bottleneck: Any = _RESNET.Bottleneck
"""The block of torchreid's ResNet-50."""


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


def register_attribute(module: ModuleType, value: Any) -> None:
    """Make a class or function an attribute of one of torchreid's modules, under its own name.

    Raises:
        ValueError: the module already has another attribute of that name.
    """
    if getattr(module, value.__name__, value) is not value:
        raise _taken(module, value.__name__)
    setattr(module, value.__name__, value)


def register_lazily(module: ModuleType, places: Mapping[str, str]) -> None:
    """Make names attributes of one of torchreid's modules that are imported when they are first asked for (PEP 562).

    ``torchreid.engine.CrossModalityEngine`` is the class itself; a process
    that never asks for it imports neither engines nor searches.

    Args:
        module: torchreid's.
        places: for each name the module of this package that holds the name.

    Raises:
        ValueError: the module already has another attribute of one of the names.
    """
    known = vars(module).get(_LAZY)
    for name, place in places.items():
        if known is not None and known.get(name, place) != place:
            raise _taken(module, name)
        if name in vars(module) and vars(module)[name] is not getattr(importlib.import_module(place), name, None):
            raise _taken(module, name)
    if known is not None:
        known.update(places)
        return
    known = vars(module)[_LAZY] = dict(places)
    others = vars(module).get("__getattr__")

    def get(name: str) -> Any:
        if name in known:
            value = getattr(importlib.import_module(known[name]), name)
            setattr(module, name, value)
            return value
        if others is not None:
            return others(name)
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

    module.__getattr__ = get  # type: ignore[method-assign]  # PEP 562: modules may have one, mypy knows that of source files only
    module.__dir__ = lambda: sorted({*vars(module), *known})  # type: ignore[method-assign]  # likewise


_LAZY = "__torchreid_nas__"


def _register(registry: MutableMapping[str, Any], name: str, value: Any, kind: str) -> None:
    if registry.setdefault(name, value) is not value:
        raise ValueError(f'torchreid already has a {kind} "{name}"; torchreid_nas does not overwrite it')


def _taken(module: ModuleType, name: str) -> ValueError:
    return ValueError(f'{module.__name__} already has "{name}"; torchreid_nas does not overwrite it')
