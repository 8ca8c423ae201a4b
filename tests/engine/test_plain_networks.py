"""torchreid's networks under the engines for two modalities and for adaptation."""
from __future__ import annotations

import pytest
import torch
import torchreid
from torch import nn

from torchreid_nas.data import CrossModalityDataManager, DomainAdaptationDataManager
from torchreid_nas.engine import AdaptationOptions, CrossModalityEngine, DomainAdaptationEngine
from torchreid_nas.errors import InputError
from torchreid_nas.layers import SplitBatchNorm2d, split_batchnorm

SIZE = {"height": 64, "width": 32, "workers": 0, "use_gpu": False}
NAMES = ["osnet_x0_25", "resnet18", "mobilenetv2_x1_0", "densenet121"]


def network(name, data, loss="triplet", split=False):
    model = torchreid.models.build_model(name, data.num_train_pids, loss=loss, pretrained=False, use_gpu=False)
    return split_batchnorm(model, "split") if split else model


def moved(model, before):
    return [name for name, value in model.named_parameters() if not torch.equal(value, before[name])]


def one_step(engine):
    before = {name: value.clone() for name, value in engine.model.named_parameters()}
    engine.epoch, engine.max_epoch, engine.batch_idx = 0, 1, 0
    engine.begin_epoch()
    engine.model.train()
    engine.forward_backward(next(iter(engine.train_loader)))
    return moved(engine.model, before)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.01)


@pytest.mark.parametrize("name, split", [*((name, False) for name in NAMES), ("osnet_x0_25", True), ("resnet18", True)])
def test_a_network_of_torchreid_trains_and_is_tested_across_modalities(name, split, data_root, tmp_path):
    data = CrossModalityDataManager(
        root=str(data_root), sources="regdb", targets="regdb", batch_size_train=8, num_instances=2, num_batches=1, **SIZE,
    )
    model = network(name, data, split=split)
    assert any(isinstance(module, SplitBatchNorm2d) for module in model.modules()) == split
    engine = CrossModalityEngine(data, model, sgd(model), num_instances=2)
    assert set(engine.losses(next(iter(data.train_loader)))) == {"ce", "triplet", "c3mmd"}
    assert one_step(engine)
    engine.test(normalize_feature=True)
    assert list(engine.results["regdb"]) == ["test feature"]


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_torchreid_adapts_to_a_target(name, data_root):
    data = DomainAdaptationDataManager(
        root=str(data_root), sources="dukemtmcreid", targets="market1501", load_train_targets=["market1501"],
        camstyle="none", batch_size_train=8, **SIZE,
    )
    model = network(name, data)
    engine = DomainAdaptationEngine(
        data, model, sgd(model), adaptation=AdaptationOptions(memory_init="features", num_neighbours=2, neighbour_epoch=0),
    )
    assert one_step(engine)
    assert engine.memory.features.norm(dim=1).min() > 0.9


def test_a_network_without_features_is_told_how_to_be_built(data_root):
    data = CrossModalityDataManager(
        root=str(data_root), sources="regdb", targets="regdb", batch_size_train=8, num_instances=2, num_batches=1, **SIZE,
    )
    for model in (network("resnet18", data, loss="softmax"), nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 32, 4))):
        engine = CrossModalityEngine(data, model, num_instances=2)
        with pytest.raises(InputError, match='needs logits and features from .*; build the network with loss="triplet"'):
            engine.losses(next(iter(data.train_loader)))
