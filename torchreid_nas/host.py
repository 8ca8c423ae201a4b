"""What torchreid keeps private, in either of its layouts; the only module that reaches for it."""
from __future__ import annotations

__all__ = ["IMAGE_DATASETS", "MODELS", "RESNET"]

import sys
from collections.abc import Callable, MutableMapping
from types import ModuleType
from typing import Any

import torchreid

# Reached through vars(): written as attributes inside a class, the double underscore would be mangled.
MODELS: MutableMapping[str, Callable] = vars(torchreid.models)["__model_factory"]
"""Factories by the names that ``torchreid.models.build_model`` knows."""

IMAGE_DATASETS: MutableMapping[str, Any] = vars(torchreid.data.datasets)["__image_datasets"]
"""Classes by the names that torchreid's data managers know."""

RESNET: ModuleType = sys.modules[torchreid.models.resnet50.__module__]
"""The module of torchreid's ``ResNet`` and its blocks; ``torchreid.models`` gives their factories alone."""
