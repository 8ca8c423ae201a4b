from __future__ import annotations

import numpy as np
import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.losses import C3MMDLoss, ClassMMDLoss, CorrelationConsistencyLoss


def halves(num_pids=3, num_instances=4, dim=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_pids * num_instances, dim)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for _ in range(2))


def loop_mmd(visible, infrared, k):
    """The formula, identity by identity and pair by pair."""
    total = 0.0
    for start in range(0, len(visible), k):
        v = [row / np.linalg.norm(row) for row in visible[start:start + k]]
        t = [row / np.linalg.norm(row) for row in infrared[start:start + k]]
        within = sum((a @ b) ** 2 for a in v for b in v) + sum((a @ b) ** 2 for a in t for b in t)
        total += (within - 2 * sum((a @ b) ** 2 for a in v for b in t)) / k**2
    return total / (len(visible) // k)


def loop_correlation(visible, infrared):
    total = 0.0
    for i in range(len(visible)):
        rows = []
        for half in (visible, infrared):
            row = np.array([half[i] @ other for other in half])
            rows.append(row / np.linalg.norm(row))
        total += ((rows[0] - rows[1]) ** 2).sum()
    return total / len(visible) ** 2


@pytest.mark.parametrize("name, make", [("cmmd", ClassMMDLoss), ("sp", lambda k: CorrelationConsistencyLoss())])
def test_equals_the_authors_value_and_gradients(golden, name, make):
    numbers = golden("losses")
    visible = torch.tensor(numbers["feat_v"], requires_grad=True)
    infrared = torch.tensor(numbers["feat_t"], requires_grad=True)
    loss = make(int(numbers["num_pos"]))(visible, infrared)
    loss.backward()
    assert loss.item() == pytest.approx(numbers[name].item(), abs=1e-9)
    np.testing.assert_allclose(visible.grad, numbers[f"{name}_grad_v"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(infrared.grad, numbers[f"{name}_grad_t"], rtol=0, atol=1e-9)


def test_c3mmd_is_the_weighted_sum(golden):
    numbers = golden("losses")
    visible, infrared, pids = (torch.tensor(numbers[key]) for key in ("feat_v", "feat_t", "pids"))
    authors = 5.0 * numbers["sp"].item() + 0.05 * numbers["cmmd"].item()
    assert C3MMDLoss(4)(visible, infrared, pids, pids).item() == pytest.approx(authors, abs=1e-9)
    assert C3MMDLoss(4, weight_correlation=0, weight_mmd=2)(visible, infrared).item() == pytest.approx(
        2 * numbers["cmmd"].item(), abs=1e-9
    )


@pytest.mark.parametrize("num_instances", [1, 2, 4])
def test_equals_the_loop_over_the_formula(num_instances):
    visible, infrared = halves(num_instances=num_instances, seed=num_instances)
    v, t = visible.detach().numpy(), infrared.detach().numpy()
    assert ClassMMDLoss(num_instances)(visible, infrared).item() == pytest.approx(
        loop_mmd(v, t, num_instances), abs=1e-12
    )
    assert CorrelationConsistencyLoss()(visible, infrared).item() == pytest.approx(loop_correlation(v, t), abs=1e-12)


def test_mmd_is_the_distance_of_second_moments():
    visible, infrared = halves(num_pids=1)
    moments = [torch.einsum("kd,ke->de", n, n) / 4 for n in map(torch.nn.functional.normalize, (visible, infrared))]
    expected = (moments[0] - moments[1]).square().sum().item()
    assert ClassMMDLoss(4)(visible, infrared).item() == pytest.approx(expected, abs=1e-12)


def test_mmd_extremes():
    same, _ = halves()
    assert ClassMMDLoss(4)(same, same).item() == pytest.approx(0, abs=1e-12)
    # All images of a modality alike, and the two modalities orthogonal: 1 + 1 - 0.
    visible, infrared = torch.eye(2, dtype=torch.float64).repeat_interleave(4, dim=0).split(4)
    assert ClassMMDLoss(4)(visible, infrared).item() == pytest.approx(2, abs=1e-12)


def test_invariances():
    visible, infrared = halves()
    mmd, correlation = ClassMMDLoss(4), CorrelationConsistencyLoss()
    scale = torch.linspace(0.5, 3, 12, dtype=torch.float64)[:, None]
    assert mmd(visible * scale, infrared).item() == pytest.approx(mmd(visible, infrared).item(), abs=1e-12)
    assert correlation(visible * 3, infrared).item() == pytest.approx(correlation(visible, infrared).item(), abs=1e-12)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    assert correlation(visible @ rotation, infrared).item() == pytest.approx(
        correlation(visible, infrared).item(), abs=1e-12
    )
    assert correlation(visible, visible @ rotation).item() == pytest.approx(0, abs=1e-12)
    # The images within an identity carry no order for MMD; moved to another identity they count elsewhere.
    within = torch.arange(12).view(3, 4).flip(1).flatten()
    assert mmd(visible, infrared[within]).item() == pytest.approx(mmd(visible, infrared).item(), abs=1e-12)
    assert abs(mmd(visible, infrared.roll(4, 0)).item() - mmd(visible, infrared).item()) > 1e-4


@pytest.mark.parametrize("loss", [ClassMMDLoss(2), CorrelationConsistencyLoss(), C3MMDLoss(2)], ids=repr)
def test_gradcheck(loss):
    assert torch.autograd.gradcheck(loss, halves(num_pids=2, num_instances=2, dim=3))


@pytest.mark.parametrize("loss", [ClassMMDLoss(4), CorrelationConsistencyLoss()], ids=repr)
def test_a_zero_feature_keeps_the_gradients_of_ordinary_size(loss):
    visible, infrared = halves()
    with torch.no_grad():
        visible[0] = 0
    loss(visible, infrared).backward()
    assert visible.grad.abs().max() < 10 and infrared.grad.abs().max() < 10
    assert infrared.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32_under_autocast(dtype):
    visible, infrared = (half.detach().to(dtype).requires_grad_() for half in halves(dim=256))
    loss = C3MMDLoss(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(visible, infrared)
    value.backward()
    exact = loss(visible.detach().double(), infrared.detach().double())
    assert value.dtype == torch.float32 and visible.grad.dtype == dtype
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)


@pytest.mark.parametrize(
    "visible, infrared, message",
    [
        (torch.zeros(6, 3), torch.zeros(4, 3), r"\(6, 3\) and infrared \(4, 3\)"),
        (torch.zeros(8), torch.zeros(8), r"\(B, D\)"),
        (torch.zeros(0, 3), torch.zeros(0, 3), "non-empty"),
        (torch.zeros(6, 3), torch.zeros(6, 3), "holds 6 images.*num_instances = 4"),
        (torch.zeros(4, 3, dtype=torch.long), torch.zeros(4, 3), "visible is torch.int64"),
        (torch.zeros(4, 3), torch.zeros(4, 3, device="meta"), "infrared on meta"),
    ],
)
def test_bad_features(visible, infrared, message):
    with pytest.raises(InputError, match=message):
        C3MMDLoss(4)(visible, infrared)


@pytest.mark.parametrize(
    "visible_pids, infrared_pids, message",
    [
        ([7, 7, 8, 8], [7, 7, 9, 9], "row 2 is identity 8 in the visible and 9 in the infrared"),
        ([7, 7, 8, 8], [8, 8, 7, 7], "row 0 is identity 7 in the visible and 8 in the infrared"),
        ([7, 8, 7, 8], [7, 8, 7, 8], r"rows 0 to 1 hold the identities \[7, 8\].*num_instances = 2"),
        ([7, 7, 8], [7, 7, 8], r"shape \(3,\).*expected \(4,\)"),
        ([7, 7, 8, 8], None, "infrared_pids is missing"),
    ],
)
def test_bad_identity_order(visible_pids, infrared_pids, message):
    pids = [None if labels is None else torch.tensor(labels) for labels in (visible_pids, infrared_pids)]
    with pytest.raises(InputError, match=message):
        C3MMDLoss(2)(torch.ones(4, 3), torch.ones(4, 3), *pids)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_instances": 0}, "num_instances is 0"),
        ({"num_instances": 2.0}, "num_instances is 2.0"),
        ({"num_instances": 2, "weight_mmd": -1}, "weight_mmd is -1"),
        ({"num_instances": 2, "weight_correlation": float("nan")}, "weight_correlation is nan"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(InputError, match=message):
        C3MMDLoss(**arguments)


def test_two_visible_copies_equal_the_formula_in_value_and_gradient():
    (first, infrared), (second, _) = halves(num_instances=2), halves(num_instances=2, seed=5)
    visible = torch.cat((first, second)).detach().requires_grad_()
    pids = torch.arange(3).repeat_interleave(2)
    moments = []
    for part, labels in ((visible, pids.repeat(2)), (infrared, pids)):
        rows = part / part.norm(dim=1, keepdim=True)
        moments.append([torch.stack([torch.outer(row, row) for row in rows[labels == pid]]).mean(0) for pid in range(3)])
    mmd = sum((v - t).square().sum() for v, t in zip(*moments)) / 3
    correlation = sum(CorrelationConsistencyLoss()(copy, infrared) for copy in visible.chunk(2)) / 2
    expected = 5.0 * correlation + 0.05 * mmd
    found = C3MMDLoss(2)(visible, infrared, pids.repeat(2), pids)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    for ours, plain in zip(*(torch.autograd.grad(loss, (visible, infrared)) for loss in (found, expected))):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)
