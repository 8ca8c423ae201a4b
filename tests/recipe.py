"""Weights of the golden files: every tensor follows from its key in the authors' layout."""
from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

DATA = Path(__file__).resolve().parent / "data"


def recipe(key: str, shape: Sequence[int]) -> torch.Tensor:
    """The tensor for one key, float32."""
    a = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if key.endswith("running_var"):
        a = np.abs(a) * 0.5 + 0.5
    elif len(shape) == 1:
        a = 1 + 0.1 * a if key.endswith("weight") else 0.1 * a
    else:
        a = a * np.float32(np.sqrt(2 / np.prod(shape[1:])))
    return torch.from_numpy(a.astype(np.float32))


def recipe_state(name: str) -> dict[str, torch.Tensor]:
    """A state dict in the layout of ``tests/data/<name>_keys.json``; step counters are zero."""
    shapes = json.loads((DATA / f"{name}_keys.json").read_text(encoding="utf-8"))
    return {
        key: torch.tensor(0) if key.endswith("num_batches_tracked") else recipe(key, shape)
        for key, shape in shapes.items()
    }
