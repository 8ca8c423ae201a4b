"""Both figures: no global state, and what a failure leaves behind."""
from __future__ import annotations

import errno

import matplotlib
import pytest
from matplotlib.figure import Figure

from histories import RESNET18, search
from torchreid_nas import report
from torchreid_nas.errors import InputError


def test_drawing_leaves_no_global_state(tmp_path):
    before = dict(matplotlib.rcParams)
    report.draw_architecture(*search(RESNET18, 2, 0), tmp_path / "architecture.png")
    report.draw_training(search(RESNET18, 2, 0)[0], tmp_path / "training.png")
    assert dict(matplotlib.rcParams) == before
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("what", ["architecture", "training"])
def test_a_full_disk_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch, what):
    def fail(self, path, **kwargs):
        path.write_bytes(b"half a picture")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    history, architecture = search(RESNET18, 2, 0)
    draw = {
        "architecture": lambda: report.draw_architecture(history, architecture, path),
        "training": lambda: report.draw_training(history, path),
    }
    with pytest.raises(InputError, match=r"picture\.png.*No space left"):
        draw[what]()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("picture.png", b"old")]
