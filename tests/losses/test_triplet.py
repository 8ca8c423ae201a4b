from __future__ import annotations

import numpy as np
import pytest
import torch
import torchreid

from torchreid_nas.errors import InputError
from torchreid_nas.losses import BatchHardTripletLoss, CrossModalityTripletLoss


def batch(num_pids=3, num_instances=3, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_pids * num_instances, dim)
    visible, infrared = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return visible, infrared, torch.arange(num_pids).repeat_interleave(num_instances)


def loop(visible, infrared, pids, margin):
    """Four terms, anchor by anchor."""
    terms = []
    for anchors, others in ((visible, visible), (infrared, infrared), (visible, infrared), (infrared, visible)):
        for anchor, pid in zip(anchors, pids):
            distances = np.linalg.norm(others - anchor, axis=1)
            terms.append(max(0.0, distances[pids == pid].max() - distances[pids != pid].min() + margin))
    return np.mean(terms)


def test_equals_the_authors_value_and_gradients(golden):
    numbers = golden("losses")
    visible = torch.tensor(numbers["feat_v"], requires_grad=True)
    infrared = torch.tensor(numbers["feat_t"], requires_grad=True)
    loss = CrossModalityTripletLoss(margin=0.4)(visible, infrared, torch.tensor(numbers["pids"]))
    loss.backward()
    assert loss.item() == pytest.approx(numbers["triplet"].item(), abs=1e-9)
    np.testing.assert_allclose(visible.grad, numbers["triplet_grad_v"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(infrared.grad, numbers["triplet_grad_t"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_instances", [1, 2, 4])
@pytest.mark.parametrize("margin", [0, 0.4, 2.0])
def test_equals_the_loop_over_anchors(num_instances, margin):
    visible, infrared, pids = batch(num_instances=num_instances, seed=num_instances)
    expected = loop(visible.numpy(), infrared.numpy(), pids.numpy(), margin)
    assert CrossModalityTripletLoss(margin)(visible, infrared, pids).item() == pytest.approx(expected, abs=1e-12)


def test_identities_need_not_be_grouped():
    visible, infrared, pids = batch()
    order = torch.randperm(len(pids), generator=torch.Generator().manual_seed(2))
    loss = CrossModalityTripletLoss(2.0)
    assert loss(visible[order], infrared[order], pids[order]).item() == pytest.approx(
        loss(visible, infrared, pids).item(), abs=1e-12
    )


def test_symmetric_in_the_modalities_and_free_of_common_shift():
    visible, infrared, pids = batch()
    loss = CrossModalityTripletLoss(2.0)
    value = loss(visible, infrared, pids).item()
    assert loss(infrared, visible, pids).item() == pytest.approx(value, abs=1e-12)
    assert loss(visible + 1, infrared + 1, pids).item() == pytest.approx(value, abs=1e-9)


def test_known_values_on_a_line():
    # Identity 0 at 0 (visible) and 1 (infrared), identity 1 at 10 and 12; one instance each.
    visible, infrared = torch.tensor([[0.0], [10.0]]), torch.tensor([[1.0], [12.0]])
    pids = torch.tensor([0, 1])
    # vv: the anchor is its own positive: margin - 10 twice; tt: margin - 11 twice;
    # vt: 1 - 12, 2 - 9; tv: 1 - 9, 2 - 12; all plus margin.
    margin = 10.5
    expected = np.mean([0.5, 0.5, 0, 0, 0, 3.5, 2.5, 0.5])
    assert CrossModalityTripletLoss(margin)(visible, infrared, pids).item() == pytest.approx(expected, abs=1e-6)


def test_separated_identities_cost_nothing():
    visible, infrared, pids = batch()
    apart = 100.0 * pids[:, None]
    assert CrossModalityTripletLoss(0.4)(visible + apart, infrared + apart, pids).item() == 0


def test_gradcheck():
    visible, infrared, pids = batch(num_pids=2, num_instances=2, dim=3)
    loss = CrossModalityTripletLoss(5.0)
    features = visible.requires_grad_(), infrared.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, t: loss(v, t, pids), features)


@pytest.mark.parametrize("num_instances", [1, 2])
def test_gradients_are_finite_where_features_coincide(num_instances):
    visible, infrared, pids = batch(num_instances=num_instances)
    visible = visible.float().requires_grad_()
    infrared = visible.detach().clone().requires_grad_()
    CrossModalityTripletLoss(50.0)(visible, infrared, pids).backward()
    assert visible.grad.isfinite().all() and infrared.grad.isfinite().all()
    assert visible.grad.abs().max() > 0
    constant = torch.ones(4, 3, requires_grad=True)
    value = CrossModalityTripletLoss(0.4)(constant, constant, torch.tensor([0, 0, 1, 1]))
    value.backward()
    assert value.item() == pytest.approx(0.4) and constant.grad.abs().max() == 0


def test_near_duplicates_keep_their_distance_in_float32():
    # Far from the origin ‖a‖² + ‖b‖² − 2aᵀb has no digit left for a distance of 1e-2.
    visible = torch.tensor([[1000.0, 0.0], [1000.0, 5.0]])
    infrared = visible + torch.tensor([0.0, 0.015625])
    value = CrossModalityTripletLoss(5.0)(visible, infrared, torch.tensor([0, 1]))
    expected = loop(visible.double().numpy(), infrared.double().numpy(), np.array([0, 1]), 5.0)
    assert value.item() == pytest.approx(expected, abs=1e-6)


def test_half_precision_computes_in_float32_under_autocast():
    visible, infrared, pids = batch(dim=256)
    visible, infrared = (half.bfloat16().requires_grad_() for half in (visible, infrared))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = CrossModalityTripletLoss(1.0)(visible, infrared, pids)
    value.backward()
    exact = loop(*(half.detach().double().numpy() for half in (visible, infrared)), pids.numpy(), 1.0)
    assert value.dtype == torch.float32 and visible.grad.dtype == torch.bfloat16
    assert value.item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize(
    "infrared_shape, pids, message",
    [
        ((3, 2), [0, 0, 1, 1], r"infrared \(3, 2\)"),
        ((4, 2), [0, 0, 1], r"pids has shape \(3,\), expected \(4,\)"),
        ((4, 2), [5, 5, 5, 5], "every image of the batch is of identity 5.*at least two identities"),
    ],
)
def test_bad_batch(infrared_shape, pids, message):
    with pytest.raises(InputError, match=message):
        CrossModalityTripletLoss()(torch.ones(4, 2), torch.ones(infrared_shape), torch.tensor(pids))


@pytest.mark.parametrize("margin", [-0.1, float("inf"), "0.4"])
def test_bad_margin(margin):
    with pytest.raises(InputError, match="margin is"):
        CrossModalityTripletLoss(margin)


# -- one set of images ----------------------------------------------------------


@pytest.mark.parametrize("num_instances", [1, 2, 4])
@pytest.mark.parametrize("margin", [0.0, 0.3, 3.0])
def test_of_one_set_it_is_torchreids(num_instances, margin):
    features, _, pids = batch(num_pids=4, num_instances=num_instances, seed=num_instances)
    results = []
    for loss in (BatchHardTripletLoss(margin), torchreid.losses.TripletLoss(margin)):
        own = features.clone().requires_grad_()
        value = loss(own, pids)
        value.backward()
        results.append((value.detach(), own.grad))
    # torchreid sets an anchor's distance to itself to 1e-6.
    torch.testing.assert_close(*results, rtol=1e-6, atol=2e-6)


def test_of_one_set_gradcheck_and_order():
    features, _, pids = batch(num_pids=3, num_instances=2, dim=3)
    loss = BatchHardTripletLoss(5.0)
    assert torch.autograd.gradcheck(lambda x: loss(x, pids), features.requires_grad_())
    order = torch.randperm(len(pids), generator=torch.Generator().manual_seed(2))
    assert loss(features[order], pids[order]).item() == pytest.approx(loss(features, pids).item(), abs=1e-12)


def test_of_one_set_half_precision_computes_in_float32_under_autocast():
    features, _, pids = batch(dim=256)
    features = features.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = BatchHardTripletLoss(1.0)(features, pids)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(BatchHardTripletLoss(1.0)(features.double(), pids).item(), rel=1e-5)


@pytest.mark.parametrize("pids, message", [
    ([0, 0, 1], r"pids has shape \(3,\), expected \(4,\)"), ([5, 5, 5, 5], "every image of the batch is of identity 5"),
])
def test_of_one_set_a_bad_batch_is_refused(pids, message):
    with pytest.raises(InputError, match=message):
        BatchHardTripletLoss()(torch.ones(4, 2), torch.tensor(pids))


@pytest.mark.parametrize("of_one_set", [True, False])
def test_normalised_features_are_those_of_length_one(of_one_set):
    features, pids = torch.randn(8, 5, dtype=torch.float64), torch.arange(4).repeat_interleave(2)
    lengths = features.norm(dim=1, keepdim=True)
    if of_one_set:
        plain, normalised = BatchHardTripletLoss(0.3), BatchHardTripletLoss(0.3, normalize=True)
        assert torch.allclose(normalised(features, pids), plain(features / lengths, pids))
    else:
        plain, normalised = CrossModalityTripletLoss(0.3), CrossModalityTripletLoss(0.3, normalize=True)
        unit = features / lengths
        assert torch.allclose(
            normalised(features[::2], features[1::2], pids[::2]), plain(unit[::2], unit[1::2], pids[::2])
        )


@pytest.mark.parametrize("margin", [0.4, 2.0])
def test_two_visible_copies_equal_the_mean_of_four_plain_terms(margin):
    first, infrared, pids = batch(num_instances=2)
    visible = torch.cat((first, batch(num_instances=2, seed=7)[0]))
    parts = [part.requires_grad_() for part in (visible, infrared)]
    labels = [pids.repeat(2), pids]
    terms = []
    for anchors, own in zip(parts, labels):
        for others, other_pids in zip(parts, labels):
            distance, same = torch.cdist(anchors, others), own[:, None] == other_pids
            hardest = distance.masked_fill(~same, -1).amax(1) - distance.masked_fill(same, torch.inf).amin(1)
            terms.append((hardest + margin).relu().mean())
    expected = torch.stack(terms).mean()
    gradients = torch.autograd.grad(expected, parts)
    found = CrossModalityTripletLoss(margin)(*parts, pids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for ours, plain in zip(torch.autograd.grad(found, parts), gradients):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)


def test_a_visible_part_that_is_no_multiple_is_refused():
    visible, infrared, pids = batch()
    with pytest.raises(InputError, match=r"\(n·B, D\) and \(B, D\); draw the batch by CrossModalityIdentitySampler"):
        CrossModalityTripletLoss()(visible, infrared[:-1], pids[:-1])
