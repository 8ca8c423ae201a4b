"""The rows of the config keys: complete, consistent, extended from outside, and printed as the reference."""
from __future__ import annotations

import pytest

from torchreid_nas.cli import main
from torchreid_nas.config import KEYS, Key, default_config, keys_that_bind, keys_that_decide, load_config, register_keys
from torchreid_nas.errors import InputError
from torchreid_nas.methods.effects import key_reference

SOURCES = {"CM-NAS", "CAJ", "CDNet", "ECN", "ECN++", "TF-NAS", "torchreid", "ours"}


@pytest.mark.parametrize("name", KEYS)
def test_every_row_says_its_meaning_in_a_line_and_its_source(name):
    key = KEYS[name]
    assert key.help and "\n" not in key.help and not key.help.endswith(".")
    assert key.source in SOURCES
    assert key.check is None or key.check.valid(key.default)
    assert not isinstance(key.default, list) or key.default or key.item is not None


def test_every_need_names_a_key_and_values_that_it_may_take():
    for key in KEYS.values():
        for need in key.needs:
            other = KEYS[need.key]
            kind = type(other.default[0] if isinstance(other.default, list) else other.default)
            assert all(isinstance(value, kind) for value in need.values)
            assert other.check is None or all(other.check.valid(value) for value in need.values)


def test_only_places_tests_and_reports_decide_no_stage():
    free = {name for name, key in KEYS.items() if not key.decides}
    assert {name for name in free if not name.startswith("test.")} == {
        "device", "data.root", "data.targets", "data.cache_dir", "data.save_dir", "data.digest", "logger",
        "report.enabled", "train.checkpoint_minutes", "train.keep_checkpoints",
    }
    assert set(keys_that_bind("train")) == {
        "task", "model.separate", "model.last_stride", "model.fusion_gate", "model.convolutions", "data.split_id",
        "data.layout", "data.split_seed", "data.train_share", "data.height", "data.width", "data.interpolation",
        "data.norm_mean", "data.norm_std",
    }


def test_a_search_follows_from_its_own_section_and_from_the_batches():
    train = [name.removeprefix("train.") for name in keys_that_decide("search") if name.startswith("train.")]
    assert train == ["seed", "batch_size", "num_batches", "amp", "channels_last", "fused", "accumulate", "sync_bn", "compile"]
    own = {name for name in KEYS if name.startswith("search.")}
    assert own <= set(keys_that_decide("search")) - set(keys_that_decide("train"))


@pytest.fixture
def outside():
    """A key from outside, forgotten after the test."""
    row = Key([], "steps of the new term", item=0)
    register_keys({"mine.steps": row})
    yield row
    del KEYS["mine.steps"]


def test_a_key_from_outside_is_read_and_printed_like_the_others(outside):
    assert load_config(None, ["mine.steps", "[1, 2]"]).mine.steps == [1, 2]
    assert default_config().mine.steps == []
    assert key_reference("mine.steps") == "mine.steps  []  (ours)\n    steps of the new term"


@pytest.mark.parametrize("name", ["mine.steps", "mine", "train.lr.base", "train"])
def test_a_key_that_clashes_with_another_is_refused(outside, name):
    with pytest.raises(ValueError, match="there is a config key"):
        register_keys({name: Key(1, "another")})


def test_the_reference_has_every_key_with_method_and_data_set():
    text = key_reference()
    assert [line.split("  ")[0] for line in text.splitlines() if not line.startswith(" ")] == list(KEYS)
    assert "has an effect if the method is ecn" in key_reference("ecn.temperature")
    assert "has an effect if the method is cmnas or cdnet" in key_reference("search.interval")
    assert "has an effect if a data set takes split_id" in key_reference("data.split_id")
    assert "has an effect" not in key_reference("train.lr")


def test_the_reference_is_a_table_per_section_for_a_page():
    text = key_reference(markdown=True)
    assert [line for line in text.splitlines() if line.startswith("## ")][:4] == ["## device", "## task", "## logger", "## model"]
    assert all(line.count(" | ") == 5 for line in text.splitlines() if line.startswith("| "))


def test_the_command_line_prints_the_keys_that_fit_a_pattern(capsys):
    assert main(["configs", "keys", "train.warmup*"]) == 0
    printed = capsys.readouterr().out
    assert "train.warmup_epochs  10  (CM-NAS)" in printed and "search" not in printed
    assert main(["configs", "keys", "nothing"]) == 2
    assert capsys.readouterr().err == 'error: no config key fits "nothing"; `torchreid-nas configs keys` prints all of them\n'


def test_a_pattern_without_a_key_is_refused():
    with pytest.raises(InputError, match="no config key fits"):
        key_reference("learning")
