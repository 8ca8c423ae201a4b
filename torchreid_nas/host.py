"""torchreid's private registries, in either of its layouts; the only module that reaches for them."""
from __future__ import annotations

__all__ = ["IMAGE_DATASETS", "MODELS"]

from collections.abc import Callable, MutableMapping
from typing import Any

import torchreid

# Reached through vars(): written as attributes inside a class, the double underscore would be mangled.
MODELS: MutableMapping[str, Callable] = vars(torchreid.models)["__model_factory"]
"""Factories by the names that ``torchreid.models.build_model`` knows."""

IMAGE_DATASETS: MutableMapping[str, Any] = vars(torchreid.data.datasets)["__image_datasets"]
"""Classes by the names that torchreid's data managers know."""
