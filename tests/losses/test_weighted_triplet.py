from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchreid

from torchreid_nas.errors import InputError
from torchreid_nas.losses import EnhancedSquaredDifferenceLoss, WeightedRegularizedTripletLoss

LOSSES = [
    ("wrt", WeightedRegularizedTripletLoss()),
    ("wrt_normalized", WeightedRegularizedTripletLoss(normalize=True)),
    ("squared_a1_g1", EnhancedSquaredDifferenceLoss()),
    ("squared_a2_g3", EnhancedSquaredDifferenceLoss(alpha=2.0, gamma=3.0)),
]


def batch(num_pids=3, num_images=4, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn((num_pids * num_images, dim), generator=generator, dtype=torch.float64)
    return features, torch.arange(num_pids).repeat_interleave(num_images)


def weighted_distances(features, pids, alpha):
    """Return p and n of each anchor, by loops over anchors and images."""
    for anchor in range(len(pids)):
        distances = [max(float(np.linalg.norm(features[anchor] - other)), 1e-6) for other in features]
        means = []
        for sign, chosen in ((1, pids == pids[anchor]), (-1, pids != pids[anchor])):
            # The largest exponent, where the images that are not chosen count as 0.
            largest = max(sign * alpha * distance * kept for distance, kept in zip(distances, chosen))
            weights = [math.exp(sign * alpha * d - largest) if kept else 0.0 for d, kept in zip(distances, chosen)]
            means.append(sum(w * d for w, d in zip(weights, distances)) / (sum(weights) + 1e-6))
        yield means


@pytest.mark.parametrize("name, loss", LOSSES)
def test_equals_the_authors_value_and_gradient(golden, name, loss):
    numbers = golden("caj")
    features = torch.tensor(numbers["features"], requires_grad=True)
    value = loss(features, torch.tensor(numbers["pids"]))
    value.backward()
    assert value.item() == pytest.approx(numbers[name].item(), abs=1e-9)
    np.testing.assert_allclose(features.grad, numbers[f"{name}_grad"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
def test_equals_the_loop_over_anchors(scale):
    features, pids = batch()
    features = features * scale
    pairs = list(weighted_distances(features.numpy(), pids.numpy(), alpha=1.0))
    plain = np.mean([np.logaddexp(0, p - n) for p, n in pairs])
    squared = np.mean([np.logaddexp(0, (1 if p > n else -1) * min((p - n) ** 2, 88)) for p, n in pairs])
    assert WeightedRegularizedTripletLoss()(features, pids).item() == pytest.approx(plain, rel=1e-12)
    assert EnhancedSquaredDifferenceLoss()(features, pids).item() == pytest.approx(squared, rel=1e-12)


@pytest.mark.parametrize("name, loss", LOSSES)
def test_gradient_agrees_with_differences(name, loss):
    features, pids = batch(num_pids=2, num_images=3, dim=3)
    assert torch.autograd.gradcheck(lambda values: loss(values, pids), features.requires_grad_())


@pytest.mark.parametrize("name, loss", LOSSES)
def test_order_of_the_images_does_not_matter(name, loss):
    features, pids = batch()
    order = torch.randperm(len(pids), generator=torch.Generator().manual_seed(1))
    assert loss(features[order], pids[order]).item() == pytest.approx(loss(features, pids).item(), rel=1e-12)


def test_normalised_loss_ignores_the_length_of_features():
    features, pids = batch()
    lengths = torch.linspace(0.1, 9, len(pids), dtype=torch.float64)[:, None]
    loss = WeightedRegularizedTripletLoss(normalize=True)
    assert loss(features * lengths, pids).item() == pytest.approx(loss(features, pids).item(), rel=1e-10)


@pytest.mark.parametrize("name, loss", LOSSES)
def test_equal_features_have_a_finite_gradient(name, loss):
    features = torch.ones((4, 3), requires_grad=True)
    loss(features, torch.tensor([0, 0, 1, 1])).backward()
    assert torch.isfinite(features.grad).all()


def test_squared_difference_ends_at_88():
    features = torch.tensor([[0.0], [1e4], [1.0], [2.0]], dtype=torch.float64)
    pids = torch.tensor([0, 0, 1, 1])
    assert EnhancedSquaredDifferenceLoss()(features, pids).item() <= 88


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    features, pids = batch()
    half = features.to(dtype)
    loss = WeightedRegularizedTripletLoss()
    assert loss(half, pids).dtype == torch.float32
    assert loss(half, pids).item() == pytest.approx(loss(half.double(), pids).item(), rel=1e-5)


@pytest.mark.parametrize("wrong, expected", [
    ((torch.ones(4, 2), torch.zeros(4, dtype=torch.long)), "identity 0"),
    ((torch.ones(4, 2), torch.tensor([0, 1])), "pids has shape"),
    ((torch.ones(4, 2, dtype=torch.long), torch.tensor([0, 0, 1, 1])), "floating-point"),
])
@pytest.mark.parametrize("loss", [WeightedRegularizedTripletLoss(), EnhancedSquaredDifferenceLoss()])
def test_bad_input_is_refused(loss, wrong, expected):
    with pytest.raises(InputError, match=expected):
        loss(*wrong)


@pytest.mark.parametrize("factors", [{"alpha": -1.0}, {"gamma": float("nan")}])
def test_bad_factors_are_refused(factors):
    with pytest.raises(InputError, match=next(iter(factors))):
        EnhancedSquaredDifferenceLoss(**factors)


def test_torchreid_knows_the_losses():
    assert torchreid.losses.WeightedRegularizedTripletLoss is WeightedRegularizedTripletLoss
    assert torchreid.losses.EnhancedSquaredDifferenceLoss is EnhancedSquaredDifferenceLoss
