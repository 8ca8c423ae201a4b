"""Exported files compute what the network computes, for any batch size, and say what they are."""
import json
import shutil
import sys
from pathlib import Path

import onnx
import pytest
import torch
import torchreid
from torch import nn

import torchreid_nas
from torchreid_nas.checkpoints.trained import wrap_model
from torchreid_nas.errors import InputError
from torchreid_nas.export import (
    TOLERANCE,
    OnnxNetwork,
    Preprocessed,
    export_model,
    export_onnx,
    export_program,
    exporter,
    load_program,
)
from torchreid_nas.export.graph import describe
from torchreid_nas.export.runtime import default_device
from torchreid_nas.models import ecn_resnet18
from torchreid_nas.models.necks import FBLNeck

MODALITIES = ("visible", "infrared")


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


# -- ONNX ---------------------------------------------------------------------


@torch.no_grad()
def test_a_graph_equals_its_network_at_batch_sizes_that_were_not_traced(graphs, two_modalities, drawn):
    assert [file.modality for file in graphs] == list(MODALITIES)
    for file in graphs:
        graph, network = OnnxNetwork(file.path), two_modalities.network(file.modality)
        for count in (1, 2, 3, 7):
            close(graph(drawn(count)), network(drawn(count)))


def test_the_modalities_have_different_graphs_where_something_is_split(graphs, drawn):
    visible, infrared = (OnnxNetwork(file.path)(drawn(3)) for file in graphs)
    assert (visible - infrared).abs().max() > 0.01


def test_files_are_called_by_model_and_modality(graphs):
    assert [file.path.name for file in graphs] == ["small_net-visible.onnx", "small_net-infrared.onnx"]
    assert sorted(path.name for path in graphs[0].path.parent.iterdir()) == sorted(file.path.name for file in graphs)


def test_the_check_comes_with_the_file(graphs):
    for file in graphs:
        assert [check.batch_size for check in file.checks] == [1, 3]
        for check in file.checks:
            assert check.real is None and check.random.images == check.batch_size
            assert check.random.relative <= TOLERANCE and check.random.cosine > 0.99999
            assert check.eager > 0 and check.exported > 0 and check.unquantized is None


def test_the_file_says_what_it_takes_and_gives(graphs):
    for file in graphs:
        said = OnnxNetwork(file.path).metadata
        assert said["model"] == "runs/small net" and said["modality"] == file.modality
        assert json.loads(said["norm_mean"]) == [0.4, 0.5, 0.6] and json.loads(said["norm_std"]) == [0.2, 0.25, 0.3]
        assert (said["height"], said["width"], said["feature_dim"]) == ("24", "16", "32")
        assert said["torchreid_nas"] == torchreid_nas.__version__ and said["normalises_images"] == "false"


def test_nothing_is_said_of_the_features_length_which_some_networks_scale():
    model = wrap_model(ecn_resnet18(3, pretrained=False, width=0.125, feature_dim=16), 64, 32)
    torch.testing.assert_close(model.network()(torch.randn(2, 3, 64, 32)).norm(dim=1), torch.ones(2))
    assert "length" not in describe(model, None, False)["features"]


def test_input_and_output_are_named_and_their_batch_is_free(graphs):
    model = onnx.load(graphs[0].path)
    onnx.checker.check_model(model, full_check=True)
    (images,), (features,) = model.graph.input, model.graph.output
    shapes = [[d.dim_param or d.dim_value for d in part.type.tensor_type.shape.dim] for part in (images, features)]
    assert (images.name, features.name) == ("images", "features")
    assert shapes == [["batch", 3, 24, 16], ["batch", 32]]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]


def test_the_file_says_nothing_of_this_machine(graphs):
    content = graphs[0].path.read_bytes()
    assert str(Path(torchreid_nas.__file__).parent).encode() not in content
    assert str(Path(torch.__file__).parent).encode() not in content


