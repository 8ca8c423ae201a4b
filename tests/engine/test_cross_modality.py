"""CrossModalityEngine: the loss by hand, the evaluation by hand, and what must not leak between them."""
import copy

import numpy as np
import pytest
import torch
import torchreid
from torch.nn import functional as F

from torchreid_nas.engine import FEATURES
from torchreid_nas.errors import InputError
from torchreid_nas.layers import SplitBatchNorm2d
from torchreid_nas.losses import ClassMMDLoss, CorrelationConsistencyLoss, CrossModalityTripletLoss
from torchreid_nas.metrics import evaluate_regdb
from torchreid_nas.run.build import read_data, train_engine
from torchreid_nas.run.setup import RunSetup


@pytest.fixture
def engine(tiny_config):
    return train_engine(RunSetup.of(tiny_config()), "split")


def test_losses_are_the_weighted_terms_of_the_paper(engine):
    batch = next(iter(engine.train_loader))
    engine.model.train()
    reference = copy.deepcopy(engine.model)
    terms = engine.losses(batch)
    before, after = reference.features(batch["img"])
    v, t = after.chunk(2)
    torch.testing.assert_close(terms["ce"], F.cross_entropy(reference.classifier(after), batch["pid"]))
    torch.testing.assert_close(
        terms["triplet"], CrossModalityTripletLoss(0.4)(*before.chunk(2), batch["pid"].chunk(2)[0])
    )
    torch.testing.assert_close(
        terms["c3mmd"], 5.0 * CorrelationConsistencyLoss()(v, t) + 0.05 * ClassMMDLoss(2)(v, t)
    )
    assert "ce" not in engine.losses(batch, metric_only=True)


def test_a_batch_is_visible_then_infrared_in_the_same_identity_order(engine):
    batch = next(iter(engine.train_loader))
    assert batch["modality"].tolist() == [0] * 8 + [1] * 8
    assert batch["pid"][:8].tolist() == batch["pid"][8:].tolist()


def test_evaluation_sends_each_modality_through_its_own_branch(tiny_config):
    setup = RunSetup.of(tiny_config())
    data = read_data(setup, ["regdb"])
    engine = train_engine(setup, "split")
    for module in engine.model.modules():
        if isinstance(module, SplitBatchNorm2d):
            module.infrared.bias.data.add_(0.3)
    model = copy.deepcopy(engine.model).eval()
    engine.ema = None
    engine.datamanager, engine.test_loader = data, data.test_loader
    engine.test(normalize_feature=True)
    with torch.no_grad():
        sides = []
        for part, modality in (("query", "visible"), ("gallery", "infrared")):
            items = list(data.test_loader["regdb"][part].dataset)
            pair = model.features(torch.stack([item["img"] for item in items]), modality)
            sides.append(([F.normalize(f) for f in pair], np.array([item["pid"] for item in items])))
    (query, q_pids), (gallery, g_pids) = sides
    for index, name in enumerate(FEATURES):
        expected = evaluate_regdb((2 - 2 * query[index] @ gallery[index].T).numpy(), q_pids, g_pids)
        mean, std = engine.results["regdb"][name]
        np.testing.assert_allclose(mean.cmc, expected.cmc, atol=1 / len(q_pids) + 1e-9)
        assert mean.mAP == pytest.approx(expected.mAP, abs=1e-3)
        assert std["mAP"] == 0


def test_held_out_identities_are_retrieved_in_both_directions(tiny_config):
    engine = train_engine(RunSetup.of(tiny_config(**{"train.holdout": 0.25})), "split")
    for module in engine.model.modules():
        if isinstance(module, SplitBatchNorm2d):
            module.infrared.bias.data.normal_()
    found = engine.validate()
    model, sides = copy.deepcopy(engine.evaluated_model).eval(), []
    with torch.no_grad():
        for part, modality in (("query", "visible"), ("gallery", "infrared")):
            items = list(engine.datamanager.validation_loader[part].dataset)
            after = model.features(torch.stack([item["img"] for item in items]), modality)[1]
            sides.append((F.normalize(after), np.array([item["pid"] for item in items])))
    (query, q_pids), (gallery, g_pids) = sides
    distances = (2 - 2 * query @ gallery.T).numpy()
    forth, back = evaluate_regdb(distances, q_pids, g_pids), evaluate_regdb(distances.T, g_pids, q_pids)
    assert forth.mAP != pytest.approx(back.mAP, abs=1e-3)
    assert found["score"] == pytest.approx((forth.mAP + back.mAP) / 2, abs=1e-3)


