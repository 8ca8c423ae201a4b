"""Stages and short names of the slots of several backbones."""
from __future__ import annotations

import itertools

import pytest
from histories import RESNET50, torchreid_slots

from torchreid_nas.layers import bn_slots
from torchreid_nas.models import MobileNetBackbone
from torchreid_nas.slots import short_names, stages


def test_stages_of_a_resnet():
    assert stages(RESNET50) == [
        ("stem", 0, 1), ("layer1", 1, 11), ("layer2", 11, 24), ("layer3", 24, 43), ("layer4", 43, 53),
    ]


def test_stages_of_a_mobilenet_are_five_by_the_size_of_their_maps():
    assert stages(bn_slots(MobileNetBackbone())) == [
        ("stem", 0, 3), ("layer1", 3, 9), ("layer2", 9, 18), ("layer3", 18, 39), ("layer4", 39, 52),
    ]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("osnet_x0_25", "conv1", "conv5"), ("mobilenetv2_x1_0", "conv1", "conv9"), ("densenet121", "stem", "norm5")],
)
def test_stages_partition_the_slots_of_other_backbones(name, first, last):
    slots = torchreid_slots(name)
    found = stages(slots)
    assert (found[0][0], found[-1][0]) == (first, last)
    assert [index for _, start, stop in found for index in range(start, stop)] == list(range(len(slots)))
    assert all(a[0] != b[0] for a, b in itertools.pairwise(found))


def test_short_names():
    slots = ("bn1", "layer3.0.bn2", "layer3.0.downsample.1", "conv2.1.conv2d.0.bn", "layer4.0.shortcut")
    assert short_names(slots) == ["bn1", "3.0.bn2", "3.0.ds", "2.1.conv2d.0", "4.0.ds"]


def test_short_names_that_would_collide_stay_whole():
    assert short_names(["layer1.0.bn", "stage1.0.bn", "layer2.0.bn"]) == ["layer1.0.bn", "stage1.0.bn", "2.0"]


@pytest.mark.parametrize("name", ["osnet_x0_25", "mobilenetv2_x1_0", "densenet121"])
def test_short_names_of_other_backbones_are_unique(name):
    slots = torchreid_slots(name)
    short = short_names(slots)
    assert len(set(short)) == len(slots) and max(map(len, short)) < max(map(len, slots))
