"""A data set added by one file outside the package is trained and tested by its own protocol, and results say so."""
from __future__ import annotations

import json

import numpy as np
import pytest
import torchreid
from commands import arguments
from extending import toy_data_set
from PIL import Image
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.data import CrossModalityDataManager, dataset_facts
from torchreid_nas.data.loading import load_dataset
from torchreid_nas.host import IMAGE_DATASETS
from torchreid_nas.metrics import rank_queries

OPTIONS = {"split_id": 0, "gallery_draw": "random", "shot": 1}


@pytest.fixture
def campus(tmp_path, monkeypatch):
    """A root with the campus, and the data set in torchreid's registry."""
    for name in ("campus", "campus_evening"):
        monkeypatch.setitem(IMAGE_DATASETS, name, None)
        monkeypatch.delitem(IMAGE_DATASETS, name)
    toy_data_set.register()
    for part, seed in (("train", 0), ("test", 1)):
        for camera in toy_data_set.CAMERAS:
            for identity in range(10):
                for number in range(3):
                    path = tmp_path / "campus" / part / camera / f"{identity}_{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    pixels = np.random.default_rng([seed, identity, number]).integers(0, 256, (24, 12, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(path)
    yield tmp_path
    for name in ("campus", "campus_evening"):
        IMAGE_DATASETS.pop(name, None)


def test_the_look_up_reads_class_and_partial_alike(campus):
    for name in ("campus", "campus_evening"):
        facts = dataset_facts(name)
        assert facts.protocol is toy_data_set.Campus.protocol and facts.options == {"split_id"}
        assert (facts.num_splits, facts.draws_gallery, facts.stand_in) == (2, False, "")
        assert facts.modalities == ("visible", "infrared")
    assert load_dataset("campus_evening", {"root": str(campus), **OPTIONS}).describe("x") == "Campus, 20 o'clock, split 0"


def test_the_command_trains_and_tests_it_by_its_protocol(campus, tmp_path, capsys):
    run = tmp_path / "run"
    config = {**TINY, "data.sources": ["campus"], "data.targets": ["campus", "campus_evening"], "model.architecture": "split",
              "train.max_epoch": 1, "train.num_batches": 1, "train.batch_size": 8, "data.split_id": 1, "test.shot": 1}
    assert main(arguments(config, campus, run, "--stages", "train,test")) == 0
    rows = json.loads((run / "results.json").read_text())["results"]
    assert {(row["dataset"], row["protocol"], row["direction"]) for row in rows} == {
        ("campus", "Campus, 9 o'clock, split 1", "infrared → visible"),
        ("campus_evening", "Campus, 20 o'clock, split 1", "infrared → visible"),
    }
    assert {row["num_valid_queries"] for row in rows} == {27}
    note = next(line for line in capsys.readouterr().out.splitlines() if "without effect" in line)
    assert "data.split_id" not in note


def test_several_splits_run_as_trials(campus, tmp_path):
    run = tmp_path / "run"
    config = {**TINY, "data.sources": ["campus"], "data.targets": ["campus"], "model.architecture": "split",
              "train.max_epoch": 1, "train.num_batches": 1, "train.batch_size": 8}
    assert main(arguments(config, campus, run, "--stages", "train,test", "--trials", "all")) == 0
    for split in (0, 1):
        (row, *_) = json.loads((run / f"split_{split}" / "results.json").read_text())["results"]
        assert row["protocol"] == f"Campus, 9 o'clock, split {split}"


@pytest.mark.parametrize("matrix_bytes", [2**30, 0])
def test_its_rule_is_in_force_from_a_matrix_and_by_blocks(campus, matrix_bytes):
    import torch

    from torchreid_nas.engine import RetrievalEngine, TrainingOptions

    class Mean(torch.nn.Module):
        def forward(self, images):
            return images.mean(dim=3).flatten(1)

    data = CrossModalityDataManager(
        str(campus), "campus", height=24, width=12, batch_size_train=8, num_instances=2, workers=0, cache="off",
    )
    engine = RetrievalEngine(data, Mean(), options=TrainingOptions())
    engine.matrix_bytes = matrix_bytes
    engine.test()
    ((found, _),) = engine.results["campus"].values()
    (query, q_pids, q_camids), (gallery, g_pids, g_camids) = map(engine.extract, data.test_loader["campus"].values())
    distmat = torchreid.metrics.compute_distance_matrix(query[0], gallery[0])
    expected = rank_queries(
        distmat, q_pids, g_pids, excluded=lambda span: (q_camids[span] == 2)[:, None] & (g_camids == 1),
        unique_identities=True,
    )
    plain = rank_queries(distmat, q_pids, g_pids)
    assert found.mAP == pytest.approx(expected.mAP, abs=1e-6) and found.mAP != pytest.approx(plain.mAP, abs=1e-3)
    np.testing.assert_allclose(found.cmc, expected.cmc, atol=1e-12)