@torch.no_grad()
def test_the_neck_of_cdnet_goes_into_a_graph_with_a_free_batch(tmp_path, drawn):
    class Necked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.neck = FBLNeck((4, 8, 8), 5, 0.2)

        def forward(self, images):
            maps = self.conv(images)
            return self.neck((maps, maps))

    torch.manual_seed(0)
    network = Necked().eval()
    export_onnx(network, tmp_path / "neck.onnx", 24, 16, {})
    for count in (1, 5):
        close(OnnxNetwork(tmp_path / "neck.onnx")(drawn(count)), network(drawn(count)))


# -- torch.export -------------------------------------------------------------


@torch.no_grad()
def test_a_program_per_modality_equals_its_network(two_modalities, tmp_path, drawn):
    files = export_model(two_modalities, tmp_path, "torch", batch_sizes=(1, 3))
    for file in files:
        program, network = load_program(file.path), two_modalities.network(file.modality)
        for count in (1, 2, 3, 7):
            close(program(drawn(count)), network(drawn(count)))
        beside = json.loads(file.path.with_suffix(".json").read_text())
        inside = {"metadata.json": ""}
        torch.export.load(str(file.path), extra_files=inside)
        assert beside == json.loads(inside["metadata.json"])
        assert beside["modality"] == file.modality and beside["norm_std"] == [0.2, 0.25, 0.3]
        assert beside["feature_dim"] == 32 and beside["device"] == "cpu"
    assert len(list(tmp_path.iterdir())) == 4


# -- preprocessing ------------------------------------------------------------


