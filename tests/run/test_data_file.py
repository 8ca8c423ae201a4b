"""data.json: a resumed run refuses other data before it computes anything, whichever stage would read them."""
from __future__ import annotations

import pytest
from commands import arguments, refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.files import read_json, write_json
from torchreid_nas.run import build
from torchreid_nas.run.folder import RunFolder


@pytest.mark.parametrize("part", ["train of regdb", "gallery of regdb"])
def test_changed_data_are_refused_before_a_stage_goes_on(copied, data_root, monkeypatch, capsys, part):
    """The search is not finished, so that it would go on for hours before training or test read their images."""
    folder = RunFolder(copied)
    folder.architecture.unlink()
    folder.results.unlink()
    kept = read_json(folder.data)
    kept["parts"][part]["digest"] = kept["parts"][part]["digest"][::-1]
    write_json(folder.data, kept)
    built = []
    monkeypatch.setattr(build, "search_engine", built.append)
    error = refused(capsys, *arguments(TINY, data_root, copied, "--resume"))
    assert f"the {part} is not what the run in" in error and "choose another --output" in error
    assert not built and not folder.results.exists() and read_json(folder.data) == kept


def test_a_finished_training_needs_no_data_to_be_taken_over(copied, data_root, monkeypatch, capsys):
    kept = read_json(RunFolder(copied).data)
    kept["parts"]["train of regdb"]["digest"] = "of another time"
    write_json(RunFolder(copied).data, kept)
    assert main(arguments(TINY, data_root, copied, "--resume", "--stages", "search,train")) == 0
    assert "finished already" in capsys.readouterr().out
