"""Trained models by the folder of their run, by their name, or from a module at hand."""
import functools
import shutil
from pathlib import Path

import commands
import pytest
import torch
from tiny import TINY, TINY_CDNET
from torch import nn

from torchreid_nas.architecture import Architecture
from torchreid_nas.cli import main
from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.files import read_json
from torchreid_nas.layers import SplitBatchNorm2d
from torchreid_nas.models import two_stream_resnet18
from torchreid_nas.zoo.trained import load_trained

arguments = functools.partial(commands.arguments, TINY)


@pytest.fixture(scope="module")
def searched(data_root, tmp_path_factory):
    """A run with a searched architecture and a normalisation of its own."""
    folder = tmp_path_factory.mktemp("searched") / "run"
    keys = {"search.max_epoch": 2, "train.max_epoch": 1, "data.norm_mean": [0.4, 0.5, 0.6]}
    assert main(arguments(data_root, folder, "--stages", "search,train", **keys)) == 0
    return folder


@pytest.fixture
def images():
    return torch.rand(3, 3, 48, 24, generator=torch.Generator().manual_seed(0))


def reference(folder, images, modality):
    """Features of the run's network, built by hand."""
    model = two_stream_resnet18(16, Architecture.load(folder / "architecture.json"), pretrained=False, width=0.125)
    state = torch.load(folder / "train" / "model.pth", weights_only=True)["state_dict"]
    state["classifier.weight"] = model.classifier.weight.detach()
    model.load_state_dict(state)
    with torch.no_grad():
        return model.eval()(images, modality)


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_a_run_is_loaded_with_its_own_architecture_and_weights(searched, images, modality):
    trained = load_trained(searched)
    assert (trained.height, trained.width, trained.feature_dim) == (48, 24, 64)
    assert trained.modalities == ("visible", "infrared") and not trained.model.training
    assert trained.norm_mean == (0.4, 0.5, 0.6) and trained.norm_std == (0.229, 0.224, 0.225)
    assert trained.name == str(searched)
    network = trained.network(modality)
    torch.testing.assert_close(network(images), reference(searched, images, modality), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, (SplitBatchNorm2d, nn.BatchNorm2d)) for module in network.modules())


def test_the_network_is_not_the_model(searched, images):
    trained = load_trained(searched)
    before = trained.network("visible")(images)
    for parameter in trained.network("visible").parameters():
        parameter.data.zero_()
    torch.testing.assert_close(trained.network("visible")(images), before, rtol=0, atol=0)


def test_a_moved_run_is_read_where_it_is_now(searched, images, tmp_path):
    moved = Path(shutil.copytree(searched, tmp_path / "elsewhere"))
    config = load_config(moved / "config.yaml")
    assert Path(config.data.save_dir) != moved
    first, second = (load_trained(folder).network("infrared")(images) for folder in (searched, moved))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_run_made_on_a_gpu_is_loaded_on_a_machine_without(searched, tmp_path):
    moved = Path(shutil.copytree(searched, tmp_path / "moved"))
    config = moved / "config.yaml"
    config.write_text(config.read_text().replace("device: ''", "device: cuda"))
    assert load_config(config).device == "cuda"
    assert next(load_trained(moved).model.parameters()).device.type == "cpu"


def test_a_run_of_one_modality(data_root, tmp_path, images):
    call = commands.arguments(
        TINY_CDNET, data_root, tmp_path / "run", "--stages", "train",
        **{"model.architecture": "cnet", "train.max_epoch": 1},
    )
    assert main(call) == 0
    trained = load_trained(tmp_path / "run")
    assert trained.modalities == () and trained.feature_dim == 320
    assert trained.network()(torch.rand(2, 3, 64, 32)).shape == (2, 320)
    with pytest.raises(InputError, match="one network for all images.*leave the modality out"):
        trained.network("visible")


def test_a_run_keeps_the_architecture_of_a_file(data_root, tmp_path, images):
    file = tmp_path / "found.json"
    slots = Architecture.from_ints([1] * 20).slots
    Architecture.preset("random-3", slots).save(file)
    keys = {"model.architecture": file, "train.max_epoch": 1}
    assert main(arguments(data_root, tmp_path / "run", "--stages", "train", **keys)) == 0
    features = load_trained(tmp_path / "run").network("visible")(images)
    file.unlink()
    kept = load_trained(tmp_path / "run")
    torch.testing.assert_close(kept.network("visible")(images), features)
    assert main(arguments(data_root, tmp_path / "run", "--stages", "test", **keys)) == 0
    # Changed since, it is not what was trained.
    Architecture.preset("share", slots).save(file)
    assert main(arguments(data_root, tmp_path / "run", "--stages", "test", **keys)) == 0
    split = Architecture.preset("random-3", slots)
    assert read_json(tmp_path / "run" / "results.json")["split_slots"] == sum(choice == "split" for _, choice in split.choices)


# -- bad input ------------------------------------------------------------------


def test_a_modality_must_be_known_and_given(searched):
    trained = load_trained(searched)
    with pytest.raises(InputError, match=f'"{searched}".*say by modality.*visible or infrared'):
        trained.network()
    with pytest.raises(InputError, match='"infrarde".*did you mean "infrared"'):
        trained.network("infrarde")


def test_neither_a_run_nor_a_name():
    with pytest.raises(InputError, match='no folder "runs/nowhere" of a run.*zoo'):
        load_trained("runs/nowhere")


def test_a_file_of_a_run_is_no_run(searched):
    with pytest.raises(InputError, match="is a file; expected the folder of the run"):
        load_trained(searched / "train" / "model.pth")


@pytest.mark.parametrize("missing", ["config.yaml", "train/model.pth", "architecture.json"])
def test_a_run_that_lacks_a_file(missing, searched, tmp_path):
    copied = Path(shutil.copytree(searched, tmp_path / "copied"))
    (copied / missing).unlink()
    with pytest.raises(InputError, match=missing):
        load_trained(copied)


def test_a_truncated_checkpoint_of_a_run(searched, tmp_path):
    path = Path(shutil.copytree(searched, tmp_path / "copied")) / "train" / "model.pth"
    path.write_bytes(path.read_bytes()[:999])
    with pytest.raises(InputError, match="model.pth.*truncated"):
        load_trained(tmp_path / "copied")


def test_a_folder_of_trials_names_the_first(tmp_path):
    for trial in (0, 1):
        (tmp_path / f"split_{trial}").mkdir()
    with pytest.raises(InputError, match="several trials.*split_0"):
        load_trained(tmp_path)
