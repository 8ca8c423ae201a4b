"""The authors' checkpoint layout: golden features of their own network, and what a wrong file says; torchreid's layouts."""
from __future__ import annotations

import copy
import pickle
import re
import zipfile
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchreid
from recipe import recipe_state

from torchreid_nas.architecture import SHARE, Architecture
from torchreid_nas.checkpoints.load import checkpoint_num_classes, load_authors_checkpoint, load_weights
from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.methods import make_method
from torchreid_nas.models import TwoStreamNetwork, two_stream_resnet18, two_stream_resnet50


@pytest.fixture(scope="module")
def authors_state() -> dict[str, torch.Tensor]:
    return recipe_state("two_stream_resnet50")


@pytest.fixture(scope="module")
def numbers(golden) -> dict[str, np.ndarray]:
    return golden("two_stream_resnet50")


@pytest.fixture(scope="module")
def empty(numbers) -> TwoStreamNetwork:
    return two_stream_resnet50(int(numbers["num_classes"]), architecture=numbers["config"].tolist(), pretrained=False)


@pytest.fixture
def model(empty) -> TwoStreamNetwork:
    return copy.deepcopy(empty)


def assert_close(actual: torch.Tensor, expected: np.ndarray, tolerance: float = 1e-4) -> None:
    """Equal to ``tolerance`` of the array's scale: activations of the recipe's weights grow to the thousands."""
    expected = torch.from_numpy(expected)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def unchanged(model: TwoStreamNetwork, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


# -- golden -------------------------------------------------------------------


@torch.no_grad()
def test_eval_features_equal_the_authors_in_both_modalities(model, authors_state, numbers):
    assert load_authors_checkpoint(model, authors_state) is model
    model.eval()
    for modality in ("visible", "infrared"):
        before, after = model.features(torch.from_numpy(numbers[f"x_{modality}"]), modality)
        assert_close(before, numbers[f"eval_{modality}_global"])
        assert_close(after, numbers[f"eval_{modality}_bn"])


@torch.no_grad()
def test_train_features_logits_and_running_statistics_equal_the_authors(model, authors_state, numbers):
    load_authors_checkpoint(model, authors_state).train()
    images = torch.from_numpy(np.concatenate([numbers["x_visible"], numbers["x_infrared"]]))
    before, after = model.features(images, "both")
    state = {key: value.clone() for key, value in model.state_dict().items()}
    assert_close(before, numbers["train_global"])
    # Four rows per channel: where they hardly differ, the neck blows rounding up (the authors' float32 numbers are
    # 1e-3 from the same network in float64). The neck by itself, from their features, is held to the usual 1e-4.
    assert_close(after, numbers["train_bn"], 3e-3)
    assert_close(model.classifier(after), numbers["train_logits"], 1e-3)
    assert_close(model.bnneck(torch.from_numpy(numbers["train_global"])), numbers["train_bn"])
    assert_close(model.classifier(torch.from_numpy(numbers["train_bn"])), numbers["train_logits"])
    prefix, names = "after_train_", {"visible_bn.": "visible.", "thermal_bn.": "infrared.", "sharable_bn.": ""}
    checked = []
    for key in (key for key in numbers if key.startswith(prefix)):
        own = key.removeprefix(prefix)
        for theirs, ours in names.items():
            own = own.replace(theirs, ours)
        if own in state:
            assert_close(state[own], numbers[key])
            checked.append(own)
        else:
            # The authors store the BatchNorms that an architecture leaves unused; nothing may have moved there.
            assert_close(authors_state[key.removeprefix(prefix)], numbers[key])
    assert "bnneck.running_mean" in checked and "backbone.bn1.running_mean" in checked


# -- what the authors' files look like ----------------------------------------


def wrap_prefix(state):
    return {f"module.{key}": value for key, value in state.items()}


def wrap_release(state):
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    return {"model": wrap_prefix(state), "ema": wrap_prefix(other), "optimizer": {"state": {}}, "epoch": 120}


@pytest.mark.parametrize("wrap", [wrap_prefix, wrap_release])
@pytest.mark.parametrize("as_file", [False, True])
def test_prefixes_and_the_released_dictionary_are_understood(tmp_path, model, empty, authors_state, wrap, as_file):
    expected = load_authors_checkpoint(copy.deepcopy(empty), authors_state).state_dict()
    source = wrap(authors_state)
    if as_file:
        torch.save(source, tmp_path / "released.pth")
        source = tmp_path / "released.pth"
    assert unchanged(load_authors_checkpoint(model, source), expected)


def test_the_averaged_weights_are_taken_on_request_and_give_way_when_empty(model, authors_state):
    content = {"model": authors_state, "ema": {key: value + 1 for key, value in authors_state.items()}}
    key = "classifier.weight"
    load_authors_checkpoint(model, content, weights="ema")
    assert torch.equal(model.state_dict()[key], authors_state[key] + 1)
    load_authors_checkpoint(model, {**content, "ema": {}}, weights="ema")
    assert torch.equal(model.state_dict()[key], authors_state[key])


def test_the_trained_weights_give_way_to_the_averaged_ones_when_empty(model, authors_state, tmp_path):
    content = {"model": {}, "ema": authors_state}
    load_authors_checkpoint(model, content)
    assert torch.equal(model.classifier.weight, authors_state["classifier.weight"])
    torch.save({**content, "ema": {"classifier.weight": torch.zeros(7, 3)}}, tmp_path / "averaged.pth")
    assert checkpoint_num_classes(tmp_path / "averaged.pth") == 7


def test_each_slot_takes_the_batchnorms_that_its_architecture_needs(authors_state):
    branches = {"share": {"": "sharable_bn"}, "split": {"visible.": "visible_bn", "infrared.": "thermal_bn"}}
    for preset, names in branches.items():
        model = load_authors_checkpoint(two_stream_resnet50(10, architecture=preset, pretrained=False), authors_state)
        state = model.state_dict()
        for ours, theirs in names.items():
            for slot, in_file in (("bn1", "bn1"), ("layer2.0.downsample.1", "layer2.0.downsample.bn")):
                expected = authors_state[f"backbone.{in_file}.{theirs}.weight"]
                assert torch.equal(state[f"backbone.{slot}.{ours}weight"], expected)


def test_step_counters_in_a_file_are_no_fault_and_the_models_own_stay(model, authors_state):
    state = {**authors_state, "backbone.bn1.visible_bn.num_batches_tracked": torch.tensor(7)}
    load_authors_checkpoint(model, state)
    assert model.state_dict()["backbone.layer4.2.bn3.infrared.num_batches_tracked"] == 0


def test_a_model_with_standardised_input_loads_too(authors_state, numbers):
    model = two_stream_resnet50(10, numbers["config"].tolist(), pretrained=False, standardize_input=True)
    load_authors_checkpoint(model, authors_state)
    assert torch.equal(model.classifier.weight, authors_state["classifier.weight"])


# -- what is refused ----------------------------------------------------------


@pytest.fixture
def refuses(model) -> Callable:
    """``refuses(source, message)``: an InputError that leaves the model as it was; returns its text."""

    def check(source, message: str) -> str:
        before = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(InputError, match=message) as error:
            load_authors_checkpoint(model, source)
        assert unchanged(model, before)
        return str(error.value)

    return check


def test_another_number_of_classes(refuses, authors_state):
    state = {**authors_state, "classifier.weight": torch.zeros(395, 2048)}
    refuses(state, r'"classifier.weight" has shape \(395, 2048\), the model expects \(10, 2048\); build the model with')


def test_a_missing_key(refuses, authors_state):
    state = dict(authors_state)
    del state["backbone.layer4.2.conv3.weight"]
    refuses(state, 'has no "backbone.layer4.2.conv3.weight"; expected a ResNetBackbone in the layout of the')


def test_a_foreign_key(refuses, authors_state):
    state = {**authors_state, "backbone.layer5.0.conv1.weight": torch.zeros(1)}
    refuses(state, 'also has "backbone.layer5.0.conv1.weight", which this model lacks')


def test_a_value_that_is_no_tensor(refuses, authors_state):
    refuses({**authors_state, "bnneck.weight": "ones"}, 'has no "bnneck.weight"')


def test_a_checkpoint_of_another_depth(authors_state):
    small = two_stream_resnet18(10, architecture=SHARE, pretrained=False)
    with pytest.raises(InputError, match="shape|has no"):
        load_authors_checkpoint(small, authors_state)


def test_no_dictionary(tmp_path, refuses):
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    assert str(tmp_path / "list.pth") in refuses(tmp_path / "list.pth", "holds no state dict")


def test_keys_that_are_no_text(refuses):
    refuses({0: torch.zeros(1)}, 'has no "backbone.conv1.weight"')


def test_a_truncated_file(tmp_path, refuses, authors_state):
    path = tmp_path / "released.pth"
    torch.save({"model": {"bnneck.weight": authors_state["bnneck.weight"]}}, path)
    path.write_bytes(path.read_bytes()[:2000])
    assert str(path) in refuses(path, "truncated, damaged or no PyTorch file")


def test_a_missing_file(tmp_path, refuses):
    assert str(tmp_path / "absent.pth") in refuses(tmp_path / "absent.pth", "does not exist")


def test_an_unknown_choice_of_weights(model, authors_state):
    with pytest.raises(InputError, match='"emma".*"ema"'):
        load_authors_checkpoint(model, {"model": authors_state, "ema": authors_state}, weights="emma")


def test_the_golden_architecture_mixes_both_choices(numbers):
    architecture = Architecture.from_ints(numbers["config"])
    assert 10 < sum(choice == SHARE for _, choice in architecture.choices) < 43


# -- torchreid's own networks -------------------------------------------------


def osnet(num_classes):
    return torchreid.models.build_model("osnet_x0_25", num_classes, loss="triplet", pretrained=False)


@pytest.mark.parametrize("wrap", [dict, lambda state: {f"module.{k}": v for k, v in state.items()},
                                  lambda state: {"state_dict": state, "epoch": 3}], ids=["plain", "parallel", "torchreid"])
def test_weights_of_torchreids_networks_in_its_layouts(tmp_path, wrap):
    given, model = osnet(7), osnet(4)
    torch.save(wrap(given.state_dict()), tmp_path / "osnet.pth")
    classifier = model.classifier.weight.detach().clone()
    load_weights(model, tmp_path / "osnet.pth")
    for key, value in model.state_dict().items():
        if not key.startswith("classifier"):
            assert torch.equal(value, given.state_dict()[key]), key
    assert torch.equal(model.classifier.weight, classifier)


@pytest.mark.parametrize("name", ["hacnn", "pcb_p4"])
def test_classifiers_for_another_number_of_identities_stay_as_they_are(tmp_path, name):
    given, model = (torchreid.models.build_model(name, count, pretrained=False, use_gpu=False) for count in (7, 4))
    torch.save(given.state_dict(), tmp_path / "weights.pth")
    before = {key: value.clone() for key, value in model.state_dict().items() if "classifier" in key}
    load_weights(model, tmp_path / "weights.pth")
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in before else given.state_dict()[key]), key
    assert len(before) > 2


