"""The commands beside an experiment: their names, their help, and what Ctrl-C and SIGTERM leave of them."""
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import refused

from torchreid_nas.cli import main

REPOSITORY = Path(__file__).resolve().parents[2]

def test_synthetic_command(tmp_path, capsys):
    assert main(["synthetic", "regdb", "--root", str(tmp_path), "--identities", "4", "--images", "2"]) == 0
    assert "stand-in" in capsys.readouterr().out
    assert (tmp_path / "RegDB" / "idx" / "train_visible_1.txt").exists()
    assert "sysu_mm01" in refused(capsys, "synthetic", "sysu", "--root", tmp_path)
    call = ["synthetic", "market1501", "--root", tmp_path, "--sheet", tmp_path / "sheet.jpeg"]
    assert "must end in .png" in refused(capsys, *call) and not (tmp_path / "market1501").exists()


def test_an_unknown_command_is_answered_by_the_nearest(capsys):
    for call in (["featurs"], ["featurs", "images", "--stride", "2"]):
        assert 'no command "featurs"' in refused(capsys, *call)
    assert refused(capsys, "featurs").endswith('; did you mean "features"?\n')


@pytest.mark.parametrize("module, call, left", [
    ("cli.synthetic.write_dataset", ["synthetic", "regdb", "--root", "data"], "no half-written file is left"),
    ("cli.features.main", ["features"], "no half-written file is left"),
    ("cli.match.main", ["match"], "no half-written file is left"),
    ("cli.export.main", ["export"], "no half-written file is left"),
    ("cli.zoo.main", ["zoo", "download"], "the same command goes on with a download where it broke off"),
    ("cli.camstyle.main", ["camstyle"], "the same command with --resume goes on from the last checkpoint"),
    ("cli._experiment", ["--dry-run"], "no half-written file is left"),
    ("cli._experiment", ["--stages", "train"], "the same command with --resume goes on from the last checkpoint"),
])
def test_an_interrupted_command_says_what_it_leaves(module, call, left, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"torchreid_nas.{module}", interrupted)
    assert main(call) == 130
    assert capsys.readouterr().err == f"interrupted; {left}\n"


def test_sigterm_cleans_up_says_so_and_spares_children(tmp_path, capsys, monkeypatch):
    ended = []

    def terminated(path, _):
        assert list(tmp_path.glob("RegDB*")) == [] and path.parent.exists()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, b"runs")
            time.sleep(60)
            os._exit(0)
        os.read(reader, 4)
        os.kill(child, signal.SIGTERM)
        ended.append(os.WTERMSIG(os.waitpid(child, 0)[1]))
        os.kill(os.getpid(), signal.SIGTERM)

    # The last file of the data set, whose folder has its temporary name until then.
    monkeypatch.setattr("torchreid_nas.data.synthetic.store.write_json", terminated)
    assert main(["synthetic", "regdb", "--root", str(tmp_path), "--identities", "4", "--images", "2"]) == 143
    assert capsys.readouterr().err == "terminated; no half-written file is left\n"
    assert ended == [signal.SIGTERM] and not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_help_of_the_thin_script():
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "main.py"), "--help"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0 and "--dry-run" in done.stdout
