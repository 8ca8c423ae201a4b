"""model.name two_stream from the command line: search, training, test, zoo and refusals with backbones of timm and torchreid."""
import functools
import json

import commands
import pytest
import torch
from commands import refused
from tiny import TINY

from torchreid_nas.architecture import Architecture
from torchreid_nas.cli import main
from torchreid_nas.zoo.trained import load_trained

BACKBONE = {**TINY, "model.name": "two_stream", "model.width": 1.0, "data.height": 48, "data.width": 32, "search.max_epoch": 1,
            "train.max_epoch": 1, "train.stepsize": [1], "train.num_batches": 2, "search.paths": 4}
arguments = functools.partial(commands.arguments, BACKBONE)


@pytest.mark.slow
@pytest.mark.parametrize("backbone, slots, method", [("timm:test_vit", 13, "paths"), ("timm:test_convnext", 13, "gradient")])
def test_a_backbone_of_timm_goes_from_search_to_zoo(data_root, tmp_path, backbone, slots, method, capsys):
    pytest.importorskip("timm")
    run = tmp_path / "run"
    keys = {"model.backbone": backbone, "search.method": method, "search.train_affine": True}
    assert main(arguments(data_root, run, **keys)) == 0
    architecture = Architecture.load(run / "architecture.json")
    assert len(architecture) == slots and architecture.space == "norm_split"
    assert (run / "figures" / "architecture.png").exists() and not (run / "architecture.cfg").exists()
    results = json.loads((run / "results.json").read_text())
    assert results["slots"] == slots and all(0 < row["mAP"] < 1 for row in results["results"])
    trained = load_trained(run)
    images = torch.rand(2, 3, 48, 32)
    for modality in ("visible", "infrared"):
        expected = trained.model(images, modality)
        torch.testing.assert_close(trained.network(modality)(images), expected, rtol=1e-3, atol=1e-4)
    assert main(["zoo", "add", str(run), "--name", "a_backbone"]) == 0
    assert f"backbone: {backbone}" in (run / "zoo.yaml").read_text()


@pytest.mark.parametrize("keys, words", [
    ({"model.backbone": "squeezenet1_0"}, ["model.backbone is squeezenet1_0", "no norm", "choose another one"]),
    ({"model.backbone": "osnet_x1_1"}, ['model.backbone is "osnet_x1_1"', "torchreid does not know"]),
    ({"model.backbone": "resnet18", "model.width": 0.5}, ["model.width is 0.5", "set model.width 1"]),
])
def test_a_backbone_that_does_not_fit_is_refused(data_root, tmp_path, capsys, keys, words):
    call = arguments(data_root, tmp_path / "run", "--stages", "train", **{"model.architecture": "split", **keys})
    error = refused(capsys, *call)
    assert all(word in error for word in words), error
    assert not (tmp_path / "run").exists()


def test_a_key_of_another_network_is_noted(data_root, tmp_path, capsys):
    keys = {"model.name": "two_stream_resnet18", "model.width": 0.125, "model.backbone": "resnet18",
            "model.architecture": "split"}
    assert main(arguments(data_root, tmp_path / "run", "--dry-run", "--stages", "train", **keys)) == 0
    assert "model.backbone (model.name is two_stream_resnet18)" in "".join(capsys.readouterr())
