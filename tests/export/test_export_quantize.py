"""Int8 forms: smaller, close to the network, with the metadata, and counted."""
import shutil

import pytest
import torch
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.export import OnnxNetwork, export_model, exporter, quantization_cost, quantize_files, quantize_graph
from torchreid_nas.export.quantize import quantized_operators


@pytest.fixture(scope="module", params=["dynamic", "static"])
def int8(request, graphs, tmp_path_factory):
    """The visible graph in int8, calibrated on normal noise where that is needed: kind and file."""
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    images = torch.randn(24, 3, 24, 16, generator=torch.Generator().manual_seed(99))
    quantize_graph(graphs[0].path, path, request.param, images)
    return request.param, path


def test_it_is_smaller(int8, graphs):
    # Of a network this small the graph itself is the larger part; the weights shrink to a quarter.
    assert int8[1].stat().st_size < graphs[0].path.stat().st_size


def test_its_features_are_close_to_the_network_at_any_batch_size(int8, two_modalities, drawn):
    network, graph = two_modalities.network("visible"), OnnxNetwork(int8[1])
    for count in (1, 3, 6):
        with torch.no_grad():
            expected = network(drawn(count))
        found = graph(drawn(count))
        assert F.cosine_similarity(expected, found).min() > 0.99
        assert not torch.equal(expected, found)


def test_it_says_that_it_is_quantised_beside_what_the_float_graph_says(int8, graphs):
    kind, path = int8
    said = OnnxNetwork(path).metadata
    assert said.pop("quantization") == kind and said == OnnxNetwork(graphs[0].path).metadata


def test_both_convolutions_are_computed_in_integers(int8):
    kind, path = int8
    integer, floating = quantized_operators(path)
    assert integer[{"dynamic": "ConvInteger", "static": "QLinearConv"}[kind]] == 2
    assert not floating


def test_the_float_graph_has_no_operator_in_integers(graphs):
    integer, floating = quantized_operators(graphs[0].path)
    assert not integer and sum(floating.values()) == 2


def test_static_depends_on_the_images_and_dynamic_does_not(graphs, tmp_path, drawn):
    features = []
    for number, scale in enumerate((0.3, 1.0)):
        quantize_graph(graphs[0].path, tmp_path / f"{number}.onnx", "static", scale * drawn(8))
        features.append(OnnxNetwork(tmp_path / f"{number}.onnx")(drawn(4)))
    # Ranges measured on faint images cut strong ones.
    assert not torch.allclose(*features, rtol=0.01)


def test_every_file_gets_an_int8_form_beside_it(graphs, two_modalities):
    files = quantize_files(two_modalities, graphs, "dynamic", batch_sizes=(2,))
    assert [file.path.name for file in files] == ["small_net-visible-int8.onnx", "small_net-infrared-int8.onnx"]
    for file in files:
        assert file.path.is_file() and file.checks[0].random.cosine > 0.99 and file.checks[0].random.difference > 0
        # Timed in the same turns as the float graph.
        assert file.checks[0].unquantized > 0
        file.path.unlink()


def test_calibration_takes_training_images_and_comparison_others(graphs, two_modalities):
    asked = []

    class Pool:
        def take(self, count, modality, calibration=False):
            asked.append((modality, calibration))
            return torch.rand(4, 3, 24, 16, generator=torch.Generator().manual_seed(0))

    files = quantize_files(two_modalities, graphs, "static", Pool(), batch_sizes=(2,))
    for file in files:
        file.path.unlink()
    assert asked == [("visible", True), ("visible", False), ("infrared", True), ("infrared", False)]


def test_images_are_calibrated_on_as_the_graph_takes_them(one_modality, tmp_path, monkeypatch):
    images, given = torch.rand(4, 3, 24, 16, generator=torch.Generator().manual_seed(0)), []

    class Pool:
        def take(self, count, modality, calibration=False):
            return images

    def quantize(source, target, kind, images):
        given.append(images)
        shutil.copy(source, target)

    monkeypatch.setattr(exporter, "quantize_graph", quantize)
    for inside in (False, True):
        exported = export_model(one_modality, tmp_path, with_preprocessing=inside, batch_sizes=(2,))
        quantize_files(one_modality, exported, "static", Pool(), batch_sizes=(2,))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (one_modality.norm_mean, one_modality.norm_std))
    torch.testing.assert_close(given[0], (images - mean) / std)
    assert torch.equal(given[1], images)


def test_graphs_that_normalise_are_scored_on_the_same_images(one_modality, tmp_path, drawn, monkeypatch):
    plain, whole = (
        export_model(one_modality, tmp_path / str(inside), with_preprocessing=inside, batch_sizes=(2,))
        for inside in (False, True)
    )
    # The loaders of a run give normalised images.
    monkeypatch.setattr(exporter, "accuracy", lambda run_data, networks: {"features": networks[None](drawn(3))})
    before, after = quantization_cost(one_modality, plain, whole, None)["features"]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_refused(graphs, two_modalities, tmp_path):
    with pytest.raises(InputError, match='"statik" is unknown, expected dynamic or static; did you mean "static"'):
        quantize_graph(graphs[0].path, tmp_path / "a.onnx", "statik")
    for images in (None, torch.empty(0, 3, 24, 16)):
        with pytest.raises(InputError, match="measures activations on images and has none; pass images"):
            quantize_graph(graphs[0].path, tmp_path / "a.onnx", "static", images)
    with pytest.raises(InputError, match="pass images"):
        quantize_files(two_modalities, graphs, "static")
    assert not list(tmp_path.iterdir()) and not list(graphs[0].path.parent.glob("*int8*"))
