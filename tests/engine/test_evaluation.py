"""How a test computes features: the model itself unless told otherwise, its deployed form with the same features."""
from __future__ import annotations

import copy
import shutil

import pytest
import torch
from tiny import TINY, TINY_CDNET, TINY_ECN
from torch.nn import functional as F

from torchreid_nas.config import load_config
from torchreid_nas.engine import EvaluationOptions, scoring
from torchreid_nas.metrics import evaluate_sysu_mm01, re_rank_features
from torchreid_nas.run.build import read_data, train_engine
from torchreid_nas.run.stages import Run

TASKS = {
    "cross-modality": (TINY, "split", "regdb"), "CDNet": (TINY_CDNET, "cdnet", "market1501"),
    "ECN": (TINY_ECN, "none", "market1501"),
}


def engine_of(task, data_root, folder):
    """An engine of that task after no training, its target's loaders, and their names."""
    config, architecture, target = TASKS[task]
    keys = {**config, "data.root": data_root, "data.save_dir": folder, "train.ema": 0.0}
    run = Run(load_config(None, [str(part) for item in keys.items() for part in item]))
    engine = train_engine(run.setup, architecture)
    # Statistics of images instead of a fresh network's.
    for data, _ in zip(engine.train_loader, range(2)):
        engine.model.train()
        with torch.no_grad():
            engine.model(data["img"] if "img" in data else data["source"]["img"])
    engine.datamanager = read_data(run.setup, [target])
    engine.test_loader = engine.datamanager.test_loader
    return engine, target


@pytest.mark.parametrize("task", TASKS)
@torch.no_grad()
def test_the_fast_form_has_the_features_of_the_model(task, data_root, tmp_path):
    engine, target = engine_of(task, data_root, tmp_path)
    loader = engine.test_loader[target]["query"]
    expected, *labels = engine.extract(loader)
    for precision, tolerance in (("fp32", 1e-4), ("bf16", 0.1)):
        engine.evaluation = EvaluationOptions(precision)
        found, *same = engine.extract(loader, engine._fast_forward())
        assert all((a == b).all() for a, b in zip(same, labels)) and len(found) == len(expected) == len(engine.features)
        for actual, reference in zip(found, expected):
            assert actual.dtype == torch.float32
            assert (actual - reference).norm() < tolerance * reference.norm()


def test_score_uses_the_fast_form_when_told_and_only_then(data_root, tmp_path, monkeypatch):
    engine, target = engine_of("cross-modality", data_root, tmp_path)
    asked = []
    original = type(engine).test_network
    monkeypatch.setattr(type(engine), "test_network", lambda self, model, modality, images: (
        asked.append((modality, tuple(images.shape[2:]))), original(self, model, modality, images))[1])
    state = copy.deepcopy(engine.model.state_dict())
    engine.test(normalize_feature=True)
    exact = engine.results[target]
    assert not asked
    engine.evaluation = EvaluationOptions("bf16")
    engine.test(normalize_feature=True)
    # One network per modality, whatever the number of batches.
    assert sorted(asked) == [("infrared", (48, 24)), ("visible", (48, 24))]
    for name, (mean, _) in engine.results[target].items():
        assert mean.mAP == pytest.approx(exact[name][0].mAP, abs=0.02)
    assert all(torch.equal(value, state[key]) for key, value in engine.model.state_dict().items())


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_blocks_skip_what_the_protocol_of_market1501_skips(data_root, tmp_path, monkeypatch, metric):
    engine, target = engine_of("CDNet", data_root, tmp_path)
    engine.test(dist_metric=metric)
    (expected, _), = engine.results[target].values()
    monkeypatch.setattr(engine, "matrix_bytes", 0)
    monkeypatch.setattr(scoring, "distance_matrix", None)
    engine.test(dist_metric=metric)
    (found, _), = engine.results[target].values()
    assert found.mAP == pytest.approx(expected.mAP, abs=1e-6) and found.cmc == pytest.approx(expected.cmc, abs=1e-6)
    assert found.num_valid_queries == expected.num_valid_queries


def test_features_of_a_mixed_batch_come_in_its_order(data_root, tmp_path):
    engine, _ = engine_of("cross-modality", data_root, tmp_path)
    images, modality = torch.rand(5, 3, 4, 4), torch.tensor([1, 0, 1, 1, 0])

    def forward(part, name):
        mean = part.mean((2, 3))
        return mean, mean + {"visible": 10, "infrared": 20}[name]

    mean, marked = engine.by_modality({"img": images, "modality": modality}, forward)
    torch.testing.assert_close(mean, images.mean((2, 3)).to(mean.device))
    torch.testing.assert_close(marked - mean, (10.0 + 10 * modality)[:, None].expand(-1, 3).to(mean.device))


