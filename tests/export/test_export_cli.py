"""``torchreid-nas export`` end to end on a tiny run made through the command line."""
import functools
import json
import shutil
import sys

import commands
import numpy as np
import onnx
import pytest
import torch
from commands import refused
from PIL import Image
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.export import OnnxNetwork, RunData, load_program
from torchreid_nas.export.run_data import accuracy
from torchreid_nas.zoo.trained import load_trained

arguments = functools.partial(commands.arguments, TINY)


@pytest.fixture(scope="module")
def run(data_root, tmp_path_factory):
    """A trained and tested two-stream run."""
    folder = tmp_path_factory.mktemp("exported") / "demo"
    keys = {"model.architecture": "first-5", "train.max_epoch": 1}
    assert main(arguments(data_root, folder, "--stages", "train,test", **keys)) == 0
    return folder


@pytest.fixture
def without_data(run, tmp_path):
    """A copy of the run whose data are gone."""
    copy = shutil.copytree(run, tmp_path / "moved")
    config = copy / "config.yaml"
    lines = config.read_text().splitlines()
    changed = [f"  root: {tmp_path / 'nothing'}" if line.startswith("  root:") else line for line in lines]
    assert changed != lines
    config.write_text("\n".join(changed))
    return copy


def export(*call):
    return main(["export", *map(str, call)])


def scored(run):
    """What the test stage found for the features after the BNNeck, by target."""
    rows = json.loads((run / "results.json").read_text())["results"]
    return {row["dataset"]: row for row in rows if row["feature"] == "after BNNeck"}


def test_the_whole_way(run, tmp_path, capfd):
    assert export("--model", run, "--output", tmp_path / "out", "--quantize", "static", "--batch-sizes", 1, 4) == 0
    out, err = capfd.readouterr()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "demo-infrared-int8.onnx", "demo-infrared.onnx", "demo-visible-int8.onnx", "demo-visible.onnx",
    ]
    trained = load_trained(run)
    images = torch.randn(3, 3, 48, 24, generator=torch.Generator().manual_seed(0))
    for modality in ("visible", "infrared"):
        with torch.no_grad():
            expected = trained.model(images, modality)
        graph = OnnxNetwork(tmp_path / "out" / f"demo-{modality}.onnx")
        torch.testing.assert_close(graph(images), expected, rtol=1e-4, atol=1e-4)
        # Folded; what is left is the BNNeck, which follows no convolution.
        kinds = [node.op_type for node in onnx.load(tmp_path / "out" / f"demo-{modality}.onnx").graph.node]
        assert kinds.count("Conv") == 20 and kinds.count("BatchNormalization") == 1 and "Gemm" not in kinds
        small, large = (tmp_path / "out" / f"demo-{modality}{suffix}.onnx" for suffix in ("-int8", ""))
        assert small.stat().st_size < large.stat().st_size / 2
    for part in ("ms/image", "16 real", "1 random", "Real images: from the run's data.", "20 QLinearConv", "Rank-1"):
        assert part in out
    # The exporter's own words do not reach the user.
    assert not err.strip() and "torch.onnx" not in out and "WARNING" not in out
    # What is printed of the float graphs is what the run's own test stage found after the BNNeck.
    for name, row in scored(run).items():
        line = next(line for line in out.splitlines() if line.startswith(f"{name} "))
        words = line.split()
        assert float(words[4]) == pytest.approx(100 * row["cmc"][0], abs=1.6)
        assert float(words[7]) == pytest.approx(100 * row["mAP"], abs=0.5)


def test_the_accuracy_of_the_plain_networks_is_that_of_the_test_stage(run):
    trained = load_trained(run)
    networks = {modality: trained.network(modality) for modality in trained.modalities}
    found = accuracy(RunData(run), networks)
    rows = scored(run)
    assert set(found) == {"regdb", "regdb_ir2vis"} == set(rows)
    for name, row in rows.items():
        assert found[name].mAP == pytest.approx(row["mAP"], abs=2e-3)
    # The other way round is another network for every image.
    swapped = accuracy(RunData(run), {"visible": networks["infrared"], "infrared": networks["visible"]})
    assert swapped["regdb"].mAP != found["regdb"].mAP


def test_the_images_of_a_run_are_of_one_modality(run):
    data = RunData(run)
    for paths in (data.test_paths, data.train_paths):
        visible, infrared = paths("visible"), paths("infrared")
        assert len(visible) == len(infrared) == 64 and not set(visible) & set(infrared)
        assert set(paths()) == {*visible, *infrared}
    assert not set(data.test_paths()) & set(data.train_paths())


def test_without_the_data_of_the_run_it_says_so(without_data, tmp_path, capsys):
    call = ("--model", without_data, "--format", "torch", "--modality", "infrared", "--batch-sizes", 2)
    assert export(*call) == 0
    out = capsys.readouterr().out
    assert "Compared on random images only" in out and "real" not in out.split("Written")[0]
    # The folder of the run is the default.
    program = load_program(without_data / "export" / "moved-infrared.pt2")
    assert program(torch.zeros(3, 3, 48, 24)).shape == (3, 64)

    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.full((20, 10, 3), 90, np.uint8)).save(images / "a.png")
    (images / "b.png").write_bytes(b"broken")
    assert export(*call, "--images", images, "--output", tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "1 real" in out and "1 of these images cannot be read" in out and "b.png" in out


def test_static_quantisation_without_images_is_refused_before_writing(without_data, capsys):
    error = refused(capsys, "export", "--model", without_data, "--quantize", "static")
    assert "has none" in error and "--images DIR" in error and not (without_data / "export").exists()


def test_refused_calls(run, tmp_path, capsys, monkeypatch):
    def say(*call):
        return refused(capsys, "export", "--output", tmp_path / "out", *call)

    assert '--format is "onx", expected onnx or torch; did you mean "onnx"' in say("--model", run, "--format", "onx")
    assert '--quantize is "dyn", expected dynamic or static' in say("--model", run, "--quantize", "dyn")
    assert "--opset is 11, expected 18 to 23" in say("--model", run, "--opset", 11)
    assert "--opset is for --format onnx, not for torch" in say("--model", run, "--format", "torch", "--opset", 18)
    assert "--quantize is for --format onnx" in say("--model", run, "--format", "torch", "--quantize", "static")
    assert "--batch-sizes has 0" in say("--model", run, "--batch-sizes", 1, 0)
    assert 'modality "infra" is unknown' in say("--model", run, "--modality", "infra")
    assert 'no folder "nowhere" of a run' in say("--model", "nowhere")
    assert "does not exist; check --images" in say("--model", run, "--images", tmp_path / "none")
    assert "the device" in say("--model", run, "--device", "gpu7")
    (tmp_path / "file").write_text("")
    assert "could not be written" in refused(
        capsys, "export", "--model", run, "--format", "torch", "--output", tmp_path / "file"
    )
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert 'pip install "torchreid-nas[export]"' in say("--model", run)
    assert not (tmp_path / "out").exists()