def test_a_file_from_before_there_were_step_counters(tmp_path):
    given, model = osnet(7), osnet(4)
    state = {key: value for key, value in given.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save({"state_dict": state}, tmp_path / "old.pth")
    load_weights(model, tmp_path / "old.pth")
    assert torch.equal(model.conv1.conv.weight, given.conv1.conv.weight)
    assert model.conv1.bn.num_batches_tracked == 0


@pytest.mark.parametrize("core", ["numpy._core", "numpy.core"])
def test_a_checkpoint_as_torchreids_engines_write_it(tmp_path, core):
    """Its Rank-1 is a number of NumPy, which torch refuses to load by itself, under either of NumPy's names."""
    given, model = osnet(7), osnet(4)
    optimizer = torchreid.optim.build_optimizer(given, optim="sgd")
    state = {"state_dict": given.state_dict(), "epoch": 3, "rank1": np.float32(0.25), "optimizer": optimizer.state_dict()}
    torchreid.utils.save_checkpoint(state, str(tmp_path))
    path = tmp_path / "model.pth.tar-3"
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, re.sub(rb"numpy\._?core", core.encode(), content) if name.endswith("data.pkl") else content)
    with pytest.raises(pickle.UnpicklingError, match=re.escape(core)):
        torch.load(path, weights_only=True)
    load_weights(model, path)
    assert torch.equal(model.conv1.conv.weight, given.conv1.conv.weight)
    assert checkpoint_num_classes(path) == 7
    # What the user's own script allows stays allowed, and nothing is added to it.
    with torch.serialization.safe_globals([np.dtype]):
        allowed = set(torch.serialization.get_safe_globals())
        load_weights(model, path)
        assert set(torch.serialization.get_safe_globals()) == allowed


@pytest.mark.parametrize(("content", "message"), [
    ([1, 2], "holds no state dict .it holds a list.; expected tensors"), ({"epoch": 3}, "holds no state dict"),
    ({"conv9.weight": torch.zeros(1)}, "is of another model"),
])
def test_what_is_not_of_torchreids_network_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(InputError, match=message):
        load_weights(osnet(4), tmp_path / "other.pth")


def test_what_torchreids_network_lacks_is_refused(tmp_path):
    model = osnet(4)
    torch.save({**model.state_dict(), "conv9.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(InputError, match='of another model: it also has "conv9.weight", which this one lacks'):
        load_weights(model, tmp_path / "more.pth")


def test_a_config_may_start_torchreids_network_from_a_file(tmp_path):
    given = osnet(7)
    torch.save(given.state_dict(), tmp_path / "osnet.pth")
    cfg = load_config(None, ["model.name", "osnet_x0_25", "model.pretrained", str(tmp_path / "osnet.pth")])
    model = make_method(cfg, torch.device("cpu")).build_model(4, "none")
    assert torch.equal(model.conv1.conv.weight, given.conv1.conv.weight)
