"""Checkpoints of any content: a state dict, or one sentence."""
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchreid_nas.checkpoints.load import checkpoint_num_classes, load_weights
from torchreid_nas.checkpoints.recognise import recognise
from torchreid_nas.errors import InputError


class Tiny(nn.Module):
    """A network of one layer and a classifier."""

    def __init__(self):
        super().__init__()
        self.fc0 = nn.Linear(2, 3)
        self.classifier = nn.Linear(3, 4)


def as_bytes(content, zip_archive=True):
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zip_archive)
    return file.getvalue()


STATE = Tiny().state_dict()
FILES = [as_bytes({"state_dict": STATE, "epoch": 3}), as_bytes(STATE, zip_archive=False)]


def read_in_every_way(path):
    """Read a file as tests, conversion and features do; each gives a value or one sentence that names the file."""
    for read in (checkpoint_num_classes, recognise, lambda path: load_weights(Tiny(), path)):
        try:
            read(path)
        except InputError as error:
            assert str(path) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize("content", [
    b"\x80\x02.", b"\x80\x02}q\x00.", b"", b"PK\x05\x06" + bytes(18), b"\x80\x02K\x01K\x02.", b"\x80\x02]q\x00(e.", b"\x80\x05N.",
])
def test_a_file_that_torchs_reader_stumbles_on_is_one_sentence(content, tmp_path):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match="a.pth.*(truncated, damaged or no PyTorch file|no state dict|holds Python objects)"):
        load_weights(Tiny(), tmp_path / "a.pth")


@given(
    st.sampled_from(FILES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4), st.floats(0, 2),
)
def test_a_damaged_file_is_read_or_refused_in_one_sentence(tmp_path_factory, content, changes, cut):
    damaged = bytearray(content)
    for place, value in changes:
        damaged[int(place * (len(damaged) - 1))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.pth"
    path.write_bytes(damaged[:int(cut * len(damaged))] if cut < 1 else damaged)
    read_in_every_way(path)


def test_an_archive_of_several_disks_is_refused_in_one_sentence(tmp_path):
    torch.save({"state_dict": STATE}, tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    # The last four bytes of the zip64 locator count the disks.
    content[content.rindex(b"PK\x06\x07") + 16] = 2
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(InputError, match="a.pth.*damaged"):
        load_weights(Tiny(), tmp_path / "a.pth")


VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | st.floats() | st.text(max_size=4) | st.just(torch.ones(3)) | st.just(STATE)
    | st.just(torch.zeros(2, dtype=torch.int64)) | st.just(torch.zeros(0)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["state_dict", "model", "ema", "fc0.weight", "module.fc0.bias", "base.cells.0.x", "a.sharable_bn.weight"])
        | st.integers(0, 3) | st.text(max_size=3), inner, max_size=4,
    ), max_leaves=6,
)


@given(VALUES)
def test_a_file_of_any_values_is_read_or_refused_in_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "values.pth"
    path.write_bytes(as_bytes(content))
    read_in_every_way(path)


@given(st.binary(max_size=40).map(lambda end: b"\x80\x02" + end))
def test_a_short_pickle_is_refused_in_one_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "short.pth"
    path.write_bytes(content)
    read_in_every_way(path)
