"""Accuracy of networks on the data of a run, against the protocol applied by hand."""
import numpy as np
import pytest
import torch
from tiny import TINY_CDNET

from torchreid_nas.config import config_to_yaml
from torchreid_nas.errors import InputError
from torchreid_nas.export import RunData
from torchreid_nas.export.run_data import accuracy
from torchreid_nas.layers import MODALITIES
from torchreid_nas.metrics import evaluate_market1501


@pytest.fixture
def make_run(tiny_config, tmp_path):
    """A function from changes of the config to the data of such a run."""
    def make(**changes):
        (tmp_path / "config.yaml").write_text(config_to_yaml(tiny_config(**{**TINY_CDNET, **changes})))
        return RunData(tmp_path)
    return make


def colours(images):
    return images.mean((2, 3)) + torch.tensor([1.0, 0.0, 0.0])


@pytest.mark.parametrize(("metric", "normalize"), [("euclidean", True), ("euclidean", False), ("cosine", False)])
def test_accuracy_is_the_protocol_on_the_distances_that_the_config_says(make_run, metric, normalize):
    run_data = make_run(**{"test.dist_metric": metric, "test.normalize_feature": normalize})
    parts = []
    for part in ("query", "gallery"):
        batches = list(run_data.manager.test_loader["market1501"][part])
        features = np.concatenate([colours(batch["img"]).numpy() for batch in batches])
        labels = [torch.cat([batch[name] for batch in batches]).numpy() for name in ("pid", "camid")]
        parts.append((features, *labels))
    (query, q_pids, q_camids), (gallery, g_pids, g_camids) = parts
    if normalize or metric == "cosine":
        query, gallery = (features / np.linalg.norm(features, axis=1, keepdims=True) for features in (query, gallery))
    distances = 1 - query @ gallery.T if metric == "cosine" else ((query[:, None] - gallery) ** 2).sum(2)
    expected = evaluate_market1501(distances, q_pids, g_pids, q_camids, g_camids)
    found = accuracy(run_data, {None: colours})["market1501"]
    assert found.mAP == pytest.approx(expected.mAP, abs=1e-6)
    np.testing.assert_allclose(found.cmc, expected.cmc, atol=1e-6)


def test_the_images_of_each_modality_go_through_its_own_network(tiny_config, tmp_path):
    (tmp_path / "config.yaml").write_text(config_to_yaml(tiny_config()))
    run_data = RunData(tmp_path)
    seen = {modality: [] for modality in MODALITIES}

    def network(modality):
        def forward(images):
            seen[modality].append(images)
            return colours(images)
        return forward

    accuracy(run_data, {modality: network(modality) for modality in MODALITIES})
    parts = [part for name in run_data.manager.targets for part in run_data.manager.test_loader[name].values()]
    for index, modality in enumerate(MODALITIES):
        expected = [batch["img"][batch["modality"] == index] for part in parts for batch in part]
        assert torch.equal(torch.cat(seen[modality]), torch.cat(expected)) and len(seen[modality])


def test_every_image_of_a_run_with_one_modality_counts(make_run):
    run_data = make_run()
    paths = run_data.test_paths()
    assert len(paths) == len(set(paths)) > 0
    assert set(paths) == set(run_data.test_paths("visible")) and not run_data.test_paths("infrared")


def test_a_folder_without_a_config_is_no_run(tmp_path):
    with pytest.raises(InputError, match="no folder of a run"):
        RunData(tmp_path)
