"""The mixed block of CDNet's search: the authors' numbers, the formula, what is computed and what moves."""
from __future__ import annotations

import copy

import pytest
import torch
from recipe import recipe_state
from supernets import maps, randomise
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import BLOCK_SLOTS, CANDIDATES, COMBINED_DEPTH_SPACE
from torchreid_nas.models import cdnet
from torchreid_nas.models.cdnet_weights import authors_block_key
from torchreid_nas.search.bilevel import BilevelOptimizer
from torchreid_nas.search.depth_space import CombinedDepthSpace, MBlock
from torchreid_nas.search.relaxation import GumbelSample, Softmax, TopK

NAMES = CANDIDATES[COMBINED_DEPTH_SPACE]


def mblock(relaxation=None, candidates=NAMES, channels: int = 16) -> MBlock:
    torch.manual_seed(0)
    block = randomise(MBlock(channels, 16, candidates, relaxation)).double()
    with torch.no_grad():
        block.alpha.copy_(torch.randn(len(candidates), dtype=torch.float64))
    return block


def executed(block: MBlock) -> list[str]:
    """The candidates that passes through ``block`` execute, filled in by hooks."""
    seen: list[str] = []
    for name, op in block.ops.items():
        op.register_forward_hook(lambda *_, name=name: seen.append(name))
    return seen


def test_the_candidates_start_as_the_authors_networks():
    torch.manual_seed(0)
    model = CombinedDepthSpace().build_supernet(cdnet(4, width=0.5))
    layers = [*(model.backbone.get_submodule(slot) for slot in BLOCK_SLOTS), model.backbone.stage3.last]
    convolutions = [layer for part in layers for layer in part.modules() if isinstance(layer, nn.Conv2d)]
    # Kaiming normal; torch's own start has a sixth of the variance, and biases other than zero.
    fan_ins = [conv.weight[0].numel() for conv in convolutions]
    variance = torch.cat([(conv.weight.detach() * fan**0.5).flatten() for conv, fan in zip(convolutions, fan_ins)]).var()
    assert variance.item() == pytest.approx(2, rel=0.02)
    assert not any(conv.bias.any() for conv in convolutions if conv.bias is not None)


# -- MBlock: the authors' numbers ---------------------------------------------


