"""BalanceNeckEngine: sums over branches by hand, evaluation by hand, and torchreid's own models under it."""
import copy
import logging

import numpy as np
import pytest
import torch
import torchreid
from tiny import TINY_CDNET
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.metrics import evaluate_market1501
from torchreid_nas.run.build import train_engine
from torchreid_nas.run.setup import RunSetup


def setup_of(tiny_config, **changes):
    return RunSetup.of(tiny_config(**{**TINY_CDNET, "model.architecture": "cdnet", "model.dropout": 0.0, **changes}))


@pytest.mark.parametrize("neck, branches", [("fblneck", 2), ("blneck", 1)])
def test_losses_are_summed_over_the_branches(tiny_config, neck, branches):
    weights = {"loss.triplet.weight_x": 0.5, "loss.triplet.weight_t": 3.0}
    engine = train_engine(setup_of(tiny_config, **{"model.neck": neck, **weights}))
    batch = next(iter(engine.train_loader))
    engine.model.train()
    reference = copy.deepcopy(engine.model)
    terms = engine.losses(batch)
    logits, features = reference(batch["img"])
    assert len(logits) == len(features) == branches
    triplet = torchreid.losses.TripletLoss(margin=0.3)
    torch.testing.assert_close(terms["ce"], 0.5 * sum(F.cross_entropy(branch, batch["pid"]) for branch in logits))
    torch.testing.assert_close(terms["triplet"], 3 * sum(triplet(branch, batch["pid"]) for branch in features))
    assert set(engine.losses(batch, metric_only=True)) == {"triplet"}


def test_evaluation_is_the_market_protocol_on_the_concatenated_feature(tiny_config):
    setup = setup_of(tiny_config)
    data = setup.method.data(["market1501"])
    engine = train_engine(setup)
    model = copy.deepcopy(engine.model).eval()
    engine.datamanager, engine.test_loader = data, data.test_loader
    engine.test(normalize_feature=True)
    sides = []
    with torch.no_grad():
        for part in ("query", "gallery"):
            items = list(data.test_loader["market1501"][part].dataset)
            feature = F.normalize(model(torch.stack([item["img"] for item in items])))
            sides.append((feature, *(np.array([item[key] for item in items]) for key in ("pid", "camid"))))
    (query, q_pids, q_camids), (gallery, g_pids, g_camids) = sides
    expected = evaluate_market1501((2 - 2 * query @ gallery.T).numpy(), q_pids, g_pids, q_camids, g_camids)
    mean, _ = engine.results["market1501"]["test feature"]
    assert mean.mAP == pytest.approx(expected.mAP, abs=1e-3)
    assert mean.num_valid_queries == expected.num_valid_queries == len(q_pids)


def test_torchreids_own_models_train_with_the_same_recipe(tiny_config, tmp_path):
    engine = train_engine(setup_of(tiny_config, **{"model.name": "osnet_x0_25", "model.architecture": "none", "model.width": 1}))
    before = engine.model.conv1.conv.weight.detach().clone()
    engine.run(save_dir=tmp_path / "run", max_epoch=1)
    assert not torch.equal(engine.model.conv1.conv.weight, before)


def test_held_out_identities_choose_the_best_epoch(tiny_config, tmp_path):
    engine = train_engine(setup_of(tiny_config, **{"train.holdout": 0.3, "train.eval_freq": 1}))
    assert engine.datamanager.num_train_pids == 6
    engine.run(save_dir=tmp_path / "run", max_epoch=2)
    assert engine.best_epoch in (1, 2) and 0 < engine.best_score <= 1


def stock_data(data_root):
    """torchreid's own data manager."""
    return torchreid.data.ImageDataManager(
        root=str(data_root), sources="market1501", height=64, width=32, batch_size_train=8, workers=0, use_gpu=False,
        train_sampler="RandomIdentitySampler", num_instances=2,
    )


def test_the_readmes_script_of_stock_torchreid_parts(data_root, tmp_path, capsys):
    data = stock_data(data_root)
    model = torchreid.models.build_model("cdnet_x0_25", num_classes=data.num_train_pids, loss="triplet", pretrained=False)
    optimizer = torchreid.optim.build_optimizer(model, optim="sgd", lr=0.065)
    scheduler = torchreid.optim.build_lr_scheduler(optimizer, lr_scheduler="multi_step", stepsize=[1])
    engine = torchreid.engine.ImageTripletEngine(
        data, model, optimizer, margin=0.3, scheduler=scheduler, use_gpu=False
    )
    before = model.backbone.stem.conv.weight.detach().clone()
    engine.run(save_dir=str(tmp_path), max_epoch=1, normalize_feature=True)
    assert "mAP" in capsys.readouterr().out
    assert not torch.equal(model.backbone.stem.conv.weight, before)


def test_in_a_script_of_ones_own_it_says_what_it_reached(data_root, tmp_path, capsys, caplog):
    data = stock_data(data_root)
    model = torchreid.models.build_model("cdnet_x0_25", num_classes=data.num_train_pids, loss="triplet", pretrained=False)
    engine = torchreid.engine.BalanceNeckEngine(data, model)
    engine.run(save_dir=str(tmp_path), test_only=True, ranks=[1, 7, 10**6])
    mean, _ = engine.results["market1501"]["test feature"]
    # A rank beyond the curve, of which torchreid's engines crash, is left out.
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"test feature:  Rank-1 {mean.cmc[0]:.1%}  Rank-7 {mean.cmc[6]:.1%}  mAP {mean.mAP:.1%}  mINP {mean.mINP:.1%}"
    )
    # A script that wants warnings alone gets them.
    caplog.set_level(logging.WARNING, "torchreid_nas")
    engine.run(save_dir=str(tmp_path), test_only=True)
    assert "Rank-1" not in capsys.readouterr().out


def test_another_metric_is_refused_rather_than_ignored(data_root, tmp_path):
    model = torchreid.models.build_model("osnet_x0_25", num_classes=4, pretrained=False)
    engine = torchreid.engine.BalanceNeckEngine(stock_data(data_root), model)
    with pytest.raises(InputError, match="no single-gallery-shot metric .use_metric_cuhk03. for market1501; leave it out"):
        engine.run(save_dir=str(tmp_path), test_only=True, use_metric_cuhk03=True)


@pytest.mark.parametrize("name", ["cdnet_x0_25", "osnet_x0_25"])
def test_logits_of_two_branches_do_not_pass_for_logits_and_features(data_root, tmp_path, name):
    data = stock_data(data_root)
    model = torchreid.models.build_model(name, num_classes=data.num_train_pids, pretrained=False)
    optimizer = torchreid.optim.build_optimizer(model, optim="sgd")
    engine = torchreid.engine.BalanceNeckEngine(data, model, optimizer)
    with pytest.raises(InputError, match='built with loss="softmax".*build it with loss="triplet"'):
        engine.run(save_dir=str(tmp_path), max_epoch=1)


def test_a_network_that_breaks_on_channels_last_is_told_apart(tiny_config, tmp_path):
    engine = train_engine(setup_of(tiny_config, **{
        "model.name": "pcb_p4", "model.architecture": "none", "model.width": 1, "train.channels_last": True,
        "train.num_batches": 1,
    }))
    with pytest.raises(InputError, match="PCB cannot be computed in channels-last .*set train.channels_last False"):
        engine.run(save_dir=tmp_path / "run", max_epoch=1)
