"""CDNet's spaces: supernets, deriving, probabilities, budgets."""
from __future__ import annotations

import copy

import pytest
import torch
from supernets import maps, randomise
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from torchreid_nas.architecture import Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import BLOCK_SLOTS, CANDIDATES, COMBINED_DEPTH_SPACE
from torchreid_nas.layers import CDBlock
from torchreid_nas.models import CDNet, cdnet, two_stream_resnet18
from torchreid_nas.search.depth_space import CombinedDepthSpace, CombinedSpace, MBlock
from torchreid_nas.search.relaxation import GumbelSample, Softmax, TopK

NAMES = CANDIDATES[COMBINED_DEPTH_SPACE]
SPACES = {"combined_depth": CombinedDepthSpace, "combined": CombinedSpace}


def supernet(space: CombinedDepthSpace, neck: str = "fblneck", **options) -> CDNet:
    torch.manual_seed(0)
    model = space.build_supernet(cdnet(4, width=0.125, neck=neck, dropout=0.0, loss="triplet", **options))
    return randomise(model)


def choose(space: CombinedDepthSpace, model: CDNet, seed: int, size: float) -> Architecture:
    """Set α so that a random architecture is preferred, and return it."""
    generator = torch.Generator().manual_seed(seed)
    names = CANDIDATES[space.name]
    picks = torch.randint(len(names), (len(BLOCK_SLOTS),), generator=generator).tolist()
    with torch.no_grad():
        for alpha, pick in zip(space.architecture_parameters(model), picks):
            alpha.copy_(-size + 1e-3 * torch.rand(len(names), generator=generator))
            alpha[pick] = size
    return Architecture(space.name, tuple((slot, names[pick]) for slot, pick in zip(BLOCK_SLOTS, picks)))


# -- supernet -----------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
def test_six_blocks_are_mixed_with_the_candidates_of_the_space(name):
    space = SPACES[name](TopK(3))
    model = cdnet(4, width=0.125)
    stem = model.backbone.stem.conv.weight.clone()
    assert space.build_supernet(model) is model
    blocks = {slot: module for slot, module in model.named_modules() if isinstance(module, MBlock)}
    assert tuple(blocks) == tuple(f"backbone.{slot}" for slot in BLOCK_SLOTS)
    assert all(block.candidates == CANDIDATES[name] and block.relaxation == TopK(3) for block in blocks.values())
    assert [id(alpha) for alpha in space.architecture_parameters(model)] == [id(b.alpha) for b in blocks.values()]
    assert torch.equal(model.backbone.stem.conv.weight, stem)
    reduce = blocks["backbone.stage2.0"].ops[CANDIDATES[name][0]][0].reduce.conv
    assert (reduce.in_channels, reduce.out_channels) == (32, 12)


@pytest.mark.parametrize("last_conv", [True, False])
def test_the_last_convolution_ends_the_third_stage_when_it_is_on(last_conv):
    model = CombinedDepthSpace(last_conv=last_conv).build_supernet(cdnet(4, width=0.125))
    names = [name for name, _ in model.backbone.stage3.named_children()]
    assert names == (["0", "1", "last"] if last_conv else ["0", "1"])
    if last_conv:
        assert model.backbone.stage3.last.conv.weight.shape == (64, 64, 1, 1)


@pytest.mark.parametrize("training", [True, False])
def test_a_supernet_keeps_mode_and_dtype(training):
    model = CombinedDepthSpace().build_supernet(cdnet(4, width=0.125).double().train(training))
    assert {layer.training for layer in model.modules()} == {training}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


def test_networks_without_six_blocks_are_refused_and_left_alone():
    model = CombinedDepthSpace().build_supernet(cdnet(4, width=0.125))
    with pytest.raises(InputError, match="is a supernet already; build the supernet from a plain CDNet"):
        CombinedSpace().build_supernet(model)
    model = cdnet(4, width=0.125)
    model.backbone.stage2[1] = nn.Identity()
    keys = list(model.state_dict())
    with pytest.raises(InputError, match="has 5 combined depth blocks .*, expected the 6 of CDNet"):
        CombinedDepthSpace().build_supernet(model)
    assert list(model.state_dict()) == keys
    with pytest.raises(InputError, match="has 0 combined depth blocks .none., expected the 6"):
        CombinedDepthSpace().build_supernet(two_stream_resnet18(4, pretrained=False, width=0.125))


