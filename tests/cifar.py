"""Files in the layout of CIFAR-10 and CIFAR-100, with random images of few classes."""
from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np


def write_cifar100(root: Path, images: int = 24, classes: int = 4, **changes: Any) -> Path:
    """Write ``<root>/cifar-100-python``; an image of class c is bright in channel c modulo 3; ``changes`` are of a file."""
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for part, count in (("train", images), ("test", 8)):
        labels = [index % classes for index in range(count)]
        content = {"data": _pixels(labels), "fine_labels": labels, "coarse_labels": labels, **changes.get(part, {})}
        (folder / part).write_bytes(pickle.dumps(content))
    names = [f"class {number}" for number in range(classes)]
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": names, "coarse_label_names": names}))
    return folder


def write_cifar10(root: Path, images: int = 10) -> Path:
    """Write ``<root>/cifar-10-batches-py`` with five training files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        labels = [index % 10 for index in range(images)]
        (folder / name).write_bytes(pickle.dumps({"data": _pixels(labels), "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {number}" for number in range(10)]}))
    return folder


def _pixels(labels: list[int]) -> np.ndarray:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 120, (len(labels), 3, 32, 32), dtype=np.uint8)
    for image, label in zip(pixels, labels):
        image[label % 3] += 100
    return pixels.reshape(len(labels), -1)
