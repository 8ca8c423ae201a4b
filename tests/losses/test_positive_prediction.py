from __future__ import annotations

import math

import pytest
import torch
from scripts import benchmark_script
from torch.func import functional_call
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.losses.positive_prediction import GraphConvolution, PositivePrediction


@pytest.fixture(scope="module")
def planted():
    with benchmark_script("positive_prediction") as module:
        yield module


def build(dim=8, seed=0, dtype=torch.float64, **options):
    options = {"num_candidates": 12, "hidden": (6, 5), "projection": 4} | options
    torch.manual_seed(seed)
    return PositivePrediction(dim, **options).to(dtype)


def graphs(batch=5, count=7, dim=8, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    anchors = torch.randn(batch, dim, generator=generator, dtype=torch.float64)
    candidates = anchors[:, None] + torch.randn(batch, count, dim, generator=generator, dtype=torch.float64)
    positive = torch.rand(batch, count, generator=generator) < 0.3
    return F.normalize(anchors).to(dtype), F.normalize(candidates, dim=2).to(dtype), positive


def loop_convolution(x, adjacency, weight, bias):
    """ReLU([X ‖ ÂX] W + b), number by number; ``weight`` (out, 2 in) as a linear layer has it."""
    batch, count, width = x.shape
    result = torch.zeros(batch, count, len(weight), dtype=x.dtype)
    for b in range(batch):
        for i in range(count):
            node = [x[b, i, d].item() for d in range(width)]
            node += [sum(adjacency[b, i, j].item() * x[b, j, d].item() for j in range(count)) for d in range(width)]
            for out in range(len(weight)):
                value = bias[out].item() + sum(weight[out, d].item() * node[d] for d in range(2 * width))
                result[b, i, out] = max(0.0, value)
    return result


def loop_adjacency(candidates, temperature):
    """Row by row: softmax over the other candidates."""
    batch, count, _ = candidates.shape
    result = torch.zeros(batch, count, count, dtype=candidates.dtype)
    for b in range(batch):
        for i in range(count):
            weight = {
                j: math.exp(F.cosine_similarity(candidates[b, i], candidates[b, j], dim=0).item() / temperature)
                for j in range(count) if j != i
            }
            for j in weight:
                result[b, i, j] = weight[j] / sum(weight.values())
    return result


def test_a_graph_convolution_equals_the_loop_over_nodes():
    torch.manual_seed(1)
    layer = GraphConvolution(3, 4).double()
    torch.nn.init.normal_(layer.linear.bias)
    x, adjacency = torch.randn(2, 5, 3).double(), torch.rand(2, 5, 5).double()
    expected = loop_convolution(x, adjacency, layer.linear.weight, layer.linear.bias)
    assert (expected == 0).any() and (expected > 0).any()
    torch.testing.assert_close(layer(x, adjacency), expected, rtol=0, atol=1e-12)


def test_the_network_equals_its_formula():
    predictor = build()
    anchors, candidates, _ = graphs()
    difference = (candidates - anchors[:, None]) @ predictor.projection.weight.T * math.sqrt(8)
    x = torch.cat([difference, F.cosine_similarity(candidates, anchors[:, None], dim=2)[:, :, None]], dim=2)
    adjacency = loop_adjacency(candidates, 0.2)
    for layer in predictor.layers:
        x = loop_convolution(x, adjacency, layer.linear.weight, layer.linear.bias)
    first, slope, last = predictor.classifier
    hidden = x @ first.weight.T + first.bias
    hidden = torch.where(hidden > 0, hidden, slope.weight * hidden)
    expected = (hidden @ last.weight.T + last.bias)[:, :, 0]
    torch.testing.assert_close(predictor(anchors, candidates), expected, rtol=0, atol=1e-10)


def test_the_order_of_the_candidates_moves_their_logits_along():
    predictor = build()
    anchors, candidates, positive = graphs()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    logits = predictor(anchors, candidates)
    torch.testing.assert_close(predictor(anchors, candidates[:, order]), logits[:, order], rtol=0, atol=1e-12)
    loss = predictor.loss(anchors, candidates, positive)
    torch.testing.assert_close(predictor.loss(anchors, candidates[:, order], positive[:, order]), loss)


def test_an_anchor_knows_nothing_of_the_batch_the_chunks_or_the_mode():
    anchors, candidates, _ = graphs()
    predictor = build(chunk_size=2).train()
    logits = predictor(anchors, candidates)
    for row in range(len(anchors)):
        alone = build(chunk_size=32).eval()(anchors[row : row + 1], candidates[row : row + 1])
        torch.testing.assert_close(alone[0], logits[row], rtol=0, atol=1e-12)


def test_a_candidate_knows_the_others():
    predictor = build(seed=2)
    anchors, candidates, _ = graphs()
    other = candidates.clone()
    other[:, 1] = other[:, 1].flip(-1)
    assert (predictor(anchors, other)[:, 0] - predictor(anchors, candidates)[:, 0]).abs().max() > 1e-6


def test_lengths_of_the_features_do_not_matter():
    predictor = build()
    anchors, candidates, _ = graphs()
    logits = predictor(anchors, candidates)
    lengths = torch.rand(5, 7, 1).double() + 0.5
    torch.testing.assert_close(predictor(3 * anchors, lengths * candidates), logits, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_entries_give_what_their_widened_values_give(dtype):
    predictor = build(dtype=torch.float32)
    anchors, candidates, _ = graphs(dtype=torch.float32)
    logits = predictor(anchors, candidates.to(dtype))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, predictor(anchors, candidates.to(dtype).float()), rtol=0, atol=0)


def test_autocast_changes_nothing():
    predictor = build(dtype=torch.float32)
    anchors, candidates, _ = graphs(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = predictor(anchors, candidates)
    assert torch.equal(logits, predictor(anchors, candidates))


def test_the_loss_is_the_mean_cross_entropy_of_two_classes():
    predictor = build()
    anchors, candidates, positive = graphs()
    probability = predictor(anchors, candidates).sigmoid()
    terms = [
        -math.log(p if y else 1 - p)
        for p, y in zip(probability.flatten().tolist(), positive.flatten().tolist())
    ]
    assert predictor.loss(anchors, candidates, positive).item() == pytest.approx(sum(terms) / len(terms), abs=1e-12)


def test_gradients_of_the_parameters_equal_finite_differences():
    predictor = build(hidden=(3, 3), projection=3, chunk_size=2)
    anchors, candidates, positive = graphs(batch=3, count=4)
    names, values = zip(*predictor.named_parameters())

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.predictor = predictor

        def forward(self):
            return self.predictor.loss(anchors, candidates, positive)

    loss = Loss()
    values = tuple(value.detach().clone().requires_grad_() for value in values)
    names = ["predictor." + name for name in names]
    assert torch.autograd.gradcheck(lambda *new: functional_call(loss, dict(zip(names, new)), ()), values)


def test_no_gradient_flows_into_the_features_and_every_parameter_gets_one():
    predictor = build()
    anchors, candidates, positive = graphs()
    anchors.requires_grad_(), candidates.requires_grad_()
    predictor.loss(anchors, candidates, positive).backward()
    assert anchors.grad is None and candidates.grad is None
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in predictor.parameters())


def test_positives_are_those_above_the_threshold():
    anchors, candidates, _ = graphs()
    probability = build()(anchors, candidates).sigmoid()
    threshold = probability.detach().median().item()
    chosen = build(threshold=threshold).positives(anchors, candidates)
    assert chosen.dtype == torch.bool and not chosen.requires_grad
    assert torch.equal(chosen, probability > threshold)
    # The threshold itself is not above it.
    assert chosen.sum() == (probability.numel() - 1) // 2


def test_a_single_candidate_has_no_neighbours():
    predictor = build()
    anchors, candidates, positive = graphs(count=1)
    logits = predictor(anchors, candidates)
    assert logits.shape == (5, 1) and torch.isfinite(logits).all()
    assert torch.isfinite(predictor.loss(anchors, candidates, positive))


def test_entries_that_are_still_zero_give_finite_numbers():
    predictor = build()
    anchors, candidates, positive = graphs()
    loss = predictor.loss(anchors, torch.zeros_like(candidates), positive)
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(value.grad).all() for value in predictor.parameters())