@pytest.mark.parametrize("architecture", ["split", "share"])
def test_trains_with_layers_that_torchreid_keeps_fixed_at_first(tiny_config, tmp_path, architecture):
    engine = train_engine(RunSetup.of(tiny_config()), architecture)
    before = copy.deepcopy(engine.model.state_dict())
    engine.run(save_dir=tmp_path / "run", max_epoch=1, fixbase_epoch=1, open_layers=["bnneck", "classifier"])
    changed = {key for key, value in engine.model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and not any(key.startswith("backbone.") for key in changed)


def test_looking_at_held_out_identities_does_not_change_the_training(tiny_config, tmp_path):
    weights = []
    for freq in (1, 100):
        folder = tmp_path / str(freq)
        setup = RunSetup.of(tiny_config(**{"train.holdout": 0.25, "train.eval_freq": freq, "data.save_dir": folder}))
        engine = train_engine(setup, "split")
        engine.run(save_dir=folder, max_epoch=2)
        weights.append(copy.deepcopy(engine.model.state_dict()))
        assert engine.best_epoch > 0
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], rtol=0, atol=0)


def test_the_best_epoch_is_kept_not_the_last(tiny_config, tmp_path, monkeypatch):
    engine = train_engine(RunSetup.of(tiny_config(**{"train.holdout": 0.25, "train.eval_freq": 1})), "split")
    scores = iter([0.1, 0.9, 0.2])
    monkeypatch.setattr(engine, "validate", lambda: {"score": next(scores)})
    engine.run(save_dir=tmp_path / "run", max_epoch=3)
    assert torch.load(tmp_path / "run" / "model.pth", weights_only=True)["epoch"] == 2
    assert torch.load(tmp_path / "run" / "checkpoint.pth", weights_only=True)["epoch"] == 3


def test_what_the_model_froze_stays_frozen_through_torchreids_loop(tiny_config, tmp_path):
    setup = RunSetup.of(tiny_config())
    engine = train_engine(setup, "share")
    frozen = engine.model.backbone.conv1.weight
    engine._trainable["backbone.conv1.weight"] = False
    before = frozen.detach().clone()
    engine.run(save_dir=tmp_path / "run", max_epoch=1)
    torch.testing.assert_close(frozen, before, rtol=0, atol=0)


def test_divergence_is_an_error_and_keeps_the_last_checkpoint(tiny_config, tmp_path, monkeypatch):
    engine = train_engine(RunSetup.of(tiny_config()), "share")
    engine.run(save_dir=tmp_path / "run", max_epoch=1)
    losses = engine.losses
    monkeypatch.setattr(engine, "losses", lambda data: {k: v * float("nan") for k, v in losses(data).items()})
    with pytest.raises(InputError, match="became nan in epoch 2.*lower train.lr"):
        engine.run(save_dir=tmp_path / "run", max_epoch=2, start_epoch=1)
    assert torch.load(tmp_path / "run" / "checkpoint.pth", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize("amp", ["none", "bf16"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_precision_and_memory_format_change_little(tiny_config, amp, channels_last):
    batches, terms = [], []
    for options in ({}, {"train.amp": amp, "train.channels_last": channels_last}):
        engine = train_engine(RunSetup.of(tiny_config(**options)), "split")
        engine.epoch = 0
        engine.begin_epoch()
        engine.model.train()
        batches.append(next(iter(engine.train_loader)))
        terms.append(engine.losses(batches[-1]))
    torch.testing.assert_close(batches[0]["img"], batches[1]["img"])
    tolerance = 1e-4 if amp == "none" else 5e-2
    for name, value in terms[0].items():
        torch.testing.assert_close(terms[1][name], value, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_trains_and_evaluates_on_a_gpu(tiny_config, tmp_path, amp):
    engine = train_engine(RunSetup.of(tiny_config(device="cuda", **{"train.amp": amp, "train.channels_last": True})), "split")
    engine.run(save_dir=tmp_path / "run", max_epoch=2)
    assert next(engine.model.parameters()).is_cuda


def test_is_an_attribute_of_torchreid():
    from torchreid_nas.engine import CrossModalityEngine

    assert torchreid.engine.CrossModalityEngine is CrossModalityEngine
