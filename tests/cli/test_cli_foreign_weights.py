"""Weights that others made, tested and used for features and matching."""
import numpy as np
import pytest
import torch
import torchreid
import torchvision
from commands import arguments, refused
from tiny import TINY_CDNET

from torchreid_nas.cli import main
from torchreid_nas.files import read_json

SIZE = ["--height", "64", "--width", "32", "--device", "cpu"]


@pytest.fixture
def headless(tmp_path):
    """Weights of torchreid's smallest OSNet without its classifier, under an entry and a prefix of others."""
    torch.manual_seed(0)
    model = torchreid.models.build_model("osnet_x0_25", 3, pretrained=False)
    state = {f"module.{key}": value for key, value in model.state_dict().items() if "classifier" not in key}
    torch.save({"epoch": 1, "net": state}, tmp_path / "headless.pth")
    return tmp_path / "headless.pth"


def test_weights_without_a_classifier_are_tested(headless, data_root, tmp_path):
    keys = {"model.name": "osnet_x0_25", "model.width": 1, "model.architecture": "none", "model.load_weights": headless}
    assert main(arguments(TINY_CDNET, data_root, tmp_path / "run", "--stages", "test", **keys)) == 0
    assert 0 < read_json(tmp_path / "run" / "results.json")["results"][0]["mAP"] < 1


def test_torchreids_imagenet_weights_are_tested_by_their_name_in_the_zoo(data_root, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("TORCHREID_NAS_OFFLINE", "1")
    (tmp_path / "checkpoints").mkdir()
    state = torchreid.models.build_model("osnet_x0_25", 1000, pretrained=False).state_dict()
    torch.save(state, tmp_path / "checkpoints" / "osnet_x0_25_imagenet.pth")
    keys = {"model.name": "osnet_x0_25", "model.width": 1, "model.architecture": "none", "model.load_weights": "zoo:osnet_x0_25"}
    assert main(arguments(TINY_CDNET, data_root, tmp_path / "run", "--stages", "test", **keys)) == 0
    assert read_json(tmp_path / "run" / "results.json")["zoo"] == "osnet_x0_25"


def test_features_and_matches_of_a_file_of_weights(headless, data_root, tmp_path, capsys):
    query = next(data_root.rglob("query"))
    out = tmp_path / "features.npz"
    model = ["--model", "osnet_x0_25", "--weights", headless, *SIZE]
    assert main(list(map(str, ["features", query, *model, "--out", out]))) == 0
    assert "features of length 512" in capsys.readouterr().out
    assert main(list(map(str, ["match", out, query, *model, "--top", "1"]))) == 0
    assert "an image with itself" in capsys.readouterr().out


def test_features_of_torchvisions_imagenet_file(data_root, tmp_path):
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), tmp_path / "mobilenet_v2.pth")
    query = next(data_root.rglob("query"))
    call = ["features", query, "--model", "mobilenetv2_x1_0", "--weights", tmp_path / "mobilenet_v2.pth", *SIZE]
    assert main(list(map(str, [*call, "--out", tmp_path / "f.npz"]))) == 0
    with np.load(tmp_path / "f.npz") as file:
        assert file["features"].shape[1] == 1280


@pytest.mark.parametrize("model, words", [
    ("osnet_x1_0", ["of another model", "headless.pth"]), ("osnet_x025", ['did you mean "osnet_x0_25"']),
    ("two_stream_resnet18", ["of another model"]),
])
def test_weights_of_another_model_are_refused(model, words, headless, data_root, capsys):
    error = refused(capsys, "features", data_root, "--model", model, "--weights", headless)
    assert all(word in error for word in words)


def test_a_file_of_weights_as_the_model_names_the_option(headless, data_root, capsys):
    assert "--weights" in refused(capsys, "features", data_root, "--model", headless)
