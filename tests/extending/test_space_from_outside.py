"""A search space from outside, added in two files (stage_space.py and stage_figure.py), through the command line."""
from __future__ import annotations

import json

import matplotlib.image
import pytest
import torch
from commands import arguments, refused
from tiny import TINY

from torchreid_nas.architecture import FORMATS, Architecture
from torchreid_nas.cli import main
from torchreid_nas.models import two_stream_resnet18
from torchreid_nas.report import read_history
from torchreid_nas.search import SPACES, draw_architecture

SEARCH = {**TINY, "search.space": "stage_scale"}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register the space for one test, as importing it does for a script."""
    monkeypatch.setattr("torchreid_nas.search.space.SPACES", dict(SPACES))
    from extending.stage_space import StageSpace

    monkeypatch.setitem(FORMATS, "stage_scale", StageSpace.format)
    monkeypatch.setitem(SPACES, "stage_scale", StageSpace)
    return StageSpace


def test_a_search_of_the_space_keeps_its_result_and_gets_its_picture(data_root, tmp_path):
    run = tmp_path / "run"
    assert main(arguments(SEARCH, data_root, run, "--stages", "search")) == 0
    architecture = Architecture.load(run / "architecture.json")
    assert architecture.space == "stage_scale" and architecture.slots == ("layer1", "layer2", "layer3", "layer4")
    assert matplotlib.image.imread(run / "figures" / "architecture.png").shape[:2] == (480, 800)
    assert not (run / "architecture.cfg").exists(), "the space has no authors with a file of their own"
    history = read_history(run / "search" / "history.jsonl")
    assert set(history[-1]["probabilities"]["layer1"]) == {"plain", "scaled"}
    draw_architecture(history, architecture, tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == (run / "figures" / "architecture.png").read_bytes()


def test_the_derived_network_equals_the_supernet_at_that_choice(registered):
    torch.manual_seed(0)
    space = registered()
    model = space.build_supernet(two_stream_resnet18(4, architecture="share", pretrained=False, width=0.25)).eval()
    with torch.no_grad():
        for name, stage in space._stages(model).items():
            stage.scale.factor.normal_(1, 0.1)
            stage.logits.copy_(torch.tensor([-1e4, 1e4] if name == "layer3" else [1e4, -1e4]))
        images = torch.randn(4, 3, 48, 24)
        network = space.derive_network(model)
        torch.testing.assert_close(network(images, "visible"), model(images, "visible"), rtol=0, atol=0)
    assert str(space.derive(model)) == "stage_scale: layer1=plain, layer2=plain, layer3=scaled, layer4=plain"


def test_a_model_that_the_space_does_not_name_is_refused(capsys, data_root, tmp_path):
    config = {**SEARCH, "model.name": "two_stream_resnet50"}
    error = refused(capsys, *arguments(config, data_root, tmp_path / "run", "--stages", "search"))
    assert 'search.space is "stage_scale", expected norm_split for model.name two_stream_resnet50' in error


def test_its_architecture_file_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"space": "stage_scale", "choices": {"layer1": "scaled"}}))
    assert Architecture.load(path).choices == (("layer1", "scaled"),)
