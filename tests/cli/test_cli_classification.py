"""Classification by the command line: search, training and test on CIFAR's files, resumption, and a re-ID that starts from it."""
from __future__ import annotations

import json

import pytest
import torch
from cifar import write_cifar100
from commands import arguments, refused
from PIL import Image
from tiny import EXACT, PLAIN, TINY_CDNET

from torchreid_nas.cli import main
from torchreid_nas.config import load_config
from torchreid_nas.engine import ClassificationEngine
from torchreid_nas.methods import make_method

TINY_CIFAR = {
    **EXACT, **PLAIN, "task": "classification", "model.name": "cdnet", "model.width": 0.125,
    "model.pretrained": False, "model.small_images": True,
    "data.sources": ["cifar100"], "data.targets": ["cifar100"], "data.height": 16, "data.width": 16,
    "data.workers": 0, "data.transforms": ["random_flip", "pad_crop", "cutout"], "classification.cutout": 4,
    "train.batch_size": 8, "train.max_epoch": 2, "train.lr": 0.002, "train.staged_lr": False, "train.warmup_epochs": 0,
    "train.ema": 0.0, "train.stepsize": [1], "search.space": "combined_depth", "search.max_epoch": 1,
    "search.warmup_epochs": 0, "search.interval": 1, "search.val_images": 2,
}


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar")
    write_cifar100(root, images=32, classes=8)
    return root


@pytest.fixture(scope="module")
def trained(cifar, tmp_path_factory):
    """The folder of a run with all stages."""
    folder = tmp_path_factory.mktemp("runs") / "classes"
    assert main(arguments(TINY_CIFAR, cifar, folder)) == 0
    return folder


def test_cifar_is_searched_trained_and_tested(trained, capsys):
    row, = json.loads((trained / "results.json").read_text())["results"]
    assert row["protocol"].startswith("top-k accuracy, 8 classes, files in the layout of CIFAR-100")
    assert 0 <= row["top1"] <= row["top5"] <= 1 and row["num_valid_queries"] == 8 and row["ranks"] == []
    assert (trained / "architecture.json").exists() and (trained / "figures" / "training.png").exists()
    assert main(["report", str(trained)]) == 0
    said = capsys.readouterr().out
    assert "top-1" in said and "top-5" in said and "images" in said and "Rank-1" not in said
    assert f"model.pretrained {trained}" in said
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "top-1 on cifar100: " in page and "Rank-1" not in page and "not all is shown" not in page
    assert main(["verify", str(trained), "--full"]) == 0


def test_compare_gives_the_interval_of_top_1_and_refuses_scores_of_a_ranking(trained, tmp_path, capsys):
    row, = json.loads((trained / "results.json").read_text())["results"]
    assert main(["compare", str(trained), "--resamples", "200", "--out", str(tmp_path / "compared")]) == 0
    estimates = json.loads((tmp_path / "compared" / "compare.json").read_text())["tables"]
    assert [table["score"] for table in estimates] == ["top1"]
    (found,) = estimates[0]["estimates"].values()
    assert found["mean"] == row["top1"] and found["low"] <= found["mean"] <= found["high"]
    assert "has no scores of mAP; expected top1, top5" in refused(capsys, "compare", trained, "--scores", "mAP")


def test_a_killed_training_goes_on_to_the_same_results(trained, cifar, tmp_path, monkeypatch):
    def killed(engine, folder):
        saved(engine, folder)
        raise KeyboardInterrupt

    call = arguments(TINY_CIFAR, cifar, tmp_path / "run", "--stages", "train,test", "--resume")
    call += ["model.architecture", str(trained / "architecture.json")]
    saved = ClassificationEngine.save_checkpoint
    monkeypatch.setattr(ClassificationEngine, "save_checkpoint", killed)
    assert main(call) == 130
    monkeypatch.setattr(ClassificationEngine, "save_checkpoint", saved)
    assert main(call) == 0
    own, whole = (json.loads((folder / "results.json").read_text())["results"] for folder in (tmp_path / "run", trained))
    assert own == whole
    states = [torch.load(folder / "train" / "model.pth")["state_dict"] for folder in (tmp_path / "run", trained)]
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


def test_a_reid_starts_from_the_folder_of_the_run(trained):
    keys = {
        **TINY_CDNET, "model.small_images": True, "model.architecture": trained / "architecture.json",
        "model.pretrained": trained,
    }
    cfg = load_config(None, [str(part) for item in keys.items() for part in item])
    network = make_method(cfg, torch.device("cpu")).build_model(11, cfg.model.architecture)
    theirs = torch.load(trained / "train" / "model.pth")["state_dict"]
    taken = [key for key, value in network.state_dict().items() if value.shape == theirs[key].shape and value.is_floating_point()]
    assert all(torch.equal(network.state_dict()[key], theirs[key]) for key in taken)
    left = set(network.state_dict()) - set(taken)
    assert all("classifier" in key or key.endswith("num_batches_tracked") for key in left)


def test_a_network_of_torchreid_trains_on_a_folder_of_classes(tmp_path, capsys):
    for name, colour in (("blue", (0, 0, 200)), ("red", (200, 0, 0)), ("grey", (90, 90, 90))):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (40, 40), colour).save(tmp_path / "colours" / name / f"{number}.png")
    call = arguments(
        TINY_CIFAR, tmp_path, tmp_path / "run", "--stages", "train,test", **{
            "model.name": "osnet_x0_25", "model.width": 1.0, "model.architecture": "none", "model.small_images": False,
            "data.sources": ["colours"], "data.targets": ["colours"], "data.height": 32, "data.width": 32,
            "data.transforms": ["resized_crop"], "train.holdout": 0.3, "train.max_epoch": 1,
        },
    )
    assert main(call) == 0
    row, = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert row["num_valid_queries"] == 3 and "top5" not in row
    parts = json.loads((tmp_path / "run" / "data.json").read_text())["parts"]
    assert [(name, part["images"], part["identities"]) for name, part in parts.items()] == [
        ("train of colours", 12, 3), ("test of colours", 3, 3),
    ]
    history = json.loads((tmp_path / "run" / "train" / "history.jsonl").read_text())
    assert 0 <= history["validation_score"] <= 1
    # An image that went missing is noticed by a run that goes on.
    (tmp_path / "colours" / "red" / "4.png").unlink()
    (tmp_path / "run" / "results.json").unlink()
    assert "the train of colours is not what the run in" in refused(capsys, *call, "--resume")


@pytest.mark.parametrize(("changes", "more", "message"), [
    ({"data.sources": ["market1501"]}, (), "is a data set of persons"),
    ({"data.sources": ["nothing"]}, (), 'no folder of classes "'),
    ({"data.transforms": ["random_patch"]}, (), 'no transform "random_patch" for task classification'),
    ({}, ("--trials", "all"), "task classification has none"),
    ({"task": "reid"}, (), "classification.cutout is 4, which task reid would not heed"),
])
def test_a_mistake_is_one_sentence_and_leaves_no_folder(capsys, cifar, tmp_path, changes, more, message):
    assert message in refused(capsys, *arguments(TINY_CIFAR, cifar, tmp_path / "run", *more, **changes))
    assert not (tmp_path / "run" / "train").exists()


def test_classes_are_no_persons_of_a_reid(capsys, cifar, tmp_path):
    call = arguments(TINY_CDNET, cifar, tmp_path / "run", **{"data.sources": ["cifar100"]})
    assert '"cifar100" is a data set of classes, and task is reid' in refused(capsys, *call)
