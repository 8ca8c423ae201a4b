"""The folder of a run: its names, what is finished, and files of any content."""
from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchreid_nas.architecture import Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.files import save_checkpoint, write_json
from torchreid_nas.run import lock
from torchreid_nas.run.folder import RunFolder, StageFolder
from torchreid_nas.run.setup import _read_saved

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["epoch", "results", "pid", "host", "a"]), inner),
    max_leaves=8,
)
CONTENTS = st.binary(max_size=60) | st.text(max_size=60).map(str.encode) | VALUES.map(lambda value: json.dumps(value).encode())


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("any") / "file"


@given(st.lists(CONTENTS, max_size=4).map(b"\n".join), st.integers(0, 4))
def test_a_history_of_any_content_is_rows_or_one_sentence(path, content, epochs):
    folder = StageFolder(path.parent)
    folder.history.write_bytes(content)
    with contextlib.suppress(InputError):
        rows = [json.loads(line) for line in folder.read_history(epochs).splitlines()]
        assert [row["epoch"] for row in rows] == list(range(1, epochs + 1))


@given(CONTENTS)
def test_results_of_any_content_are_rows_or_one_sentence(path, content):
    folder = RunFolder(path.parent)
    folder.results.write_bytes(content)
    with contextlib.suppress(InputError):
        assert all(isinstance(row, dict) for row in folder.read_results()["results"])


@given(CONTENTS | st.text("{}[]:-&*a1 \n", max_size=40).map(str.encode))
def test_a_saved_config_of_any_content_is_keys_or_one_sentence(path, content):
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert _read_saved(path)


@given(CONTENTS)
def test_a_holder_of_any_content_is_named_somehow(path, content):
    folder = RunFolder(path.parent)
    folder.holder.write_bytes(content)
    holder = lock._holder(folder)
    assert lock._named(holder) and lock._is_dead(holder) in (True, False)


@given(VALUES)
def test_a_state_of_any_content_has_epochs_or_one_sentence(path, value):
    folder = StageFolder(path.parent)
    save_checkpoint(folder.checkpoint, value)
    with contextlib.suppress(InputError):
        assert folder.load_state()["epoch"] >= 1


# -- what is finished -------------------------------------------------------------


def test_a_training_is_finished_by_its_epochs_and_weights(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.is_trained(2)
    folder.train.save_state({"epoch": 2})
    assert not folder.is_trained(2)
    save_checkpoint(folder.train.weights, {})
    assert folder.is_trained(2) and folder.is_trained(1) and not folder.is_trained(3)


def test_the_first_missing_file_of_a_tested_run_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    for path in (folder.config, folder.train.weights, folder.results):
        assert folder.missing() == path
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert folder.missing() is None and folder.is_run()


def test_the_kept_architecture_is_the_found_one_the_copy_or_the_preset(tmp_path):
    folder, given_file = RunFolder(tmp_path), tmp_path / "given.json"
    assert folder.kept_architecture("share") == "share"
    found, copied = Architecture.from_ints([0] * 20), Architecture.from_ints([1] * 20)
    found.save(folder.architecture)
    copied.save(given_file)
    folder.keep_file_architecture(str(given_file))
    given_file.unlink()
    assert folder.kept_architecture("search") == found and folder.kept_architecture(str(given_file)) == copied


def test_trials_are_listed_in_order(tmp_path):
    folder = RunFolder(tmp_path)
    for trial in (1, 0):
        folder.trial(trial).path.mkdir()
    (tmp_path / "split_9").write_text("no folder")
    assert folder.trials() == [folder.trial(0), folder.trial(1)] == [RunFolder(Path(tmp_path, f"split_{t}")) for t in (0, 1)]


def test_a_row_with_a_number_that_is_not_finite_is_no_line(tmp_path):
    folder = StageFolder(tmp_path)
    assert folder.history_line({"epoch": 1, "ce": 0.5}) == '{"epoch": 1, "ce": 0.5}\n'
    with pytest.raises(InputError, match="history.jsonl.* not finite"):
        folder.history_line({"epoch": 1, "ce": float("nan")})
    with pytest.raises(InputError, match="results.json"):
        write_json(RunFolder(tmp_path).results, {"mAP": float("inf")})