def test_output_and_gradient_of_alpha_equal_the_authors(golden):
    numbers = golden("mblock_topk")
    block = MBlock(16, 32, NAMES, TopK(int(numbers["k"]))).eval()
    theirs = {}
    for key in block.state_dict():
        if key != "alpha":
            _, name, layer, rest = key.split(".", 3)
            theirs[key] = f"ops.{NAMES.index(name)}.ops.{layer}.{authors_block_key(rest)}"
    state = recipe_state("mblock_topk")
    assert set(theirs.values()) == set(state)
    block.load_state_dict({
        "alpha": torch.from_numpy(numbers["alpha"][0]), **{key: state[name] for key, name in theirs.items()},
    })
    y = block(torch.from_numpy(numbers["x"]))
    expected = torch.from_numpy(numbers["y"])
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    y.backward(torch.from_numpy(numbers["grad_out"]))
    expected = torch.from_numpy(numbers["grad_alpha"][0])
    torch.testing.assert_close(block.alpha.grad, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


# -- MBlock: the formula ------------------------------------------------------


@pytest.mark.parametrize("method", [TopK(2), TopK(3, 0.5), TopK(12), Softmax(2.0), GumbelSample(1.5)])
def test_value_and_gradients_are_those_of_the_full_formula(method):
    """Every candidate computed and masked, instead of left out; p from the definition."""
    block, x = mblock(method).eval(), maps(2, 16, 6, 3)
    block.noise = maps(12, seed=3) if isinstance(method, GumbelSample) else None
    logits = block.alpha if block.noise is None else block.alpha + block.noise
    p = torch.exp(logits / method.temperature) / torch.exp(logits / method.temperature).sum()
    if isinstance(method, Softmax):
        weights, hard = p, torch.ones(12)
    else:
        hard = torch.zeros(12, dtype=torch.float64)
        hard[torch.topk(logits, getattr(method, "k", 1)).indices] = 1
        weights = (hard - p).detach() + p
    naive = torch.zeros(2, 16, 6, 3, dtype=torch.float64)
    for index, name in enumerate(NAMES):
        naive = naive + (weights[index] * block.ops[name](x) if hard[index] else weights[index])
    upstream = maps(2, 16, 6, 3, seed=1)
    parameters = list(block.parameters())
    expected = torch.autograd.grad((naive * upstream).sum(), parameters, allow_unused=True)
    y = block(x)
    torch.testing.assert_close(y, naive, rtol=1e-12, atol=1e-12)
    found = torch.autograd.grad((y * upstream).sum(), parameters, allow_unused=True)
    for mine, theirs in zip(found, expected):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_selected_candidates_are_summed_with_weight_one():
    block, x = mblock(TopK(2)).eval(), maps(1, 16, 4, 4)
    first, second = (NAMES[index] for index in torch.topk(block.alpha, 2).indices)
    assert torch.equal(block(x), block.ops[first](x) + block.ops[second](x))


@pytest.mark.parametrize(("method", "number"), [
    (TopK(1), 1), (TopK(2), 2), (TopK(5), 5), (TopK(12), 12), (Softmax(), 12), (GumbelSample(), 1),
])
def test_only_the_selected_candidates_are_computed(method, number):
    block = mblock(method)
    seen = executed(block)
    block(maps(2, 16, 4, 4)).sum().backward()
    assert len(seen) == number
    assert set(seen) == {NAMES[index] for index in torch.topk(block.alpha, number).indices}
    for name, op in block.ops.items():
        assert all((parameter.grad is not None) == (name in seen) for parameter in op.parameters()), name
    assert block.alpha.grad.abs().min() > 0, "every logit learns from every pass"


def test_alpha_starts_tied_and_the_default_is_the_papers_top_2():
    block = MBlock(16, 16, NAMES)
    assert torch.equal(block.alpha, torch.full((12,), 1e-3)) and block.relaxation == TopK(2)
    assert block.choice() == "3,5x1" and block.candidates == NAMES


def test_an_mblock_refuses_what_it_cannot_hold():
    with pytest.raises(InputError, match='the candidate "3,5x3" is unknown, .* did you mean "3,5x[12]"'):
        MBlock(16, 16, ("3,5x1", "3,5x3"))
    with pytest.raises(InputError, match="k = 13 of 12 candidates"):
        MBlock(16, 16, NAMES, TopK(13))
    with pytest.raises(InputError, match="24 channels cannot be quartered twice"):
        MBlock(16, 24, NAMES)


# -- what moves ---------------------------------------------------------------


def test_candidates_that_were_not_selected_stay_despite_momentum_and_weight_decay():
    """First 3,7x1 alone is trained and gathers momentum, then 5,7x1 alone: 3,7x1 must stand still."""
    block = mblock(TopK(1))
    weights = [parameter for name, parameter in block.named_parameters() if name != "alpha"]
    bilevel = BilevelOptimizer(
        torch.optim.SGD(weights, 0.1, momentum=0.9, weight_decay=0.1), torch.optim.Adam([block.alpha]), grad_clip=5.0,
    )

    def moved(chosen: str) -> set[str]:
        with torch.no_grad():
            block.alpha.fill_(0.0)[NAMES.index(chosen)] = 1.0
        before = copy.deepcopy(block.state_dict())
        bilevel.step_weights(block(maps(2, 16, 4, 4)).square().mean())
        return {key.split(".")[1] for key, value in block.state_dict().items() if not torch.equal(value, before[key])}

    assert moved("3,7x1") == {"3,7x1"}
    assert moved("5,7x1") == {"5,7x1"}


def test_an_architecture_step_moves_every_alpha_and_no_weight():
    block = mblock(TopK(2)).eval()
    weights = [parameter for name, parameter in block.named_parameters() if name != "alpha"]
    bilevel = BilevelOptimizer(torch.optim.SGD(weights, 0.1), torch.optim.Adam([block.alpha], 3e-4))
    before = copy.deepcopy(block.state_dict())
    bilevel.step_architecture(lambda: block(maps(2, 16, 4, 4)).square().mean())
    changed = {key for key, value in block.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"alpha"} and (block.alpha != before["alpha"]).all()