def test_state_loads_into_another_of_the_same_sizes():
    anchors, candidates, _ = graphs()
    first, second = build(seed=0), build(seed=1)
    assert not torch.equal(first(anchors, candidates), second(anchors, candidates))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(anchors, candidates), second(anchors, candidates))


def test_on_new_identities_it_is_more_precise_than_the_nearest(planted):
    for seed in range(3):
        outcomes = planted.compare(seed, steps=120, alone=False)
        assert outcomes["graph"].at_recall > outcomes["k nearest, k = 6"].precision + 0.1, (seed, outcomes)
        assert outcomes["graph"].at_recall > outcomes["cosine"].at_recall + 0.07, (seed, outcomes)
        # What it is sure of on the source holds on the target.
        assert outcomes["graph"].precision > 0.8 and outcomes["graph"].recall > 0.2, (seed, outcomes)


def test_training_is_determined_by_its_seed(planted):
    first, again, other = (planted.compare(seed, steps=3, alone=False) for seed in (1, 1, 2))
    assert first == again and first != other


@pytest.mark.gpu
def test_a_gpu_gives_the_numbers_of_the_cpu():
    predictor = build()
    anchors, candidates, positive = graphs()
    expected = predictor.loss(anchors, candidates, positive).item()
    moved = [value.cuda() for value in (anchors, candidates, positive)]
    assert predictor.cuda().loss(*moved).item() == pytest.approx(expected, abs=1e-10)
    assert predictor.positives(*moved[:2]).is_cuda


