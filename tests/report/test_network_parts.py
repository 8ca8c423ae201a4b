"""The parts of a CDNet: their order, and counts that equal torch's own and the published ones."""
from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from torchreid_nas import report
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import BLOCK_SLOTS
from torchreid_nas.models.cdnet import CDNet


def test_the_parts_of_the_published_networks_add_up():
    parts = report.network_parts("cdnet")
    assert [part.name for part in parts] == [
        "stem", "stage1.0", "stage1.1", "stage1.downsample", "stage2.0", "stage2.1", "stage2.downsample",
        "stage3.0", "stage3.1", "neck",
    ]
    assert [part.output for part in parts] == [
        (64, 64, 32), (256, 64, 32), (256, 64, 32), (256, 32, 16), (384, 32, 16), (384, 32, 16), (384, 16, 8),
        (512, 16, 8), (512, 16, 8), (768,),
    ]
    assert sum(part.parameters for part in parts) == 1_796_600
    assert parts[-1].parameters == 49_152, "of FBLNeck only the squeeze convolution is left at test time"
    assert sum(part.macs for part in parts) == pytest.approx(955.1e6, abs=0.05e6)
    assert sum(part.parameters for part in report.network_parts("cnet")) == 1_436_240


@torch.no_grad()
@pytest.mark.parametrize(("neck", "model_width", "small_images"), [
    ("fblneck", 0.25, False), ("blneck", 0.5, False), ("fblneck", 0.25, True),
])
def test_parts_equal_what_torch_counts_in_the_network(neck, model_width, small_images):
    model = CDNet(5, "cdnet", neck, model_width, small_images=small_images).eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 64, 48))
    flops = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    parts = report.network_parts("cdnet", 64, 48, neck, model_width, small_images)
    assert sum(part.macs for part in parts) * 2 == counter.get_total_flops()
    assert parts[-1].output == (model.feature_dim,)
    for part in parts[:-1]:
        module = model.backbone.get_submodule(part.name)
        assert part.macs * 2 == flops[f"CDNet.backbone.{part.name}"], part.name
        assert part.parameters == sum(parameter.numel() for parameter in module.parameters()), part.name
    assert set(BLOCK_SLOTS) < {part.name for part in parts}


def test_networks_that_do_not_exist():
    with pytest.raises(InputError, match="images of 8x8 are too small"):
        report.network_parts("cdnet", 8, 8)
    with pytest.raises(InputError, match='neck "fblnec" is unknown'):
        report.network_parts("cdnet", neck="fblnec")
    with pytest.raises(InputError, match="width 0.3"):
        report.network_parts("cdnet", model_width=0.3)
