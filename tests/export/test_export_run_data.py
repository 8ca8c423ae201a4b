"""Accuracy of networks on the data of a run with one modality, against the protocol applied by hand."""
import numpy as np
import pytest
import torch

from tiny import TINY_CDNET
from torchreid_nas.config import config_to_yaml
from torchreid_nas.errors import InputError
from torchreid_nas.export import RunData
from torchreid_nas.export.run_data import accuracy
from torchreid_nas.metrics import evaluate_market1501


@pytest.fixture
def run_data(tiny_config, tmp_path):
    (tmp_path / "config.yaml").write_text(config_to_yaml(tiny_config(**TINY_CDNET)))
    return RunData(tmp_path)


def colours(images):
    return images.mean((2, 3))


def test_accuracy_is_the_protocol_on_normalised_features(run_data):
    parts = []
    for part in ("query", "gallery"):
        batches = list(run_data.manager.test_loader["market1501"][part])
        features = np.concatenate([colours(batch["img"]).numpy() for batch in batches])
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
        labels = [torch.cat([batch[name] for batch in batches]).numpy() for name in ("pid", "camid")]
        parts.append((features, *labels))
    (query, q_pids, q_camids), (gallery, g_pids, g_camids) = parts
    distances = np.array([[((q - g) ** 2).sum() for g in gallery] for q in query])
    expected = evaluate_market1501(distances, q_pids, g_pids, q_camids, g_camids)
    found = accuracy(run_data, {None: colours})["market1501"]
    assert found.mAP == pytest.approx(expected.mAP, abs=1e-6)
    np.testing.assert_allclose(found.cmc, expected.cmc, atol=1e-6)


def test_every_image_of_such_a_run_counts(run_data):
    paths = run_data.test_paths()
    assert len(paths) == len(set(paths)) > 0
    assert set(paths) == set(run_data.test_paths("visible")) and not run_data.test_paths("infrared")


def test_a_folder_without_a_config_is_no_run(tmp_path):
    with pytest.raises(InputError, match="no folder of a run"):
        RunData(tmp_path)
