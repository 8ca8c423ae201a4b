"""A loss, a backbone and a search space, each added by a file outside the package, run through the command line."""
from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchreid
from commands import arguments
from extending import toy_backbone, toy_loss, toy_space, toy_space_method
from tiny import TINY

from torchreid_nas.architecture import FORMATS, Architecture
from torchreid_nas.cli import main
from torchreid_nas.config import KEYS, load_config
from torchreid_nas.methods import METHODS
from torchreid_nas.report import read_history
from torchreid_nas.search import SPACES

SHORT = {**TINY, "train.max_epoch": 1, "train.num_batches": 1}


@pytest.fixture
def registries(monkeypatch):
    """The registries that a toy writes into, as they were before at the end."""
    factories, losses = vars(torchreid.models)["__model_factory"], vars(torchreid.losses)
    kept = [(registry, dict(registry)) for registry in (METHODS, KEYS, SPACES, FORMATS, factories)]
    names = set(losses)
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)
    for name in set(losses) - names:
        delattr(torchreid.losses, name)


def test_each_file_has_at_most_60_lines():
    for path in Path(__file__).parent.glob("toy_*.py"):
        assert len(path.read_text().splitlines()) <= 60, path.name


def test_the_loss_equals_a_loop_over_the_persons(registries):
    toy_loss.register()
    visible, infrared = torch.randn(6, 4), torch.randn(6, 4)
    expected = sum(
        (visible[start:start + 3].mean(0) - infrared[start:start + 3].mean(0)).square().sum() for start in (0, 3)
    ) / 2
    torch.testing.assert_close(torchreid.losses.CentreLoss(3)(visible, infrared), expected)


def test_the_loss_is_trained_with_by_its_key(registries, data_root, tmp_path):
    toy_loss.register()
    rows = []
    for weight in (0.0, 0.5):
        run = tmp_path / str(weight)
        config = {**SHORT, "model.name": "centre_resnet18", "model.architecture": "split", "loss.centre.weight": weight}
        assert main(arguments(config, data_root, run, "--stages", "train")) == 0
        rows.append(read_history(run / "train" / "history.jsonl")[-1])
    assert rows[0]["centre"] == 0 and rows[1]["centre"] > 0
    assert rows[0]["ce"] == pytest.approx(rows[1]["ce"]), "the first step sees the same weights and images"


def test_the_backbone_is_searched_trained_and_tested(registries, data_root, tmp_path):
    toy_backbone.register()
    assert torchreid.models.build_model("two_stream_four", num_classes=3, pretrained=False).feature_dim == 256
    run = tmp_path / "run"
    config = {**SHORT, "model.name": "two_stream_four", "search.max_epoch": 2, "search.paths": 4}
    assert main(arguments(config, data_root, run)) == 0
    assert Architecture.load(run / "architecture.json").slots == ("bn1", "bn2", "bn3", "bn4")
    assert len(json.loads((run / "results.json").read_text())["results"]) == 4


def test_the_space_is_searched_and_what_it_found_is_trained(registries, data_root, tmp_path):
    toy_space_method.register()
    run = tmp_path / "run"
    config = {**SHORT, "model.name": "pool_resnet18", "search.space": "pooling", "search.max_epoch": 2,
              "search.interval": 1}
    assert main(arguments(config, data_root, run)) == 0
    (_, choice), = Architecture.load(run / "architecture.json").choices
    assert choice in toy_space.POOLS and (run / "figures" / "architecture.png").exists()
    assert (run / "results.json").exists()


def test_the_derived_network_equals_the_supernet_at_that_choice(registries, data_root):
    toy_space_method.register()
    cfg = load_config(None, [str(part) for item in {**SHORT, "model.name": "pool_resnet18"}.items() for part in item])
    model = METHODS["pool"](cfg, torch.device("cpu")).build_model(3, "none")
    space = toy_space.PoolSpace()
    supernet = space.build_supernet(model).eval()
    with torch.no_grad():
        supernet.global_avgpool.logits.copy_(torch.tensor([-1e4, 1e4]))
        images = torch.randn(2, 3, 48, 24)
        found = space.derive_network(supernet)
        torch.testing.assert_close(found(images, "visible"), supernet(images, "visible"), rtol=0, atol=0)
    assert isinstance(found.global_avgpool, torch.nn.AdaptiveMaxPool2d)
