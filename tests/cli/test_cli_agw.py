"""The configs of AGW, CAJ and CAJ × CM-NAS from the command line, on tiny generated data."""
from __future__ import annotations

import json

import pytest
import torch
from commands import arguments, refused
from tiny import EXACT

from torchreid_nas.cli import main
from torchreid_nas.config import load_config
from torchreid_nas.device import find_device
from torchreid_nas.methods import make_method

SMALL = {
    **EXACT, "model.name": "agw_resnet18", "model.width": 0.125, "model.pretrained": False, "data.height": 48, "data.width": 24,
    "data.workers": 0, "sampler.num_instances": 2, "train.batch_size": 16, "train.num_batches": 2, "train.max_epoch": 2,
    "train.lr": 0.01, "train.warmup_epochs": 1, "train.stepsize": [2], "search.max_epoch": 2, "search.paths": 6,
    "test.num_trials": 2,
}
"""The sizes of a tiny training; losses, batches, augmentation and optimiser stay those of the config."""
NAMES = [f"{kind}_{data}" for kind in ("agw", "caj", "caj_cmnas") for data in ("sysu", "regdb", "llcm")]


@pytest.mark.parametrize("name", NAMES)
def test_a_config_has_the_authors_schedule(name):
    cfg = load_config(name)
    rates = cfg.train.lr, cfg.train.base_lr_mult, cfg.train.stepsize, cfg.train.max_epoch, cfg.sgd.nesterov, cfg.train.optim
    assert rates == (0.1, 0.1, [20, 50], 100, True, "sgd")
    assert (cfg.data.height, cfg.data.width, cfg.train.batch_size, cfg.sampler.num_instances) == (288, 144, 64, 4)
    assert cfg.model.architecture == ("search" if "cmnas" in name else "stages-stem")
    assert cfg.loss.triplet.kind == ("weighted" if name.startswith("agw") else "squared_difference")
    assert cfg.test.flip == name.startswith("caj")


@pytest.mark.parametrize("name, stages", [
    ("agw_sysu", "train,test"), ("caj_regdb", "train,test"), ("caj_cmnas_regdb", "search,train,test"),
])
def test_a_config_trains_and_tests_as_typed(name, stages, data_root, tmp_path, capsys):
    small = arguments(SMALL, data_root, tmp_path / "run")
    chosen = ["--stages", stages]
    assert main(["--config", name, *chosen, "--dry-run", *small]) == 0
    assert "nothing was trained" in capsys.readouterr().out and not (tmp_path / "run").exists()
    assert main(["--config", name, *chosen, *small]) == 0
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert all(0 < row["mAP"] < 1 for row in rows)
    state = torch.load(tmp_path / "run" / "train" / "model.pth", weights_only=True)["state_dict"]
    assert "backbone.conv1.infrared.weight" in state and any(key.startswith("backbone.NL_3.1.W.1.") for key in state)


def test_a_search_by_gradients_takes_batches_of_two_visible_copies(data_root, tmp_path):
    keys = {**SMALL, "search.method": "gradient", "search.warmup_epochs": 1, "search.interval": 1}
    small = arguments(keys, data_root, tmp_path / "run")
    assert main(["--config", "caj_cmnas_regdb", "--stages", "search", *small]) == 0
    history = [json.loads(line) for line in (tmp_path / "run" / "search" / "history.jsonl").read_text().splitlines()]
    assert len(history) == 2 and len(history[0]["probabilities"]) == 24


@pytest.mark.parametrize("keys, message", [
    ({"model.separate": "convolutions"}, "model.separate is convolutions, which model.name agw_resnet18, whose stem alone is"),
    ({"data.channels.infrared": "grey"}, "data.channels.infrared to 'grey', expected one of"),
    ({"loss.triplet.kind": "weigthed"}, "loss.triplet.kind to 'weigthed', expected one of"),
    ({"data.random_erase.fill": [0.5]}, "data.random_erase.fill to [0.5], expected three values, or none"),
])
def test_a_bad_key_is_one_sentence(keys, message, data_root, tmp_path, capsys):
    line = refused(
        capsys, "--config", "caj_regdb", "--stages", "train", "--dry-run", *arguments(SMALL, data_root, tmp_path / "run", **keys),
    )
    assert message in line


def test_what_has_no_effect_is_said():
    from torchreid_nas.methods.effects import without_effect

    cfg = load_config("caj_regdb")
    said = without_effect(cfg, ["loss.triplet.margin", "loss.triplet.gamma", "data.channels.infrared", "model.separate"])
    assert said == "loss.triplet.margin (loss.triplet.kind is squared_difference); model.separate (model.name is agw_resnet50)"
    assert make_method(cfg, find_device("cpu")).model_options()["last_stride"] == 1
