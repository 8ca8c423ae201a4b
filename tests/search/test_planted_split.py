"""The search finds a planted sensor gap at the beginning, in the middle and at the end: nine of ten seeds in the long form."""
from __future__ import annotations

import pytest
import torch
from scripts import benchmark_script

from torchreid_nas.architecture import BN_SPACE, Architecture
from torchreid_nas.layers import split_batchnorm


@pytest.fixture(scope="module")
def planted():
    with benchmark_script("planted_split") as module:
        yield module


@pytest.mark.parametrize(
    ("name", "method"), [("beginning", "gradient"), ("middle", "gradient"), ("end", "gradient"), ("middle", "paths")],
)
@pytest.mark.parametrize(("seeds", "wins"), [(2, 2), pytest.param(10, 9, marks=pytest.mark.long)])
def test_the_planted_slot_ends_first_in_preference_for_split(planted, name, method, seeds, wins):
    outcome = planted.run(planted.POSITIONS[name], seeds=seeds, method=method)
    assert outcome.wins >= wins, outcome


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