def test_a_drawn_gallery_is_re_ranked_by_itself(data_root, tmp_path, monkeypatch):
    """Of a pool that holds far more images per identity neighbours would be found that the gallery does not have."""
    monkeypatch.setitem(TASKS, "SYSU-MM01", (TINY, "split", "sysu_mm01"))
    engine, target = engine_of("SYSU-MM01", data_root, tmp_path)
    engine.test(normalize_feature=True, rerank=True)
    loaders = engine.test_loader[target]
    (*_, query), q_pids, q_camids = engine.extract(loaders["query"])
    (*_, gallery), g_pids, g_camids = engine.extract(loaders["gallery"])
    expected = []
    for chosen in engine.datamanager.test_galleries(target):
        assert len(chosen) < len(gallery)
        distmat = re_rank_features(F.normalize(query), F.normalize(gallery[chosen]))
        expected.append(evaluate_sysu_mm01(distmat, q_pids, g_pids[chosen], q_camids, g_camids[chosen]).mAP)
    *_, (mean, _) = engine.results[target].values()
    assert mean.mAP == pytest.approx(sum(expected) / 10, abs=1e-6)


def test_a_pool_is_re_ranked_for_pictures_alone(data_root, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "SYSU-MM01", (TINY, "split", "sysu_mm01"))
    engine, target = engine_of("SYSU-MM01", data_root, tmp_path)
    pool = len(engine.datamanager.test_dataset[target]["gallery"])
    sizes, original = [], scoring.distance_matrix
    monkeypatch.setattr(scoring, "distance_matrix", lambda query, gallery, *options: (
        sizes.append(len(gallery)), original(query, gallery, *options))[1])
    engine.test(rerank=True)
    assert len(sizes) == 10 * len(engine.features) and max(sizes) < pool
    assert not (tmp_path / f"visrank_{target}").exists()
    engine.test(rerank=True, visrank=True, visrank_topk=2, save_dir=tmp_path)
    assert pool in sizes and any((tmp_path / f"visrank_{target}").iterdir())


def test_the_config_decides(tiny_config, data_root, tmp_path, monkeypatch):
    run = Run(tiny_config(**{"model.architecture": "split", "train.max_epoch": 1, "test.precision": "bf16"}))
    chosen = []
    original = run.setup.method.train_class.score
    monkeypatch.setattr(run.setup.method.train_class, "score", lambda self, *args, **kwargs: (
        chosen.append(self.evaluation), original(self, *args, **kwargs))[1])
    run.execute(["train", "test"])
    assert set(chosen) == {EvaluationOptions("bf16", False)}


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@torch.no_grad()
def test_compiled(data_root, tmp_path):
    engine, target = engine_of("ECN", data_root, tmp_path)
    loader = engine.test_loader[target]["query"]
    (expected,), *_ = engine.extract(loader)
    engine.evaluation = EvaluationOptions("fp32", compile=True)
    (found,), *_ = engine.extract(loader, engine._fast_forward())
    assert F.cosine_similarity(found, expected).min() > 1 - 1e-5


@torch.no_grad()
def test_flipped_features_are_the_mean_of_an_image_and_its_mirror_image(data_root, tmp_path):
    engine, target = engine_of("cross-modality", data_root, tmp_path)
    loaders = engine.test_loader[target]
    plain, *_ = engine.extract(loaders["query"])
    mirrored = [{**batch, "img": batch["img"].flip(-1)} for batch in loaders["query"]]
    mirror, *_ = engine.extract(mirrored)
    flipped, *_ = engine.extract(loaders["query"], flip=True)
    for one, other, both in zip(plain, mirror, flipped):
        assert not torch.equal(one, other)
        torch.testing.assert_close(both, (one + other) / 2)
    engine.score(target, loaders["query"], loaders["gallery"], "euclidean", True, False)
    unflipped = engine.results[target]
    engine.evaluation, engine.keeps_features = EvaluationOptions(flip=True), True
    engine.score(target, loaders["query"], loaders["gallery"], "euclidean", True, False)
    assert torch.equal(engine.scored[-1].query[-1], flipped[-1])
    assert engine.results[target]["after BNNeck"][0].mAP != unflipped["after BNNeck"][0].mAP
