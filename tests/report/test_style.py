"""All figures: no global state, and what a failure leaves behind."""
from __future__ import annotations

import errno
import itertools
import sys

import matplotlib
import pytest
import torch
from histories import RESNET18, search
from matplotlib.figure import Figure

from torchreid_nas import report
from torchreid_nas.errors import InputError
from torchreid_nas.report.style import epoch_ticks


def test_drawing_leaves_no_global_state(tmp_path, genotype_search):
    # Another test of this process may have left a figure.
    figures = sys.modules["matplotlib.pyplot"].get_fignums() if "matplotlib.pyplot" in sys.modules else []
    before, generator = dict(matplotlib.rcParams), torch.get_rng_state()
    report.draw_bn_split(*search(RESNET18, 2, 0), tmp_path / "architecture.png")
    report.draw_training(search(RESNET18, 2, 0)[0], tmp_path / "training.png")
    report.draw_genotype(*genotype_search("combined", 2), tmp_path / "genotype.png")
    assert dict(matplotlib.rcParams) == before
    assert torch.equal(torch.get_rng_state(), generator)
    from matplotlib import pyplot

    assert pyplot.get_fignums() == figures


@pytest.mark.parametrize("what", ["architecture", "genotype", "training"])
def test_a_full_disk_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch, genotype_search, what):
    def fail(self, path, **kwargs):
        path.write_bytes(b"half a picture")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    path = tmp_path / "picture.png"
    path.write_bytes(b"old")
    history, architecture = search(RESNET18, 2, 0)
    draw = {
        "architecture": lambda: report.draw_bn_split(history, architecture, path),
        "genotype": lambda: report.draw_genotype(*genotype_search("combined", 2), path),
        "training": lambda: report.draw_training(history, path),
    }
    with pytest.raises(InputError, match=r"picture\.png.*No space left"):
        draw[what]()
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("picture.png", b"old")]


@pytest.mark.parametrize(("epochs", "length", "expected"), [
    ([7], 1.6, [0]),
    ([1, 2, 3], 1.6, [0, 1, 2]),
    (range(1, 25), 1.6, [0, 9, 14, 23]),
    (range(1, 241), 1.6, [0, 49, 99, 149, 239]),
    (range(11, 22), 1.6, [0, 4, 10]),
])
def test_the_ticks_of_epochs_are_round_and_apart(epochs, length, expected):
    ticks = epoch_ticks(epochs, length, apart=0.27)
    assert ticks == expected
    room = length / len(epochs)
    assert all((b - a) * room >= 0.27 for a, b in itertools.pairwise(ticks))
