from __future__ import annotations

import numpy as np
import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.layers.gem import GeMPool


def test_equals_the_authors_output(golden):
    numbers = golden("caj")
    pooled = GeMPool(3.0)(torch.tensor(numbers["map"]))
    np.testing.assert_allclose(pooled, numbers["gem_p3"], rtol=1e-9, atol=1e-9, equal_nan=True)


def test_lies_between_the_mean_and_the_largest_value():
    images = torch.rand(3, 4, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, largest = images.mean(dim=(2, 3)), images.amax(dim=(2, 3))
    torch.testing.assert_close(GeMPool(1.0)(images), mean, rtol=0, atol=1e-11)
    pooled = GeMPool(3.0)(images)
    assert ((mean < pooled) & (pooled < largest)).all()
    assert ((pooled < GeMPool(20.0)(images)) & (GeMPool(20.0)(images) < largest)).all()


def test_gradient_agrees_with_differences():
    images = torch.rand(2, 2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    assert torch.autograd.gradcheck(GeMPool(3.0), images.requires_grad_())


def test_half_precision_is_pooled_in_float32():
    images = torch.full((1, 1, 2, 2), 50.0, dtype=torch.float16)
    assert GeMPool(3.0)(images).item() == pytest.approx(50, rel=1e-6)


@pytest.mark.parametrize("p", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_exponents_are_refused(p):
    with pytest.raises(InputError, match="exponent p of GeM"):
        GeMPool(p)
