"""Files of features of any content: features, or one sentence."""
import io
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchreid_nas.errors import InputError
from torchreid_nas.features import FeatureSet

GOOD = {
    "features": np.eye(2, dtype=np.float32), "paths": np.array(["a", "b"]), "labels": np.array(["7", ""]),
    "camids": np.array([0, -1]), "model": np.array("m"), "modality": np.array(""), "fingerprint": np.array(""),
    "files": np.array(["/a", "/b"]),
}


def written(path, **changes):
    np.savez(path, **{name: value for name, value in {**GOOD, **changes}.items() if value is not None})
    return path


@pytest.mark.parametrize("changes, says", [
    ({"features": np.array([["a", "b"], ["c", "d"]])}, 'an array "features" of 2 dimensions and type <U1, expected 2 and'),
    ({"features": np.zeros(2, np.float32)}, "of 1 dimensions and type float32"),
    ({"features": np.array([[1, np.nan], [1, 1]], np.float32)}, "not finite"),
    ({"paths": np.zeros(2)}, 'an array "paths" of 1 dimensions and type float64, expected 1 and text'),
    ({"labels": np.array([["a", "b"]])}, 'an array "labels" of 2 dimensions'),
    ({"camids": np.array(["0", "1"])}, "expected 1 and whole numbers"),
    ({"camids": np.zeros(2)}, "expected 1 and whole numbers"),
    ({"model": np.array(["a"])}, 'an array "model" of 1 dimensions'),
    ({"files": np.array(["/a"])}, "lists of different lengths"),
    ({"files": np.array([1, 2])}, 'an array "files" of 1 dimensions and type int64'),
    ({"camids": None}, 'no array "camids"'),
])
def test_an_array_of_another_kind_is_named(changes, says, tmp_path):
    with pytest.raises(InputError, match="extract them again") as error:
        FeatureSet.load(written(tmp_path / "f.npz", **changes))
    assert says in str(error.value) and "f.npz" in str(error.value)


def test_a_pipe_named_like_features_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "f.npz")
    with pytest.raises(InputError, match="are no regular file"):
        FeatureSet.load(tmp_path / "f.npz")


def test_features_of_versions_before_files_are_read(tmp_path):
    loaded = FeatureSet.load(written(tmp_path / "f.npz", files=None, fingerprint=None))
    assert loaded.files == (os.path.realpath("a"), os.path.realpath("b"))


def test_a_file_keeps_what_is_the_same_image_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = FeatureSet(torch.eye(2), ("a.jpg", "image 1"), ("", ""), np.full(2, -1)).save("f.npz")
    monkeypatch.chdir("/")
    assert FeatureSet.load(tmp_path / saved).files == (str(tmp_path / "a.jpg"), "")


def npz_bytes():
    file = io.BytesIO()
    np.savez(file, **GOOD)
    return file.getvalue()


WHOLE = npz_bytes()


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, len(WHOLE)),
)
def test_damaged_features_are_read_or_refused_in_one_sentence(tmp_path_factory, changes, cut):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content[:cut] if cut % 3 == 0 else content)
    try:
        assert len(FeatureSet.load(path)) == 2
    except InputError as error:
        assert "damaged.npz" in str(error) and "\n" not in str(error)


@given(st.dictionaries(st.sampled_from(sorted(GOOD)), st.one_of(
    st.none(), st.integers(-9, 9), st.text(max_size=3), st.lists(st.integers(-9, 9) | st.floats(width=16), max_size=3),
    st.lists(st.text(max_size=3), max_size=3), st.lists(st.booleans(), min_size=2, max_size=2),
), min_size=1, max_size=2))
def test_arrays_of_any_kind_are_read_or_refused_in_one_sentence(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "arrays.npz"
    try:
        assert len(FeatureSet.load(written(path, **{n: None if v is None else np.array(v) for n, v in changes.items()}))) == 2
    except InputError as error:
        assert "arrays.npz" in str(error) and "\n" not in str(error)
