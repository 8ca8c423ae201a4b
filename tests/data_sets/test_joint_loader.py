"""JointLoader: lengths, cycling, and one side alone."""
import pytest
import torch
from torch.utils.data import DataLoader

from torchreid_nas.data import JointLoader
from torchreid_nas.errors import InputError


def loader(count, name):
    return DataLoader([{name: torch.tensor(index)} for index in range(count)], batch_size=2, drop_last=True)


@pytest.mark.parametrize("length, expected", [("source", 3), ("target", 5), ("longer", 5)])
def test_an_epoch_is_as_long_as_asked_for(length, expected):
    joint = JointLoader(loader(6, "a"), loader(10, "b"), length)
    batches = list(joint)
    assert len(joint) == len(batches) == expected
    assert [batch["a"].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5], [0, 1], [2, 3]][:expected]
    assert [batch["target"]["b"].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]][:expected]


def test_either_side_can_stand_alone():
    assert ["target" in batch for batch in JointLoader(loader(4, "a"), None, "target")] == [False, False]
    batches = list(JointLoader(None, loader(4, "b")))
    assert [batch["b"].tolist() for batch in batches] == [batch["target"]["b"].tolist() for batch in batches]


def test_it_walks_anew_every_time():
    joint = JointLoader(loader(4, "a"), loader(6, "b"))
    assert [b["target"]["b"].tolist() for b in joint] == [b["target"]["b"].tolist() for b in joint]


def test_a_loader_without_a_batch_is_refused():
    with pytest.raises(InputError, match="the target has 1 training images.*batch_size_target"):
        JointLoader(loader(4, "a"), loader(1, "b"))
    with pytest.raises(InputError, match="the source has 1 training images.*train.batch_size"):
        JointLoader(loader(1, "a"), loader(4, "b"))
    with pytest.raises(InputError, match='"target"|longer'):
        JointLoader(loader(4, "a"), loader(4, "b"), "long")
