"""examples/: files that are read, and run."""
from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def one_file():
    spec = importlib.util.spec_from_file_location("cmnas_in_one_file", EXAMPLES / "cmnas_in_one_file.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cm_nas_in_one_file_has_at_most_150_lines():
    assert len((EXAMPLES / "cmnas_in_one_file.py").read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.slow
def test_cm_nas_in_one_file_searches_trains_and_tests(one_file, tmp_path, capsys):
    found = one_file.main(identities=16, epochs=1, folder=tmp_path)
    assert len(found) == 4 and set(found) <= {"share", "split"}
    rows = capsys.readouterr().out.splitlines()
    assert [row[:10].strip() for row in rows if "generated images" in row] == ["found", "all shared", "all split"]


def test_its_losses_equal_those_of_the_package(one_file):
    from torchreid_nas.losses import BatchHardTripletLoss, C3MMDLoss

    torch.manual_seed(0)
    features, pids = torch.randn(16, 8), torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]).repeat(2)
    torch.testing.assert_close(one_file.c3mmd(features), C3MMDLoss(num_instances=4)(*features.chunk(2)))
    torch.testing.assert_close(one_file.triplet(features, pids), BatchHardTripletLoss(margin=0.4)(features, pids))


def test_its_supernet_equals_the_chosen_network_where_a_logit_decides(one_file):
    slot = one_file.Slot(3)
    slot.visible.weight.data.fill_(2)
    with torch.no_grad():
        slot.logits.copy_(torch.tensor([-1e4, 1e4]))
        x = torch.randn(4, 3, 2, 2)
        mixed = slot(x, "both")
        slot.choice = "split"
        torch.testing.assert_close(slot(x, "both"), mixed)
