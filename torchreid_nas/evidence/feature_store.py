"""The features that a test scored, from which its figures can be computed again: ``test_features.npz``."""
from __future__ import annotations

__all__ = ["load_test_features", "save_test_features", "size_of"]

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchreid_nas.engine.scoring import ProtocolTest, ScoredFeatures
from torchreid_nas.evidence.archive import read_arrays
from torchreid_nas.files import atomic_path
from torchreid_nas.metrics.protocols import find_protocol

_ARRAYS = ("q_pids", "q_camids", "g_pids", "g_camids")


def size_of(tests: Sequence[ScoredFeatures]) -> int:
    """Return how many bytes of features the tests have."""
    return sum(part.nbytes for test in tests for part in (*test.query, *test.gallery))


def save_test_features(path: str | os.PathLike[str], tests: Sequence[ScoredFeatures]) -> None:
    """Write the features of a test, float32 to the bit, uncompressed.

    Raises:
        InputError: the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    rows = []
    for number, test in enumerate(tests):
        protocols = [
            {"protocol": one.protocol.name, "transposed": one.protocol.transposed, "trials": len(one.galleries)}
            for one in test.tests
        ]
        rows.append({"dataset": test.dataset, "features": list(test.names), "tests": protocols})
        for part in _ARRAYS:
            arrays[f"{number}/{part}"] = getattr(test, part)
        for which, (query, gallery) in enumerate(zip(test.query, test.gallery)):
            arrays[f"{number}/query/{which}"], arrays[f"{number}/gallery/{which}"] = query.numpy(), gallery.numpy()
        for place, one in enumerate(test.tests):
            for trial, chosen in enumerate(one.galleries):
                arrays[f"{number}/chosen/{place}/{trial}"] = chosen
    arrays["index"] = np.frombuffer(json.dumps(rows).encode(), np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for allow_pickle


def load_test_features(path: str | os.PathLike[str]) -> list[ScoredFeatures]:
    """Return what :func:`save_test_features` wrote.

    Raises:
        InputError: there is no such file, it is damaged, or its protocol is not known here.
    """
    missing = (
        "figures cannot be computed from features; test the run again with test.keep_features True, or verify it from its "
        "images (--full)"
    )
    with read_arrays(Path(path), missing) as arrays:
        rows = json.loads(arrays["index"].tobytes())
        return [_loaded(arrays, number, row) for number, row in enumerate(rows)]


def _loaded(arrays: Any, number: int, row: dict[str, Any]) -> ScoredFeatures:
    count = len(row["features"])
    return ScoredFeatures(
        row["dataset"], tuple(row["features"]),
        [torch.from_numpy(arrays[f"{number}/query/{which}"]) for which in range(count)],
        [torch.from_numpy(arrays[f"{number}/gallery/{which}"]) for which in range(count)],
        **{part: arrays[f"{number}/{part}"] for part in _ARRAYS},
        tests=[
            ProtocolTest(
                dataclasses.replace(find_protocol(one["protocol"]), transposed=one["transposed"]),
                [arrays[f"{number}/chosen/{place}/{trial}"] for trial in range(one["trials"])],
            )
            for place, one in enumerate(row["tests"])
        ],
    )
