"""State dicts under the entries and prefixes of many makers."""
import itertools

import pytest
import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.state_dicts import ENTRIES, find_state

WEIGHT = torch.arange(3.0)


@pytest.mark.parametrize("entry", [*ENTRIES, None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_a_state_dict_is_found_under_every_entry_and_prefix(entry, prefix):
    state = {f"{prefix}conv.weight": WEIGHT, f"{prefix}conv.bias": WEIGHT}
    content = state if entry is None else {"epoch": 3, entry: state, "rank1": 0.5}
    found = find_state(content, "the checkpoint")
    assert set(found) == {"conv.weight", "conv.bias"} and found["conv.bias"] is WEIGHT


@pytest.mark.parametrize("outer, inner", itertools.permutations(("state_dict", "model", "module", "ema"), 2))
def test_entries_may_be_nested(outer, inner):
    assert set(find_state({outer: {inner: {"a": WEIGHT}, "step": 1}}, "x")) == {"a"}


def test_a_part_that_was_compiled_alone_is_understood():
    assert set(find_state({"backbone._orig_mod.conv.weight": WEIGHT}, "x")) == {"backbone.conv.weight"}


def test_wrappers_of_torch_are_understood():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    for wrapped in (nn.DataParallel(model), averaged, torch.compile(model), nn.DataParallel(torch.compile(model))):
        assert set(find_state(wrapped.state_dict(), "x")) == set(model.state_dict())


def test_the_weights_asked_for_come_before_others():
    content = {"ema": {"a": WEIGHT + 1}, "model": {"a": WEIGHT}}
    assert find_state(content, "x")["a"].tolist() == [0, 1, 2] and find_state(content, "x", "ema")["a"].tolist() == [1, 2, 3]
    assert find_state({**content, "model": {}}, "x")["a"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("content, says", [
    ({"epoch": 3, "weights": {"a": WEIGHT}}, 'its entries: "epoch", "weights"'), ([1], "it holds a list"), ({}, "it is empty"),
    ({str(n): n for n in range(20)}, '"7" and 12 more'), (None, "it holds a NoneType"),
])
def test_what_holds_no_state_dict_names_what_is_there(content, says):
    with pytest.raises(InputError, match="the checkpoint holds no state dict") as error:
        find_state(content, "the checkpoint")
    assert says in str(error.value) and "state_dict, model, net" in str(error.value)


def test_a_dictionary_within_itself_ends():
    content = {"epoch": 1}
    content["model"] = content
    with pytest.raises(InputError, match="holds no state dict"):
        find_state(content, "x")
