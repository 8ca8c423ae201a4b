"""The relaxations: their weights by the formula, their gradients by autograd of it, their selections."""
from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.search.relaxation import GumbelSample, Softmax, TopK, relaxation

ALPHA = torch.tensor([0.3, -1.2, 0.9, 0.25, 0.0], dtype=torch.float64)


def softmax(logits: torch.Tensor) -> list[float]:
    """From the definition, number by number."""
    powers = [2.718281828459045 ** value for value in logits.tolist()]
    return [power / sum(powers) for power in powers]


def gradient(method, values: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
    """Of Σ v_i w_i with respect to α."""
    alpha = ALPHA.clone().requires_grad_()
    weights, _ = method(alpha, noise)
    return torch.autograd.grad((weights * values).sum(), alpha)[0]


# -- values -------------------------------------------------------------------


@pytest.mark.parametrize(("k", "expected"), [(1, [2]), (2, [2, 0]), (3, [2, 0, 3]), (5, [2, 0, 3, 4, 1])])
def test_top_k_computes_the_largest_with_weight_one_and_the_others_weigh_nothing(k, expected):
    weights, computed = TopK(k)(ALPHA)
    assert computed == expected
    assert weights.tolist() == [1.0 if index in expected else 0.0 for index in range(5)]


def test_weights_are_exactly_hard_in_float32_whatever_the_probability():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        weights, computed = TopK(2)(4 * torch.randn(12, generator=generator))
        assert weights[computed].tolist() == [1, 1] and weights.sum() == 2


def test_softmax_weighs_all_candidates_by_their_probabilities():
    weights, computed = Softmax(temperature=0.5)(ALPHA)
    assert computed == [0, 1, 2, 3, 4] and weights.tolist() == pytest.approx(softmax(ALPHA / 0.5))


def test_gumbel_computes_one_candidate_the_likeliest_after_noise():
    noise = torch.tensor([0.0, 5.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    weights, computed = GumbelSample(temperature=3.0)(ALPHA, noise)
    assert computed == [1] and weights.tolist() == [0, 1, 0, 0, 0]
    assert GumbelSample()(ALPHA)[1] == [2]


# -- gradients ----------------------------------------------------------------


@pytest.mark.parametrize(("method", "noise"), [
    (TopK(2), None), (TopK(2, temperature=2.5), None), (TopK(3, tie_jitter=0.0), torch.tensor([0.0, 9, 9, 0, 0])),
    (Softmax(0.7), None), (GumbelSample(1.7), torch.tensor([0.1, 2.0, -0.4, 0.3, 0.0])),
])
def test_the_gradient_is_that_of_the_softmax_which_jitter_does_not_enter_and_gumbel_noise_does(method, noise):
    """dp_i/dα_j = p_i (δ_ij − p_j) / τ, written out."""
    values = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.0], dtype=torch.float64)
    noise = noise if noise is None else noise.double()
    shift = noise if isinstance(method, GumbelSample) else 0
    p = softmax((ALPHA + shift) / method.temperature)
    mean = sum(v * q for v, q in zip(values.tolist(), p))
    expected = [q * (v - mean) / method.temperature for v, q in zip(values.tolist(), p)]
    assert gradient(method, values, noise).tolist() == pytest.approx(expected, rel=1e-9)


def test_the_softmax_mixture_passes_gradcheck():
    alpha = ALPHA.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: Softmax(0.7)(a)[0], alpha)


# -- ties and noise -----------------------------------------------------------


def test_without_jitter_ties_go_to_the_first_in_order():
    tied = torch.full((12,), 1e-3)
    assert TopK(3)(tied)[1] == [0, 1, 2] and GumbelSample()(tied)[1] == [0]


def test_jitter_breaks_ties_evenly_by_its_seed_and_never_overrules_a_difference():
    tied, method = torch.full((12,), 1e-3), TopK(2)

    def picks(seed: int) -> list[tuple[int, ...]]:
        generator = torch.Generator().manual_seed(seed)
        return [tuple(method(tied, method.draw(12, generator))[1]) for _ in range(600)]

    first = picks(0)
    assert first == picks(0) != picks(1)
    counts = Counter(index for pair in first for index in pair)
    assert len(counts) == 12 and min(counts.values()) > 60 and max(counts.values()) < 140  # 100 expected
    # The smallest step that Adam at the paper's rate takes is 3e-4.
    apart, generator = tied.clone(), torch.Generator().manual_seed(0)
    apart[[4, 9]] += torch.tensor([3e-4, 1e-4])
    assert all(method(apart, method.draw(12, generator))[1] == [4, 9] for _ in range(100))


def test_jitter_never_enters_the_weights():
    noise = torch.tensor([0.0, 0.0, 0.0, 0.0, 9.0], dtype=torch.float64)
    values = torch.arange(5, dtype=torch.float64)
    assert TopK(1)(ALPHA, noise)[1] == [4]
    assert torch.equal(gradient(TopK(1), values, noise), gradient(TopK(1), values))


def test_gumbel_noise_picks_a_candidate_as_often_as_its_softmax_says():
    generator, method = torch.Generator().manual_seed(0), GumbelSample(temperature=5.0)
    counts = Counter(method(ALPHA, method.draw(5, generator))[1][0] for _ in range(4000))
    for index, p in enumerate(softmax(ALPHA)):
        assert counts[index] / 4000 == pytest.approx(p, abs=0.03)


def test_softmax_has_no_noise():
    assert Softmax().draw(5, torch.Generator()) is None


# -- by name, and refused -----------------------------------------------------


def test_relaxations_come_by_name_with_their_options():
    assert relaxation("topk", k=3, tie_jitter=1e-5) == TopK(3, 1.0, 1e-5)
    assert relaxation("softmax") == Softmax(1.0) and relaxation("gumbel", temperature=4.0) == GumbelSample(4.0)
    assert dataclasses.replace(TopK(3), temperature=2.0) == TopK(3, 2.0)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: relaxation("top-k"), 'the relaxation "top-k" is unknown, .* did you mean "topk"'),
    (lambda: relaxation("softmax", k=2), 'the relaxation "softmax" has no option "k", it takes temperature'),
    (lambda: TopK(0), "computes at least one candidate per block, got k = 0"),
    (lambda: TopK(6)(ALPHA), "asks for k = 6 of 5 candidates; choose a smaller k"),
    (lambda: TopK(2, tie_jitter=-1.0), "jitter .* standard deviation, got -1.0"),
    (lambda: TopK(2, temperature=0), "must be above 0, got 0"),
    (lambda: Softmax(-1.0), "must be above 0, got -1.0"),
    (lambda: GumbelSample(float("nan")), "must be above 0, got nan"),
])
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
