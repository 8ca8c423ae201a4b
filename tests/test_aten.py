"""find_operator: operators that exist, and those that a newer torch may have renamed."""
import pytest
import torch

from torchreid_nas.aten import find_operator


def test_an_overload_computes_what_the_public_function_computes():
    values = torch.tensor([1.0, 2.0])
    assert torch.equal(find_operator("aten::add.Tensor")(values, values), values + values)


@pytest.mark.parametrize("name", ["aten::gone", "aten::add.gone", "no_such_library::relu"])
def test_a_renamed_operator_is_none_not_an_error(name):
    assert find_operator(name) is None
