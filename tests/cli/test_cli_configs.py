"""``torchreid-nas configs``: list, show and copy."""
from __future__ import annotations

from pathlib import Path

import pytest
from commands import refused

from torchreid_nas.cli import main
from torchreid_nas.config.shipped import shipped_configs


@pytest.mark.parametrize("call", [["configs"], ["configs", "list"]])
def test_configs_lists_every_config_with_its_line(call, capsys):
    assert main(call) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_configs())
    assert all(len(line.split()) > 4 for line in lines)


def test_show_prints_the_file(capsys):
    assert main(["configs", "show", "cmnas_sysu"]) == 0
    assert capsys.readouterr().out == shipped_configs()["cmnas_sysu"].read_text()


def test_copy_writes_a_file_that_runs_by_its_path(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["configs", "copy", "demo"]) == 0
    assert Path("demo.yaml").read_text() == shipped_configs()["demo"].read_text()
    assert "torchreid-nas --config demo.yaml" in capsys.readouterr().out


def test_copy_refuses_to_overwrite_and_a_missing_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo.yaml").write_text("mine")
    assert '"demo.yaml" exists already' in refused(capsys, "configs", "copy", "demo.yaml", "--output", "demo.yaml")
    assert '"no" does not exist' in refused(capsys, "configs", "copy", "cmnas_sysu", "--output", "no/mine.yaml")
    assert Path("demo.yaml").read_text() == "mine" and not Path("no").exists()


def test_a_mistyped_name_gets_the_nearest(capsys):
    assert 'did you mean "demo_ecn"?' in refused(capsys, "configs", "show", "demo_enc")
