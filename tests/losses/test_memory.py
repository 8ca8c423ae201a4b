"""ExemplarMemory: the authors' numbers, their loop with duplicates, storage, and refusal of bad batches."""
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.losses import ExemplarMemory


def filled(num_samples=12, dim=5, dtype=torch.float64, seed=0):
    memory = ExemplarMemory(num_samples, dim, dtype)
    memory.initialize(torch.randn(num_samples, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return memory


def loop(entries, features, indices, momentum):
    """The authors' update, image by image."""
    entries = entries.clone()
    for feature, index in zip(features, indices):
        entries[index] = momentum * entries[index] + (1 - momentum) * feature
        entries[index] /= entries[index].norm()
    return entries


@pytest.mark.parametrize("epoch", [0, 3, 5, 20])
def test_an_update_equals_the_authors(golden, epoch):
    numbers = golden("invariance")
    memory = ExemplarMemory(*numbers["memory"].shape, torch.float64)
    memory.features.copy_(torch.tensor(numbers["memory"]))
    memory.update(
        torch.tensor(numbers["inputs"]), torch.tensor(numbers["indices"]), momentum=float(numbers["alpha"]) * epoch
    )
    np.testing.assert_allclose(memory.features, numbers[f"memory_e{epoch}"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("indices", [[3, 1, 4], [2, 2], [5, 0, 5, 5, 0, 11], [7] * 6])
def test_duplicates_are_updated_once_per_occurrence_in_their_order(momentum, indices):
    memory = filled()
    features = torch.randn(len(indices), 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = loop(memory.features, features, indices, momentum)
    memory.update(features, torch.tensor(indices), momentum)
    torch.testing.assert_close(memory.features, expected, rtol=0, atol=1e-14)


def test_entries_stay_normalised_and_others_untouched():
    memory = filled()
    before = memory.features.clone()
    memory.update(torch.randn(3, 5), torch.tensor([1, 8, 1]), 0.4)
    torch.testing.assert_close(memory.features.norm(dim=1), torch.ones(12, dtype=torch.float64))
    others = [entry for entry in range(12) if entry not in (1, 8)]
    assert torch.equal(memory.features[others], before[others])
    assert not torch.equal(memory.features[[1, 8]], before[[1, 8]])


def test_it_starts_from_zeros_and_an_empty_entry_takes_the_feature():
    memory = ExemplarMemory(4, 3)
    assert not memory.features.any()
    feature = torch.tensor([[3.0, 0.0, 4.0]])
    memory.update(feature, torch.tensor([2]), 0.0)
    torch.testing.assert_close(memory.features[2], F.normalize(feature)[0])


@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
def test_half_precision_stores_what_single_precision_computes(dtype, tolerance):
    features = F.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(0)))
    indices = torch.tensor([0, 3, 3, 1, 0, 5])
    half, single = ExemplarMemory(8, 32, dtype), ExemplarMemory(8, 32)
    for momentum in (0.0, 0.3, 0.5):
        half.update(features, indices, momentum)
        single.update(features, indices, momentum)
    assert half.features.dtype == dtype
    torch.testing.assert_close(half.features.float(), single.features, rtol=0, atol=tolerance)


def test_it_is_saved_and_restored(tmp_path):
    memory, other = filled(), ExemplarMemory(12, 5, torch.float64)
    torch.save(memory.state_dict(), tmp_path / "memory.pth")
    other.load_state_dict(torch.load(tmp_path / "memory.pth", weights_only=True))
    assert torch.equal(memory.features, other.features)


def test_it_keeps_no_graph_of_what_it_was_given():
    memory = filled()
    memory.update(torch.randn(2, 5, requires_grad=True), torch.tensor([0, 1]), 0.1)
    assert not memory.features.requires_grad and memory.features.grad_fn is None


@pytest.mark.parametrize("features, indices, momentum, said", [
    (torch.randn(2, 5), torch.tensor([0, 12]), 0.1, "index 12 is outside"),
    (torch.randn(2, 5), torch.tensor([-1, 0]), 0.1, "index -1 is outside"),
    (torch.randn(2, 4), torch.tensor([0, 1]), 0.1, "expected (batch, 5)"),
    (torch.randn(2, 5), torch.tensor([0]), 0.1, "one entry of the exemplar memory per feature"),
    (torch.randn(2, 5), torch.tensor([0.0, 1.0]), 0.1, "int64"),
    (torch.tensor([[1.0, 2, 3, 4, 5], [1, 2, float("nan"), 4, 5]]), torch.tensor([0, 1]), 0.1, "not finite"),
    (torch.full((1, 5), float("inf")), torch.tensor([0]), 0.1, "not finite"),
    (torch.randn(1, 5), torch.tensor([0]), 1.0, "below 1"),
])
def test_a_bad_batch_is_refused_before_anything_is_written(features, indices, momentum, said):
    memory = filled()
    before = memory.features.clone()
    with pytest.raises(InputError) as error:
        memory.update(features, indices, momentum)
    assert said in str(error.value)
    assert torch.equal(memory.features, before)


def test_a_start_that_does_not_fit_is_refused():
    memory = filled()
    for features, said in ((torch.randn(11, 5), "(12, 5)"), (torch.full((12, 5), float("nan")), "not finite")):
        before = memory.features.clone()
        with pytest.raises(InputError) as error:
            memory.initialize(features)
        assert said in str(error.value) and torch.equal(memory.features, before)


@pytest.mark.parametrize("arguments, said", [
    ((0, 5), "num_samples"), ((5, 2.5), "dim"), ((5, 5, torch.int8), "cannot store"),
])
def test_an_impossible_memory_is_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        ExemplarMemory(*arguments)


def test_without_waiting_a_bad_batch_changes_nothing_and_is_refused_later(monkeypatch):
    monkeypatch.setattr(ExemplarMemory, "_waits_for_nothing", True)
    memory, features, indices = filled(), torch.randn(3, 5), torch.tensor([4, 4, 0])
    expected = filled()
    before = memory.features.clone()
    bad = features.clone()
    bad[1, 2] = float("nan")
    memory.update(bad, indices, 0.3)
    assert torch.equal(memory.features, before)
    memory.update(features, indices, 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(ExemplarMemory, "_waits_for_nothing", False)
        expected.update(features, indices, 0.3)
    assert torch.equal(memory.features, expected.features)
    with pytest.raises(InputError, match="not finite"):
        memory.refuse_skipped()
    # Said once; nothing has been skipped since.
    memory.refuse_skipped()


@pytest.mark.gpu
def test_on_a_gpu_a_bad_batch_leaves_the_memory_and_is_refused_later():
    memory = ExemplarMemory(6, 5, device="cuda")
    memory.update(torch.full((2, 5), float("nan"), device="cuda"), torch.tensor([0, 1]), 0.1)
    assert not memory.features.any()
    with pytest.raises(InputError, match="not finite"):
        memory.refuse_skipped()
