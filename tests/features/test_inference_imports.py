"""Inference imports no training: seen from a process of its own."""
import subprocess
import sys

import pytest
import torch

from torchreid_nas.config import config_to_yaml, load_config
from torchreid_nas.files import save_checkpoint
from torchreid_nas.models import two_stream_resnet18

CODE = """
import sys
import numpy as np
import torchreid_nas

extractor = torchreid_nas.FeatureExtractor(sys.argv[1], sys.argv[2] or None, device="cpu", progress=False)
print(tuple(extractor(np.zeros((48, 24, 3), np.uint8)).shape))
print(*[name for name in sys.modules if name.startswith(("torchreid_nas.engine", "torchreid_nas.search"))])
"""


def printed(model, modality, **environment):
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(model), modality], capture_output=True, text=True, env={**environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def bare_run(tmp_path):
    """The folder of a run with random weights, which no training has made."""
    keys = ["model.name", "two_stream_resnet18", "model.width", "0.125", "model.architecture", "split", "data.height", "48",
            "data.width", "24"]
    (tmp_path / "run" / "train").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(config_to_yaml(load_config(None, keys)))
    model = two_stream_resnet18(3, "split", pretrained=False, width=0.125)
    save_checkpoint(tmp_path / "run" / "train" / "model.pth", {"state_dict": model.state_dict()})
    return tmp_path / "run"


def test_features_of_a_run_import_no_engine_and_no_search(bare_run):
    assert printed(bare_run, "infrared", PYTHONPATH=":".join(sys.path)) == ["(1, 64)", ""]


def test_features_of_the_zoo_import_no_engine_and_no_search(tmp_path):
    from torchreid_nas.models import cdnet_x0_25

    torch.save({"state_dict": cdnet_x0_25(3).state_dict()}, tmp_path / "weights.pth")
    (tmp_path / "zoo.yaml").write_text(f"""
name: mine
model: cdnet_x0_25
dataset: market1501
modality: visible
feature_dim: 384
height: 64
width: 32
format: ours
licence: for tests
source: {{kind: file, path: "{tmp_path / 'weights.pth'}"}}
""")
    lines = printed("zoo:mine", "", PYTHONPATH=":".join(sys.path), TORCHREID_NAS_ZOO=str(tmp_path / "zoo.yaml"))
    assert lines == ["(1, 384)", ""]
