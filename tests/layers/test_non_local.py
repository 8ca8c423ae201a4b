from __future__ import annotations

import numpy as np
import pytest
import torch

from torchreid_nas.layers.non_local import NonLocal


def of_the_authors(numbers):
    block = NonLocal(12).double()
    prefix = "nonlocal."
    block.load_state_dict({k[len(prefix):]: torch.tensor(v) for k, v in numbers.items() if k.startswith(prefix)})
    return block


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_equals_the_authors_output(golden, mode):
    numbers = golden("caj")
    block = of_the_authors(numbers).train(mode == "train")
    np.testing.assert_allclose(block(torch.tensor(numbers["map"])).detach(), numbers[f"nonlocal_{mode}"], rtol=0, atol=1e-9)


def test_equals_the_sum_over_pairs_of_positions(golden):
    numbers = golden("caj")
    block = of_the_authors(numbers).eval()
    images = torch.tensor(numbers["map"])
    theta, phi, g = (layer(images).flatten(1) for layer in (block.theta, block.phi, block.g))
    attention = theta[:, :, None] * phi[:, None, :] / theta.shape[1]
    common = torch.einsum("bij,bj->bi", attention, g).view(len(images), 1, *images.shape[2:])
    torch.testing.assert_close(block(images), block.W(common) + images, rtol=0, atol=1e-12)


def test_a_new_block_trains_although_it_changes_nothing():
    block = NonLocal(4)
    images = torch.randn(3, 4, 5, 2, generator=torch.Generator().manual_seed(0))
    output = block(images)
    assert torch.equal(output, images)
    output.square().sum().backward()
    assert block.W[1].weight.grad.abs().sum() > 0