# -- deriving -----------------------------------------------------------------


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("method", [TopK(1), GumbelSample(), Softmax()])
@torch.no_grad()
def test_a_derived_network_equals_its_supernet_at_that_choice(name, method):
    space = SPACES[name](method)
    model = supernet(space).double()
    architecture = choose(space, model, seed=1, size=1e4)
    network = space.derive_network(model, keep_last=True)
    assert space.derive(model, {"seed": 1}) == architecture == network.architecture
    assert not any(isinstance(layer, MBlock) for layer in network.modules())
    images = maps(2, 3, 64, 32)
    assert torch.equal(network.eval()(images), model.eval()(images))
    for ours, theirs in zip(network.train()(images), model.train()(images)):
        assert all(torch.equal(mine, its) for mine, its in zip(ours, theirs))
    slot, choice = architecture.choices[3]
    for key, value in network.backbone.get_submodule(slot).state_dict().items():
        assert torch.equal(value, model.backbone.get_submodule(slot).ops[choice].state_dict()[key]), key


@pytest.mark.parametrize("name", SPACES)
@torch.no_grad()
def test_without_the_last_convolution_a_derived_network_fits_a_model_built_from_its_architecture(name):
    space = SPACES[name]()
    model = supernet(space)
    architecture = choose(space, model, seed=2, size=1.0)
    network = space.derive_network(model).eval()
    built = cdnet(4, width=0.125, architecture=architecture).eval()
    built.load_state_dict(network.state_dict())
    images = maps(1, 3, 64, 32).float()
    assert torch.equal(built(images), network(images))
    kept = space.derive_network(model, keep_last=True).eval()
    last = kept.backbone.stage3.last
    assert torch.equal(last(network.backbone(images)), kept.backbone(images))


@torch.no_grad()
def test_a_derived_network_leaves_the_supernet_alone_and_keeps_its_mode():
    space = CombinedDepthSpace()
    model = supernet(space).eval()
    before = copy.deepcopy(model.state_dict())
    network = space.derive_network(model)
    assert not any(layer.training for layer in network.modules())
    for parameter in network.parameters():
        parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert len(model.backbone.stage1[0].ops) == 12 and hasattr(model.backbone.stage3, "last")


def test_the_larger_logit_decides_and_a_tie_goes_to_the_first():
    space = CombinedDepthSpace()
    model = supernet(space)
    with torch.no_grad():
        space.architecture_parameters(model)[2][7] += 1e-3
    found = space.derive(model, {"epoch": 3})
    assert dict(found.choices) == {slot: "5,9x1" if slot == "stage2.0" else "3,5x1" for slot in BLOCK_SLOTS}
    assert found.space == "combined_depth" and found.source == {"epoch": 3}
    assert Architecture.genotype(found) == found


# -- probabilities, temperature, noise ----------------------------------------


def test_probabilities_are_the_softmax_at_the_temperature():
    space = CombinedSpace()
    model = supernet(space)
    with torch.no_grad():
        space.architecture_parameters(model)[1].copy_(torch.tensor([0.0, 3.0, 0, 0, 0, 0]))
    even, rows = {name: pytest.approx(1 / 6) for name in CANDIDATES["combined"]}, space.probabilities(model)
    assert list(rows) == list(BLOCK_SLOTS) and rows["stage1.0"] == even
    e = 2.718281828459045
    assert rows["stage1.1"]["3,7"] == pytest.approx(e**3 / (e**3 + 5))
    space.anneal(model, 1.5)
    assert space.probabilities(model)["stage1.1"]["3,7"] == pytest.approx(e**2 / (e**2 + 5))
    relaxations = {block.relaxation for block in model.modules() if isinstance(block, MBlock)}
    assert relaxations == {TopK(2, temperature=1.5)}
    assert space.relaxation == TopK(2), "annealing concerns the model, not the space"


def test_jitter_is_reproducible_differs_by_block_and_is_turned_off():
    space = CombinedDepthSpace()
    model = supernet(space)
    blocks = [block for block in model.modules() if isinstance(block, MBlock)]

    def selections(generator: torch.Generator | None) -> list[tuple[int, ...]]:
        space.sample(model, generator)
        return [tuple(block.relaxation(block.alpha, block.noise)[1]) for block in blocks]

    first = selections(torch.Generator().manual_seed(5))
    assert len(set(first)) > 3
    assert first == selections(torch.Generator().manual_seed(5)) != selections(torch.Generator().manual_seed(6))
    assert selections(None) == [(0, 1)] * 6
    assert space.derive(model).choices == tuple((slot, "3,5x1") for slot in BLOCK_SLOTS)


