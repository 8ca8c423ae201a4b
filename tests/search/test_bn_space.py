"""BNSplitSpace: the supernet, its architecture parameters, and what is derived from it."""
from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.layers import MixedBatchNorm2d, SplitBatchNorm2d, bn_slots
from torchreid_nas.models import TwoStreamNetwork, two_stream_resnet18
from torchreid_nas.search import BNSplitSpace

SPACE = BNSplitSpace()


def shared() -> TwoStreamNetwork:
    torch.manual_seed(0)
    return two_stream_resnet18(4, architecture="share", pretrained=False, width=0.25).double()


def supernet(seed: int = 1, space: BNSplitSpace = SPACE) -> TwoStreamNetwork:
    """A supernet whose BatchNorms have drifted apart, as after some epochs of search."""
    model = space.build_supernet(shared())
    torch.manual_seed(seed)
    with torch.no_grad():
        for layer in model.backbone.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.normal_(1, 0.2)
                layer.bias.normal_(0, 0.2)
                layer.running_mean.normal_(0, 0.2)
                layer.running_var.uniform_(0.5, 1.5)
    return model


def set_logits(model: TwoStreamNetwork, architecture: Architecture, size: float) -> None:
    with torch.no_grad():
        for logits, (_, choice) in zip(SPACE.architecture_parameters(model), architecture.choices):
            logits.copy_(torch.tensor([-size, size] if choice == SPLIT else [size, -size]))


