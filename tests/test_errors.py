"""What the command line says of doubtful input."""
import warnings

from commands import arguments
from tiny import TINY

import torchreid_nas.device
from torchreid_nas.cli import main
from torchreid_nas.errors import InputWarning, plain_warnings


def test_emulated_bfloat16_is_one_line_on_stderr(data_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torchreid_nas.device, "computes_bfloat16", lambda _: False)
    changes = {"train.channels_last": "auto", "train.amp": "bf16"}
    assert main(arguments(TINY, data_root, tmp_path / "run", "--dry-run", "--stages", "train", **changes)) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "bf16" in line]
    assert len(said) == 1 and said[0].startswith("warning: train.amp is bf16")


def test_the_same_warning_from_two_places_is_said_once_in_every_command(capsys):
    for _ in range(2):
        with plain_warnings():
            warnings.warn("doubtful", InputWarning, stacklevel=1)
            warnings.warn("doubtful", InputWarning, stacklevel=1)
            warnings.warn("doubtful too", InputWarning, stacklevel=1)
        assert capsys.readouterr().err == "warning: doubtful\nwarning: doubtful too\n"
