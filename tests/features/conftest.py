"""What the tests of features share."""
from __future__ import annotations

from pathlib import Path

import commands
import cv2
import numpy as np
import pytest
import torch
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.features import FeatureSet


@pytest.fixture(scope="session")
def run_folder(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained two-stream network, every BatchNorm split."""
    folder = tmp_path_factory.mktemp("features") / "run"
    call = commands.arguments(
        TINY, data_root, folder, "--stages", "train", **{"model.architecture": "split", "train.max_epoch": 1}
    )
    assert main(call) == 0
    return folder


@pytest.fixture(scope="session")
def trained(run_folder: Path):
    """The same, loaded."""
    from torchreid_nas.zoo.trained import load_trained

    return load_trained(run_folder)


@pytest.fixture(scope="session")
def visible(data_root: Path) -> Path:
    """RegDB's visible images, 32 identities of 4."""
    return data_root / "RegDB" / "Visible"


@pytest.fixture(scope="session")
def infrared(data_root: Path) -> Path:
    """RegDB's infrared images of the same."""
    return data_root / "RegDB" / "Thermal"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Seven frames of 64x48, the n-th of grey value 30 n and red on its left half."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(7):
        frame = np.full((48, 64, 3), 30 * number, np.uint8)
        frame[:, :32] = (0, 0, 255)  # BGR
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def make_set():
    """``make_set(features, labels, camids, prefix)``: a FeatureSet without images."""

    def make(features, labels=None, camids=None, prefix="image"):
        features = torch.as_tensor(features, dtype=torch.float32)
        count = len(features)
        labels = [""] * count if labels is None else [str(label) for label in labels]
        camids = np.full(count, -1) if camids is None else np.asarray(camids)
        paths = tuple(f"{prefix}{i}.jpg" for i in range(count))
        return FeatureSet(features, paths, tuple(labels), camids.astype(np.int64))

    return make