def batch(seed: int = 0) -> torch.Tensor:
    x = torch.randn(8, 3, 48, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[4:] = 0.4 * x[4:] + 1
    return x


# -- building -----------------------------------------------------------------


def test_every_slot_is_mixed_and_the_neck_is_not():
    model = shared()
    slots = bn_slots(model.backbone)
    assert SPACE.build_supernet(model) is model
    assert bn_slots(model.backbone) == slots and len(slots) == 20
    assert all(isinstance(model.backbone.get_submodule(slot), MixedBatchNorm2d) for slot in slots)
    assert not any(isinstance(layer, MixedBatchNorm2d) for layer in model.bnneck.modules())


@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_a_fresh_supernet_evaluates_as_the_shared_network_and_keeps_its_mode(training):
    model = SPACE.build_supernet(shared().train(training))
    assert {layer.training for layer in model.modules()} == {training}
    torch.testing.assert_close(model.eval()(batch(), "infrared"), shared().eval()(batch(), "infrared"))


def test_a_network_that_is_split_or_has_no_batchnorm_is_refused():
    model = two_stream_resnet18(4, architecture="last-1", pretrained=False, width=0.25)
    keys = list(model.state_dict())
    with pytest.raises(InputError, match='slot "layer4.1.bn2" is split already; build the supernet from a backbone'):
        SPACE.build_supernet(model)
    assert list(model.state_dict()) == keys, "refused, so nothing may have been replaced"
    with pytest.raises(InputError, match="Conv2d has no norm to search over"):
        SPACE.build_supernet(TwoStreamNetwork(nn.Conv2d(3, 2, 1), 2, 4))


# -- parameters ---------------------------------------------------------------


def test_there_are_two_logits_per_slot_in_definition_order_all_even_at_the_start():
    model = SPACE.build_supernet(shared())
    alphas = SPACE.architecture_parameters(model)
    assert len(alphas) == 20 and all(alpha.shape == (2,) and not alpha.any() for alpha in alphas)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    expected = [f"backbone.{slot}.logits" for slot in bn_slots(model.backbone)]
    assert [names[id(alpha)] for alpha in alphas] == expected


def test_architecture_and_weights_are_a_partition_of_the_parameters():
    model = SPACE.build_supernet(shared())
    alphas = {id(alpha) for alpha in SPACE.architecture_parameters(model)}
    weights = [name for name, parameter in model.named_parameters() if id(parameter) not in alphas]
    assert not any("logits" in name for name in weights)
    assert len(weights) + len(alphas) == len(list(model.parameters()))
    # Every weight of the shared network is there, and every BatchNorm is there three times.
    plain = sum(p.numel() for p in shared().parameters())
    norms = [layer for layer in shared().modules() if isinstance(layer, nn.BatchNorm2d)]
    affine = sum(layer.weight.numel() + layer.bias.numel() for layer in norms)
    assert sum(p.numel() for p in model.parameters()) == plain + 2 * affine + 2 * 20


def test_gradients_reach_every_logit_and_every_weight():
    model = supernet(space=BNSplitSpace(train_affine=True))
    logits = model(batch())
    torch.nn.functional.cross_entropy(logits, torch.arange(4).repeat(2)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_scales_and_shifts_stay_fixed_unless_asked_for_and_are_free_again_in_what_is_derived():
    model = supernet()
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    norms = [name for name, layer in model.backbone.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    assert frozen == {f"backbone.{name}.{part}" for name in norms for part in ("weight", "bias")}
    assert all(parameter.requires_grad for parameter in SPACE.derive_network(model).parameters())


# -- deriving -----------------------------------------------------------------


@pytest.mark.parametrize("preset", ["share", "split", "random-1", "random-2"])
@torch.no_grad()
def test_a_derived_network_equals_its_supernet_at_that_choice(preset):
    model = supernet()
    architecture = Architecture.preset(preset, bn_slots(model.backbone))
    set_logits(model, architecture, 1e4)
    network = SPACE.derive_network(model)
    assert SPACE.derive(model) == architecture
    for slot, choice in architecture.choices:
        layer = network.backbone.get_submodule(slot)
        assert type(layer) is (SplitBatchNorm2d if choice == SPLIT else nn.BatchNorm2d)

    for modality in ("visible", "infrared"):
        ours, theirs = (m.eval().features(batch(), modality) for m in (network, model))
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    ours, theirs = (m.train().features(batch()) for m in (network, model))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    # The train step moved the running statistics of the derived layers as it moved the supernet's.
    for slot, choice in architecture.choices:
        own, mixed = network.backbone.get_submodule(slot), model.backbone.get_submodule(slot)
        names = ("visible", "infrared") if choice == SPLIT else ()
        split = [(getattr(own, name), getattr(mixed, name)) for name in names]
        pairs = split or [(own, mixed.share)]
        for plain, candidate in pairs:
            torch.testing.assert_close(plain.running_mean, candidate.running_mean, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(plain.running_var, candidate.running_var, rtol=1e-10, atol=1e-10)


def test_a_derived_network_leaves_the_supernet_alone_and_fits_a_model_built_from_its_architecture():
    model = supernet()
    architecture = Architecture.preset("random-3", bn_slots(model.backbone))
    set_logits(model, architecture, 1.0)
    before = copy.deepcopy(model.state_dict())
    network = SPACE.derive_network(model)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    built = two_stream_resnet18(4, architecture=SPACE.derive(model), pretrained=False, width=0.25)
    assert list(built.state_dict()) == list(network.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_a_derived_network_keeps_the_mode(training):
    model = supernet().train(training)
    set_logits(model, Architecture.preset("random-1", bn_slots(model.backbone)), 1.0)
    assert {layer.training for layer in SPACE.derive_network(model).modules()} == {training}


def test_the_larger_logit_decides_and_a_tie_stays_shared():
    model = SPACE.build_supernet(shared())
    assert SPACE.derive(model) == Architecture.preset("share", bn_slots(model.backbone))
    alphas = SPACE.architecture_parameters(model)
    with torch.no_grad():
        alphas[3].copy_(torch.tensor([-2.0, -1.9]))
        alphas[4].copy_(torch.tensor([5.0, 4.9]))
    found = SPACE.derive(model, {"seed": 3})
    assert [index for index, (_, choice) in enumerate(found.choices) if choice == SPLIT] == [3]
    assert found.space == BN_SPACE and found.source == {"seed": 3}


# -- probabilities, temperature, noise, cost ----------------------------------


def test_probabilities_are_the_softmax_at_the_temperature():
    model = SPACE.build_supernet(shared())
    with torch.no_grad():
        SPACE.architecture_parameters(model)[1].copy_(torch.tensor([0.0, 3.0]))
    rows = SPACE.probabilities(model)
    assert list(rows) == list(bn_slots(model.backbone)) and rows["bn1"] == {SHARE: 0.5, SPLIT: 0.5}
    assert rows["layer1.0.bn1"][SPLIT] == pytest.approx(1 / (1 + 2.718281828459045**-3))
    SPACE.anneal(model, 1.5)
    rows = SPACE.probabilities(model)
    assert rows["layer1.0.bn1"][SPLIT] == pytest.approx(1 / (1 + 2.718281828459045**-2))
    assert sum(rows["layer1.0.bn1"].values()) == pytest.approx(1)
    assert {layer.temperature for layer in model.backbone.modules() if isinstance(layer, MixedBatchNorm2d)} == {1.5}


def test_gumbel_noise_is_reproducible_differs_by_slot_and_is_left_out_of_what_is_reported():
    model = SPACE.build_supernet(shared())

    def weights() -> torch.Tensor:
        layers = [layer for layer in model.backbone.modules() if isinstance(layer, MixedBatchNorm2d)]
        return torch.stack([layer.probabilities()[1].detach() for layer in layers])

    even = torch.full((20,), 0.5, dtype=torch.float64)
    SPACE.sample(model, torch.Generator().manual_seed(5))
    first = weights()
    assert len(set(first.tolist())) == 20 and first.min() < 0.4 and first.max() > 0.6
    assert set(map(tuple, (row.values() for row in SPACE.probabilities(model).values()))) == {(0.5, 0.5)}
    assert SPACE.derive(model) == Architecture.preset("share", bn_slots(model.backbone))
    SPACE.sample(model, torch.Generator().manual_seed(6))
    assert not torch.equal(weights(), first)
    SPACE.sample(model, torch.Generator().manual_seed(5))
    assert torch.equal(weights(), first)
    SPACE.sample(model, None)
    assert torch.equal(weights(), even)


def test_gumbel_noise_picks_a_candidate_as_often_as_its_softmax_says():
    model = SPACE.build_supernet(shared())
    logits = torch.tensor([0.0, 1.0], dtype=torch.float64)
    with torch.no_grad():
        for alpha in SPACE.architecture_parameters(model):
            alpha.copy_(logits)
    generator, picked, total = torch.Generator().manual_seed(0), 0, 0
    for _ in range(100):
        SPACE.sample(model, generator)
        for layer in model.backbone.modules():
            if isinstance(layer, MixedBatchNorm2d):
                picked += int(layer.probabilities()[1] > 0.5)
                total += 1
    assert picked / total == pytest.approx(torch.softmax(logits, 0)[1].item(), abs=0.04)


def test_the_cost_is_the_expected_share_of_split_slots_and_pulls_logits_towards_share():
    model = SPACE.build_supernet(shared())
    assert SPACE.cost(model).item() == pytest.approx(0.5)
    architecture = Architecture.preset("first-5", bn_slots(model.backbone))
    set_logits(model, architecture, 1e4)
    assert SPACE.cost(model).item() == pytest.approx(5 / 20)
    set_logits(model, architecture, 0.1)
    SPACE.cost(model).backward()
    for alpha in SPACE.architecture_parameters(model):
        assert alpha.grad[1] > 0 > alpha.grad[0]
