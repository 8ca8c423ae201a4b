"""``data.cache`` on the command line: off is torchreid's pipeline, on the same figures for the same weights."""
from __future__ import annotations

import json

import pytest
from commands import arguments, refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.config import load_config

SHARE = {**TINY, "model.architecture": "share"}


@pytest.fixture
def call(data_root, tmp_path):
    """Run the command line with a cache folder of this test's own; returns its exit code."""

    def call(output, *more, **overrides):
        keys = {"data.cache_dir": tmp_path / "cache", **overrides}
        return main(arguments(SHARE, data_root, tmp_path / output, *more, **keys))

    return call


def results(folder):
    return json.loads((folder / "results.json").read_text())["results"]


def test_off_decodes_for_every_batch_and_the_cache_changes_no_figure(call, data_root, tmp_path, capsys):
    config = tmp_path / "plain.yaml"
    config.write_text("data:\n  cache: off\n")
    assert call("run", "--config", config, "--stages", "train,test") == 0
    assert not (tmp_path / "cache").exists()
    plain = results(tmp_path / "run")
    weights = {"model.load_weights": tmp_path / "run" / "train" / "model.pth"}
    for mode in ("on", "auto"):
        assert call(mode, "--stages", "test", **{"data.cache": mode}, **weights) == 0
        assert results(tmp_path / mode) == plain
    assert len(list((tmp_path / "cache").glob("[!.]*.npy"))) == 1
    error = refused(capsys, *arguments(
        SHARE, data_root, tmp_path / "run", "--config", config, "--resume", "--stages", "train", **{"data.cache": "auto"}
    ))
    assert "data.cache: off -> auto" in error
    assert call("run", "--config", config, "--stages", "train", "--resume", **{"data.cache_dir": tmp_path / "other"}) == 0


def test_a_cache_that_cannot_be_written_is_one_sentence(call, data_root, tmp_path, capsys):
    (tmp_path / "file").touch()
    error = refused(capsys, *arguments(
        SHARE, data_root, tmp_path / "run", "--stages", "train", **{"data.cache_dir": tmp_path / "file" / "cache"}
    ))
    assert "data.cache off" in error and str(tmp_path / "file" / "cache") in error


@pytest.mark.parametrize("written, meant", [("off", "off"), ("on", "on"), ("auto", "auto"), ('"off"', "off")])
def test_yaml_may_say_on_and_off(tmp_path, written, meant):
    (tmp_path / "config.yaml").write_text(f"data:\n  cache: {written}\n")
    assert load_config(tmp_path / "config.yaml").data.cache == meant
    assert load_config(None, ["data.cache", meant]).data.cache == meant
