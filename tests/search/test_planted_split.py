"""The search finds a planted sensor gap: nine of ten seeds at the beginning, in the middle and at the end."""
from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from torchreid_nas.architecture import BN_SPACE, Architecture
from torchreid_nas.layers import split_batchnorm

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "planted_split.py"


@pytest.fixture(scope="module")
def planted():
    specification = importlib.util.spec_from_file_location("planted_split", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    sys.modules["planted_split"] = module
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    specification.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)
    del sys.modules["planted_split"]


@pytest.mark.parametrize("name", ["beginning", "middle", "end"])
def test_the_planted_slot_ends_first_in_preference_for_split(planted, name):
    outcome = planted.run(planted.POSITIONS[name], seeds=10)
    assert outcome.wins >= 9, outcome


def test_splitting_the_planted_slot_alone_undoes_the_distortion(planted):
    """The problem is what it says: that one split, and no other, gives both modalities the same features."""
    generator = torch.Generator().manual_seed(0)
    images, _ = planted.Identities(0, 16, generator).batch()
    images[len(images) // 2:] = images[: len(images) // 2]
    position = planted.POSITIONS["middle"]
    differences = []
    for split in range(planted.SLOTS):
        torch.manual_seed(0)
        backbone = planted.PlantedBackbone(position, torch.Generator().manual_seed(0)).double()
        architecture = [("split" if slot == split else "share") for slot in range(planted.SLOTS)]
        choices = tuple((f"bn{slot}", choice) for slot, choice in enumerate(architecture))
        visible, infrared = split_batchnorm(backbone, Architecture(BN_SPACE, choices))(images.double()).chunk(2)
        differences.append(((visible - infrared).norm() / visible.norm()).item())
    planted_difference = differences.pop(position)
    assert planted_difference < 1e-2 and min(differences) > 20 * planted_difference