# -- budget -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["macs", "parameters"])
@pytest.mark.parametrize("name", SPACES)
def test_the_table_counts_what_a_direct_count_of_the_derived_network_counts(name, kind):
    space = SPACES[name]()
    model = supernet(space)
    space.set_budget(model, kind, 1e12, input_size=(64, 32))
    for seed in range(3):
        architecture = choose(space, model, seed, size=1.0)
        network = cdnet(4, width=0.125, architecture=architecture).eval()
        assert space.budget.of(dict(architecture.choices)) == direct_count(network, kind)


def direct_count(network: CDNet, kind: str) -> int:
    """Multiply-adds by torch's own counter; parameters of what inference keeps."""
    if kind == "parameters":
        return sum(p.numel() for part in (network.backbone, network.neck.squeeze) for p in part.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 64, 32))
    return counter.get_total_flops() // 2


def test_the_published_network_costs_what_the_paper_says():
    space, published = CombinedDepthSpace(), Architecture.genotype("cdnet")
    model = space.build_supernet(cdnet(4))
    with torch.no_grad():
        for alpha, (_, choice) in zip(space.architecture_parameters(model), published.choices):
            alpha[NAMES.index(choice)] += 1
    assert space.set_budget(model, "parameters", 2e6).of(dict(published.choices)) == 1_796_600
    macs = space.set_budget(model, "macs", 1e9).of(dict(published.choices))
    assert round(macs / 1e6, 1) == 955.1


def test_a_latency_table_is_measured_for_every_candidate():
    space = CombinedSpace()
    model = supernet(space)
    state = copy.deepcopy(model.state_dict())
    budget = space.set_budget(model, "latency", 1e6, input_size=(32, 32), repeats=2)
    assert budget.kind == "latency" and list(budget.table) == list(BLOCK_SLOTS)
    assert all(0 < value < 1e4 for row in budget.table.values() for value in row.values()) and budget.fixed >= 0
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(layer.training for layer in model.modules())


def test_the_term_is_a_hinge_on_the_expected_cost_and_pulls_towards_cheap_candidates():
    space = CombinedDepthSpace()
    model = supernet(space)
    space.set_budget(model, "macs", 1e12, input_size=(64, 32))
    mean = space.budget.fixed + sum(sum(row.values()) / 12 for row in space.budget.table.values())
    assert space.cost(model).item() == 0
    space.set_budget(model, "macs", mean / 1.25, weight=3.0, input_size=(64, 32))
    cost = space.cost(model)
    assert cost.item() == pytest.approx(3 * 0.25, rel=1e-4)
    cost.backward()
    cheap, dear = NAMES.index("3,5x1"), NAMES.index("7,9x2")
    for alpha in space.architecture_parameters(model):
        assert alpha.grad.argmax() == dear and alpha.grad.argmin() == cheap and alpha.grad[cheap] < 0


def test_the_terms_gradient_is_that_of_its_formula():
    space = CombinedSpace()
    model = supernet(space).double()
    choose(space, model, seed=0, size=0.3)
    space.set_budget(model, "parameters", space.set_budget(model, "parameters", 1e9).of(
        dict.fromkeys(BLOCK_SLOTS, "3,5")), input_size=(32, 32))
    alphas = space.architecture_parameters(model)
    space.cost(model).backward()
    for alpha in alphas:
        for index in range(6):
            values = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    alpha[index] += step
                    values.append(space.cost(model).item())
                    alpha[index] -= step
            assert alpha.grad[index].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(("options", "message"), [
    (("mac", 1e9), 'the cost "mac" is unknown, expected one of macs, parameters, latency; did you mean "macs"'),
    (("macs", 0), "has the target 0 and the weight 1.0, expected both above 0"),
    (("macs", 1e9, -1.0), "the weight -1.0, expected both above 0"),
    (("parameters", 10), "the budget of 10 parameters is below the cheapest architecture's .*; raise it"),
    (("macs", 1e9, 1.0, (8, 8)), "images of 8x8 are too small"),
])
def test_budgets_that_cannot_be_are_refused(options, message):
    space = CombinedSpace()
    with pytest.raises(InputError, match=message):
        space.set_budget(supernet(space), *options)
    assert space.budget is None


def test_a_cost_without_a_budget_is_refused():
    space = CombinedSpace()
    with pytest.raises(InputError, match="no budget is set; call set_budget first"):
        space.cost(supernet(space))


def test_relaxations_are_values_so_a_copied_supernet_anneals_alone():
    space = CombinedSpace()
    model = supernet(space)
    twin = copy.deepcopy(model)
    space.anneal(twin, 3.0)
    assert model.backbone.stage1[0].relaxation == TopK() != twin.backbone.stage1[0].relaxation
    assert isinstance(space.derive_network(twin).backbone.stage1[0], CDBlock)