@torch.no_grad()
def test_a_network_of_torchreid_goes_without_classifier_and_batchnorms(tmp_path):
    torch.manual_seed(0)
    model = torchreid.models.build_model("osnet_x0_25", 751, pretrained=False).eval()
    images = torch.rand(3, 3, 64, 32)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    [file] = export_model(wrap_model(model, 64, 32), tmp_path, "torch", batch_sizes=(2,))
    program = torch.export.load(file.path)
    assert not [name for name in program.state_dict if "classifier" in name or "running_var" in name and "fc" not in name]
    torch.testing.assert_close(program.module()(images), model(images), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_with_preprocessing_the_file_takes_rgb_at_the_opset_asked_for(one_modality, tmp_path):
    from torchvision.transforms.functional import normalize

    images = torch.rand(3, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    expected = one_modality.network()(normalize(images, one_modality.norm_mean, one_modality.norm_std))
    close(Preprocessed(one_modality.network(), one_modality.norm_mean, one_modality.norm_std)(images), expected)
    for format, load in (("onnx", OnnxNetwork), ("torch", load_program)):
        file, = export_model(one_modality, tmp_path, format, opset=21, with_preprocessing=True, batch_sizes=(2,))
        assert file.normalises_images
        close(load(file.path)(images), expected)
    assert onnx.load(tmp_path / "small_net.onnx").opset_import[0].version == 21
    assert OnnxNetwork(tmp_path / "small_net.onnx").metadata["normalises_images"] == "true"


# -- nothing wrong is kept ----------------------------------------------------


def test_a_file_that_differs_from_the_network_is_not_kept(two_modalities, graphs, tmp_path, monkeypatch):
    class Wrong(OnnxNetwork):
        def forward(self, images):
            features = super().forward(images)
            # Wrong for the second modality alone: the first one's file must not stay either.
            return features if self.metadata["modality"] == "visible" else features * 1.01

    made = {file.modality: file.path for file in graphs}
    monkeypatch.setattr(exporter, "export_onnx", lambda _, path, *args: shutil.copy(made[args[2]["modality"]], path))
    monkeypatch.setattr(exporter, "OnnxNetwork", Wrong)
    with pytest.raises(InputError, match=r'"small_net-infrared.onnx" differs.*at batch size 2.*tolerance of 0.0001'):
        export_model(two_modalities, tmp_path, batch_sizes=(2,))
    assert not list(tmp_path.iterdir())


def test_a_graph_that_onnx_refuses_is_not_kept(one_modality, tmp_path, monkeypatch):
    def with_another_operator(network, path, *arguments):
        export_onnx(network, path, *arguments)
        model = onnx.load(path)
        model.graph.node[0].op_type = "NoSuchOperator"
        onnx.save(model, path)

    monkeypatch.setattr(exporter, "export_onnx", with_another_operator)
    with pytest.raises(InputError, match=r"no valid ONNX graph \(.*NoSuchOperator.*\); the file was not kept"):
        export_model(one_modality, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nor_is_one_that_differs_on_real_images_alone(one_modality, tmp_path, monkeypatch):
    class Pool:
        def take(self, count, modality):
            return torch.rand(3, 3, 24, 16, generator=torch.Generator().manual_seed(0))

    def load_wrong(path):
        program = load_program(path)
        # The real images come as a batch of two and one of one, the random ones as two.
        return lambda images: program(images) * (1.01 if len(images) == 1 else 1)

    monkeypatch.setattr(exporter, "load_program", load_wrong)
    with pytest.raises(InputError, match=r'"small_net.pt2" differs.*at batch size 2.*tolerance of 0.0001'):
        export_model(one_modality, tmp_path, "torch", images=Pool(), batch_sizes=(2,))
    assert not list(tmp_path.iterdir())


def test_a_network_without_a_number_is_not_exported(one_modality, tmp_path):
    broken = wrap_model(one_modality.model, 24, 16, name="broken")
    nn.init.constant_(broken.model.conv2.bias, float("nan"))
    with pytest.raises(InputError, match="the network gives features that are not finite"):
        export_model(broken, tmp_path, "torch", batch_sizes=(1,))
    assert not list(tmp_path.iterdir())


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return images.flatten(1) * self.scale if images.sum() > 0 else images.flatten(1)


def test_a_network_whose_path_depends_on_values_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot write DataDependent as ONNX graph.*must not depend on the values"):
        export_onnx(DataDependent().eval(), tmp_path / "a.onnx", 8, 8, {})
    with pytest.raises(InputError, match="cannot write DataDependent as program of torch.export"):
        export_program(DataDependent().eval(), tmp_path / "a.pt2", 8, 8, {})
    assert not list(tmp_path.iterdir())


# -- refused ------------------------------------------------------------------


def test_bad_arguments(one_modality, two_modalities, tmp_path):
    for change, sentence in (
        ({"format": "onx"}, 'format "onx" is unknown, expected onnx or torch; did you mean "onnx"'),
        ({"batch_sizes": (0,)}, r"batch sizes are \[0\], expected whole numbers of at least 1"),
        ({"batch_sizes": ()}, r"batch sizes are \[\]"),
        ({"opset": 17}, "opset is 17, expected 18 to 23"),
        ({"modality": "visible"}, '"runs/small net" has one network for all images'),
    ):
        with pytest.raises(InputError, match=sentence):
            export_model(one_modality, tmp_path / "none", **change)
    with pytest.raises(InputError, match='modality "infra" is unknown.*did you mean "infrared"'):
        export_model(two_modalities, tmp_path / "none", modality="infra")


def test_a_folder_that_cannot_be_written(one_modality, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        export_model(one_modality, tmp_path / "file" / "inside", "torch")


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_with_the_extra(one_modality, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf'needs the package {name}.*pip install "torchreid-nas\[export\]"'):
        export_model(one_modality, tmp_path)


def test_a_torch_without_the_exporter_is_named(one_modality, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, "export", lambda model, args: None)
    with pytest.raises(InputError, match="install torch 2.6 or later"):
        export_model(one_modality, tmp_path)


def test_the_device_is_one_that_both_runtimes_can_use(graphs, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_device() == "cpu"
    with pytest.raises(InputError, match="cannot use the device cuda:1; pip install onnxruntime-gpu"):
        OnnxNetwork(graphs[0].path, "cuda:1")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert default_device() == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_device() == "cpu"


def test_files_that_are_no_exports(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    (tmp_path / "a.pt2").write_bytes(b"nothing")
    with pytest.raises(InputError, match='graph ".*a.onnx" cannot be loaded'):
        OnnxNetwork(tmp_path / "a.onnx")
    with pytest.raises(InputError, match='program ".*a.pt2" cannot be loaded'):
        load_program(tmp_path / "a.pt2")
