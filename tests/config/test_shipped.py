"""The configs that come with the package: found by name, described in a line, all of them valid."""
from __future__ import annotations

import pytest

from torchreid_nas.config import load_config
from torchreid_nas.config.shipped import config_summary, find_config, shipped_configs
from torchreid_nas.errors import InputError

NAMES = list(shipped_configs())


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_config_loads_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(name) == load_config(f"{name}.yaml") == load_config(shipped_configs()[name])


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_config_is_described_by_one_sentence(name):
    summary = config_summary(shipped_configs()[name])
    assert 30 < len(summary) <= 110 and summary.endswith(".")


def test_a_file_comes_before_a_shipped_config_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert find_config("demo") == shipped_configs()["demo"]
    (tmp_path / "demo.yaml").write_text("train:\n  lr: 0.5\n")
    assert load_config("demo.yaml").train.lr == 0.5
    assert load_config("demo").train.lr == 0.0035


@pytest.mark.parametrize("name, hint", [
    ("demoo", 'did you mean "demo"?'), ("cmnas_regbd.yaml", 'did you mean "cmnas_regdb"?'),
    ("configs/demo.yaml", 'did you mean "demo", which comes with the package?'), ("nothing/like/it.yaml", "lists the names"),
])
def test_a_wrong_name_is_answered_with_the_nearest(name, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refusal:
        load_config(name)
    assert f'"{name}"' in str(refusal.value) and str(refusal.value).endswith(hint)


def test_a_config_without_a_comment_has_no_summary(tmp_path):
    (tmp_path / "mine.yaml").write_text("train:\n  lr: 0.5\n")
    assert config_summary(tmp_path / "mine.yaml") == ""
