"""InvarianceLoss: the authors' numbers, the formula by loops, cross-entropy, chunks, groups and gradients."""
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.losses import ExemplarMemory, InvarianceLoss, memory_walk


def problem(num_samples=30, dim=6, batch=5, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    memory = ExemplarMemory(num_samples, dim, dtype)
    memory.initialize(torch.randn(num_samples, dim, generator=generator, dtype=torch.float64))
    features = F.normalize(torch.randn(batch, dim, generator=generator, dtype=torch.float64))
    return memory, features, torch.randint(num_samples, (batch,), generator=generator)


def loop(entries, features, indices, temperature, groups, k):
    """Eq. 8 with the authors' weights, entry by entry."""
    total = 0.0
    for feature, own in zip(features.tolist(), indices.tolist()):
        logits = [sum(a * b for a, b in zip(entry, feature)) / temperature for entry in entries.tolist()]
        log_mass = math.log(sum(math.exp(logit) for logit in logits))
        weights = [0.0] * len(logits)
        for group in sorted(set(groups)):
            members = sorted((s for s in range(len(logits)) if groups[s] == group), key=lambda s: -logits[s])
            for entry in members[: k // len(set(groups))]:
                weights[entry] = 1 / k
        weights[own] = 1.0
        total -= sum(weight * (logit - log_mass) for weight, logit in zip(weights, logits))
    return total / len(features)


@pytest.mark.parametrize("epoch", [0, 3, 5, 20])
@pytest.mark.parametrize("chunk_size", [5, 64, 1000])
def test_equals_the_authors_loss_and_gradient(golden, epoch, chunk_size):
    numbers = golden("invariance")
    memory = ExemplarMemory(*numbers["memory"].shape, torch.float64)
    memory.features.copy_(torch.tensor(numbers["memory"]))
    features = torch.tensor(numbers["inputs"], requires_grad=True)
    criterion = InvarianceLoss(memory, float(numbers["beta"]), int(numbers["knn"]), chunk_size)
    loss = criterion(features, torch.tensor(numbers["indices"]), neighbours=epoch > 4)
    loss.backward()
    assert loss.item() == pytest.approx(numbers[f"loss_e{epoch}"].item(), abs=1e-9)
    np.testing.assert_allclose(features.grad, numbers[f"grad_e{epoch}"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", [1, 4, 6])
def test_equals_the_formula_written_as_loops(k):
    memory, features, indices = problem(seed=k)
    expected = loop(memory.features, features, indices, 0.1, [0] * 30, k)
    # 1/k is a float32 number, as in the authors' code.
    assert InvarianceLoss(memory, 0.1, k)(features, indices).item() == pytest.approx(expected, rel=1e-6)


def test_each_group_gives_the_same_number_of_neighbours():
    memory, features, indices = problem()
    groups = torch.tensor([entry % 3 == 0 for entry in range(30)]).long()
    for chunk_size in (4, 100):
        criterion = InvarianceLoss(memory, 0.1, 6, chunk_size, groups)
        expected = loop(memory.features, features, indices, 0.1, groups.tolist(), 6)
        assert criterion(features, indices).item() == pytest.approx(expected, rel=1e-6)
        assert (groups[criterion.nearest(features)].sum(dim=1) == 3).all()


def test_without_neighbours_it_is_cross_entropy_over_the_entries():
    memory, features, indices = problem()
    expected = F.cross_entropy(features @ memory.features.T / 0.05, indices)
    for criterion, neighbours in ((InvarianceLoss(memory, num_neighbours=0), True), (InvarianceLoss(memory), False)):
        torch.testing.assert_close(criterion(features, indices, neighbours), expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("num_samples", [384, 385, 447, 448, 449, 1000])
@pytest.mark.parametrize("chunk_size", [390, 500, 10**6])
def test_neighbours_in_many_entries_are_the_nearest(num_samples, chunk_size):
    memory, features, _ = problem(num_samples)
    found = InvarianceLoss(memory, 0.1, 6, chunk_size).nearest(features)
    assert torch.equal(found, (features @ memory.features.T).topk(6).indices)


@pytest.mark.parametrize("chunk_size", [1, 7, 29, 30])
def test_chunks_change_no_number(chunk_size):
    memory, features, indices = problem()
    results = []
    for size in (chunk_size, 10**6):
        given = features.clone().requires_grad_()
        loss = InvarianceLoss(memory, 0.05, 6, size)(given, indices)
        (gradient,) = torch.autograd.grad(loss, given)
        results.append((loss, gradient))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-14)


def test_logits_far_apart_neither_overflow_nor_vanish():
    memory, features, indices = problem()
    expected = F.cross_entropy(features @ memory.features.T / 1e-4, indices)
    loss = InvarianceLoss(memory, 1e-4, 0, chunk_size=4)(features, indices)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("neighbours", [False, True])
def test_the_gradient_is_that_of_finite_differences(neighbours):
    memory, features, indices = problem()
    criterion = InvarianceLoss(memory, 0.5, 4, chunk_size=8)
    assert torch.autograd.gradcheck(
        lambda x: criterion(x, indices, neighbours), features.requires_grad_(), eps=1e-6, atol=1e-7
    )


@pytest.mark.parametrize("step, weight", [(2, 0.25), (8, 1.0)])
def test_a_chosen_entry_weighs_one_over_the_number_chosen(step, weight):
    class Every:
        num_candidates = 8

        def positives(self, anchors, candidates):
            assert candidates.shape == (5, 8, 6) and anchors.shape == (5, 6)
            return (torch.arange(8) % step == 0).expand(5, 8)

    memory, features, indices = problem()
    logits = features @ memory.features.T / 0.1
    weights = torch.zeros_like(logits)
    weights.scatter_(1, logits.topk(8).indices[:, ::step], weight)
    weights.scatter_(1, indices[:, None], 1.0)
    expected = -(weights * logits.log_softmax(1)).sum(1).mean()
    loss = InvarianceLoss(memory, 0.1, positive_prediction=Every())(features, indices)
    torch.testing.assert_close(loss, expected)


def test_where_no_entry_is_chosen_exemplar_invariance_is_left():
    class NoPositive:
        num_candidates = 8

        def positives(self, anchors, candidates):
            return torch.zeros(candidates.shape[:2], dtype=torch.bool)

    memory, features, indices = problem()
    expected = F.cross_entropy(features @ memory.features.T / 0.1, indices)
    torch.testing.assert_close(InvarianceLoss(memory, 0.1, positive_prediction=NoPositive())(features, indices), expected)


def test_identical_entries_and_features_give_the_known_value():
    memory = ExemplarMemory(10, 4, torch.float64)
    memory.initialize(torch.ones(10, 4))
    feature = F.normalize(torch.ones(1, 4, dtype=torch.float64))
    # Every probability is 1/10; the weights sum up to 1 without neighbours.
    assert InvarianceLoss(memory, num_neighbours=0)(feature, torch.tensor([3])).item() == pytest.approx(math.log(10))


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_half_precision_entries_give_nearly_the_same(dtype, tolerance):
    memory, features, indices = problem(200, 64, 16, torch.float32)
    half = ExemplarMemory(200, 64, dtype)
    half.features.copy_(memory.features)
    losses = []
    for entries in (memory, half):
        given = features.float().requires_grad_()
        loss = InvarianceLoss(entries, 0.05, 6, 64)(given, indices)
        loss.backward()
        losses.append((loss.item(), F.normalize(given.grad)))
    assert losses[1][0] == pytest.approx(losses[0][0], rel=tolerance)
    assert (losses[0][1] * losses[1][1]).sum(1).min() > 0.99


def test_sums_in_float16_do_not_overflow(monkeypatch):
    # As on a GPU, whatever chunk is asked for: 200,000 equal entries, each with exp(0) in the sum.
    monkeypatch.setattr(memory_walk, "_compute_dtype", lambda _, entries: entries.dtype)
    memory = ExemplarMemory(200_000, 4, torch.float16)
    memory.initialize(torch.ones(200_000, 4))
    features = F.normalize(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).requires_grad_()
    loss = InvarianceLoss(memory, num_neighbours=0, chunk_size=10**6)(features, torch.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(200_000), rel=1e-3)
    assert features.grad.abs().max() < 0.05


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("grouped", [False, True, "one group of 4 entries"])
def test_products_in_bfloat16_are_put_right_where_it_counts(monkeypatch, seed, grouped):
    """Rounded to 8 bits, the logits would move the loss by 1e-3 and more, and choose other neighbours in some rows."""
    generator = torch.Generator().manual_seed(seed)
    people = torch.randn(50, 32, generator=generator).repeat_interleave(8, 0)
    memory = ExemplarMemory(400, 32, torch.bfloat16)
    memory.initialize(people + 0.7 * torch.randn(400, 32, generator=generator))
    indices = torch.randint(400, (32,), generator=generator)
    features = F.normalize(memory.features[indices].float() + 0.1 * torch.randn(32, 32, generator=generator))
    # Fewer entries than are looked at again in full precision.
    groups = (torch.arange(400) < 4 if isinstance(grouped, str) else torch.arange(400) % 2 == 0).long()
    criterion = InvarianceLoss(memory, 0.05, 6, 128, groups if grouped else None)
    found = []
    for half_precision in (False, True):
        # Emulated where the hardware has none.
        monkeypatch.setattr(memory_walk, "computes_bfloat16", lambda _, half=half_precision: half)
        given = features.clone().requires_grad_()
        loss = criterion(given, indices)
        loss.backward()
        found.append((loss.item(), given.grad, criterion.nearest(features).sort(dim=1).values))
    (exact, gradient, nearest), (rounded, changed, chosen) = found
    assert rounded != exact and rounded == pytest.approx(exact, rel=1e-5)
    assert torch.equal(chosen, nearest)
    # What is left is the rounding of the second product.
    assert ((changed - gradient).norm(dim=1) / gradient.norm(dim=1)).max() < 0.04


def test_under_autocast_it_computes_in_full_precision():
    memory, features, indices = problem(dtype=torch.float32)
    criterion = InvarianceLoss(memory)
    expected = criterion(features.float(), indices)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(criterion(features.float(), indices), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_features_in_half_precision_are_read_as_float32(dtype):
    memory, features, indices = problem(dtype=torch.float32)
    features = features.to(dtype)
    loss = InvarianceLoss(memory)(features, indices)
    assert loss.dtype == torch.float32 and torch.equal(loss, InvarianceLoss(memory)(features.float(), indices))


def test_the_memory_is_no_part_of_the_loss_state():
    memory, *_ = problem()
    assert not InvarianceLoss(memory).state_dict() and not list(InvarianceLoss(memory).parameters())


class AllPositive:
    """Takes every candidate, and keeps how many there were."""

    def __init__(self, num_candidates):
        self.num_candidates, self.seen = num_candidates, 0

    def positives(self, anchors, candidates):
        self.seen = candidates.shape[1]
        return torch.ones(candidates.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("num_candidates, looked_at", [(100, 10), (12, 10), (7, 6), (2, 2)])
def test_candidates_are_at_most_the_smallest_groups_and_of_the_own_group(num_candidates, looked_at):
    memory, features, indices = problem()
    groups = (torch.arange(30) >= 25).long()
    predictor = AllPositive(num_candidates)
    criterion = InvarianceLoss(memory, 0.1, 6, groups=groups, positive_prediction=predictor)
    criterion(features, indices)
    assert predictor.seen == looked_at
    nearest, _ = criterion.neighbours(features)
    assert all(len(set(row)) == looked_at for row in nearest.tolist())
    assert (groups[nearest].sum(dim=1) == looked_at // 2).all()


@pytest.mark.parametrize("k", [30, 12, 5, -2])
def test_entries_that_a_group_does_not_have_are_refused(k):
    memory, features, _ = problem()
    criterion = InvarianceLoss(memory, 0.1, 6, groups=(torch.arange(30) >= 25).long())
    with pytest.raises(InputError, match=f"k is {k}, expected a multiple of 2 .* from 0 to 10"):
        criterion.nearest(features, k)
    with pytest.raises(InputError, match="from 0 to 30"):
        InvarianceLoss(memory).nearest(features, 31)


@pytest.mark.parametrize("arguments, said", [
    ({"temperature": 0.0}, "temperature"), ({"chunk_size": 0}, "chunk_size"),
    ({"num_neighbours": 31}, "ecn.num_neighbours.* is 31, expected 0 to 30"),
    ({"groups": torch.zeros(29, dtype=torch.int64)}, "one group per entry"),
    ({"groups": torch.arange(30) % 4}, "multiple of 4"),
    ({"groups": (torch.arange(30) == 0).long()}, "has 1 entries, expected at least 3"),
    ({"groups": torch.arange(30) % 3, "positive_prediction": AllPositive(2)}, "ecn.num_candidates.* is 2, expected at least 3"),
])
def test_impossible_settings_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        InvarianceLoss(problem()[0], **arguments)


def test_a_batch_that_does_not_fit_is_refused():
    memory, features, indices = problem()
    with pytest.raises(InputError, match="outside the exemplar memory"):
        InvarianceLoss(memory)(features, indices + 30)
    with pytest.raises(InputError, match="expected \\(batch, 6\\)"):
        InvarianceLoss(memory)(features[:, :5], indices)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_a_gpu_it_agrees_with_the_cpu(dtype):
    memory, features, indices = problem(500, 64, 16, torch.float32)
    loss = InvarianceLoss(memory)(features.float(), indices)
    on_gpu = ExemplarMemory(500, 64, dtype, "cuda")
    on_gpu.features.copy_(memory.features)
    found = InvarianceLoss(on_gpu).cuda()(features.float().cuda(), indices)
    assert found.item() == pytest.approx(loss.item(), rel=1e-4 if dtype == torch.float32 else 2e-2)
    on_gpu.update(features.cuda(), indices, 0.3)
    memory.update(features, indices, 0.3)
    torch.testing.assert_close(on_gpu.features.float().cpu(), memory.features, rtol=0, atol=1e-2)