@pytest.mark.parametrize(("options", "sentence"), [
    ({"dim": 0}, "dim is 0, expected a whole number of at least 1"),
    ({"num_candidates": 2.5}, "num_candidates is 2.5, expected a whole number"),
    ({"projection": True}, "projection is True, expected a whole number"),
    ({"chunk_size": 0}, "chunk_size is 0, expected a whole number"),
    ({"hidden": (4, -1)}, r"hidden\[1\] is -1, expected a whole number"),
    ({"hidden": ()}, "hidden is empty"),
    ({"threshold": 1.0}, "threshold is 1.0, expected between 0 and 1"),
    ({"threshold": math.nan}, "threshold is nan"),
    ({"temperature": 0}, "temperature is 0, expected above 0"),
])
def test_an_argument_out_of_range_is_named(options, sentence):
    with pytest.raises(InputError, match=sentence):
        build(**options)


@pytest.mark.parametrize(("anchors", "candidates", "sentence"), [
    ((5, 9), (5, 7, 9), r"anchors is \(5, 9\), expected \(batch, 8\)"),
    ((0, 8), (0, 7, 8), r"anchors is \(0, 8\), expected \(batch, 8\)"),
    ((5, 8), (4, 7, 8), r"candidates is \(4, 7, 8\), expected \(5, 1 to 12, 8\)"),
    ((5, 8), (5, 13, 8), r"candidates is \(5, 13, 8\), expected \(5, 1 to 12, 8\)"),
    ((5, 8), (5, 0, 8), r"candidates is \(5, 0, 8\), expected \(5, 1 to 12, 8\)"),
    ((5, 8), (5, 8), r"candidates is \(5, 8\), expected \(5, 1 to 12, 8\)"),
])
def test_shapes_that_do_not_fit_are_named(anchors, candidates, sentence):
    with pytest.raises(InputError, match=sentence):
        build().positives(torch.zeros(anchors).double(), torch.zeros(candidates).double())


@pytest.mark.parametrize("positive", [torch.zeros(5, 6, dtype=torch.bool), torch.zeros(5, 7)])
def test_labels_that_are_not_one_bool_per_candidate_are_refused(positive):
    anchors, candidates, _ = graphs()
    with pytest.raises(InputError, match=r"expected \(5, 7\) torch.bool, one per candidate"):
        build().loss(anchors, candidates, positive)
