"""Any backbone of torchreid or timm under a two-stream network: the same claims for every family."""
from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn

from torchreid_nas.architecture import Architecture
from torchreid_nas.checkpoints.trained import wrap_model
from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.layers import BNNeck, is_batchnorm, is_norm, modality_context, norm_slots, split_norms
from torchreid_nas.methods import make_method
from torchreid_nas.models import TwoStreamNetwork, any_backbone, two_stream
from torchreid_nas.search import BNSplitSpace

SIZE = (32, 32)
# Name -> slots, features, height of the map with last stride 1.
FAMILIES = {
    "osnet_x0_25": (79, 128, 2), "shufflenet_v2_x0_5": (56, 1024, 2), "mobilenetv2_x1_0": (53, 1280, 2),
    "densenet121": (121, 1024, 1),
    "timm:test_resnet": (15, 96, 2), "timm:test_efficientnet": (13, 256, 2), "timm:test_byobnet": (14, 256, 2),
    "timm:regnetx_002": (44, 368, 2), "timm:mobilenetv3_small_050": (34, 288, 2), "timm:test_convnext": (13, 64, 1),
    "timm:test_vit": (13, 64, 1), "timm:test_vit4": (18, 96, 4), "timm:swin_tiny_patch4_window7_224": (29, 768, 1),
    "timm:test_efficientnet_gn": (13, 256, 2), "timm:test_efficientnet_ln": (13, 256, 2), "timm:test_mambaout": (10, 64, 2),
    "timm:levit_128s": (50, 384, 1),
}
# BatchNorm1d over two rows per half has gradients of 1e9 that cancel; tests/layers/test_norms.py compares those of the layer.
DEGENERATE = {"timm:levit_128s"}
LARGE = {"densenet121", "timm:swin_tiny_patch4_window7_224"}


def network(name: str, architecture: str = "share"):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    return two_stream(3, architecture, pretrained=False, backbone=name, image_size=SIZE, loss="triplet").double()


@dataclasses.dataclass
class Family:
    """A backbone, its supernet with norms that have drifted apart, and the network that is derived from it."""

    name: str
    shared: TwoStreamNetwork
    architecture: Architecture
    supernet: TwoStreamNetwork
    derived: TwoStreamNetwork


@pytest.fixture(scope="module", params=[
    pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in FAMILIES
])
def family(request) -> Family:
    shared = drift(network(request.param))
    space = BNSplitSpace(train_affine=True)
    supernet = drift(space.build_supernet(copy.deepcopy(shared)))
    architecture = Architecture.preset("random-1", norm_slots(supernet.backbone))
    space.prefer(supernet, torch.tensor([2e4 if choice == "split" else -2e4 for _, choice in architecture.choices]))
    return Family(request.param, shared, architecture, supernet, space.derive_network(supernet))


def images() -> torch.Tensor:
    x = torch.randn(4, 3, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[2:] = 0.4 * x[2:] + 0.5
    return x


@torch.no_grad()
def drift(model: nn.Module) -> nn.Module:
    """Move the parameters and statistics of every norm, those of the modalities apart."""
    torch.manual_seed(1)
    for layer in model.modules():
        if is_norm(layer) and not isinstance(layer, BNNeck):
            for parameter in layer.parameters():
                parameter.add_(torch.rand_like(parameter) * 0.4 - 0.2)
            if is_batchnorm(layer):
                layer.running_mean.uniform_(-0.2, 0.2)
                layer.running_var.uniform_(0.5, 1.5)
    return model


def stopped(model: nn.Module) -> nn.Module:
    """The network in train mode without what it drops at random."""
    for layer in model.train().modules():
        if "Drop" in type(layer).__name__:
            layer.eval()
    return model


def test_any_backbone_has_its_slots_and_split_at_equal_weights_is_shared(family):
    slots, features, height = FAMILIES[family.name]
    shared = family.shared.eval()
    split = copy.deepcopy(shared)
    split_norms(split.backbone, "split")
    with torch.no_grad():
        found = shared.backbone(images())
        torch.testing.assert_close(split.eval().features(images(), "both"), shared.features(images()), rtol=1e-9, atol=1e-9)
    assert (len(norm_slots(shared.backbone)), shared.feature_dim, found.shape[1:3]) == (slots, features, (features, height))


def test_derived_networks_of_any_backbone_equal_their_supernet(family):
    space = BNSplitSpace(train_affine=True)
    assert space.derive(family.supernet) == family.architecture
    with torch.no_grad():
        both = family.derived.eval()(images(), "both")
        torch.testing.assert_close(family.supernet.eval()(images(), "both"), both, rtol=1e-8, atol=1e-8)
        apart = [family.derived(part, modality) for part, modality in zip(images().chunk(2), ("visible", "infrared"))]
        torch.testing.assert_close(both, torch.cat(apart), rtol=1e-8, atol=1e-8)
    results = []
    for model in (copy.deepcopy(family.derived), copy.deepcopy(family.supernet)):
        stopped(model)(images())[1].square().sum().backward()
        results.append({key: parameter.grad for key, parameter in model.backbone.named_parameters() if ".logits" not in key})
    assert not [key for key, gradient in results[0].items() if gradient is None], "a layer without effect on the map was kept"
    if family.name in DEGENERATE:
        return
    for key in results[0].keys() & results[1].keys():
        torch.testing.assert_close(*(gradients[key] for gradients in results), rtol=1e-6, atol=1e-7)


@torch.no_grad()
def test_the_deployed_network_gives_the_features_of_any_backbone(family):
    model = family.derived.eval()
    torch.testing.assert_close(model.deploy("infrared")(images()), model(images(), "infrared"), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_convnext", "timm:test_efficientnet"])
def test_gradients_of_the_logits_are_those_of_finite_differences(name):
    space = BNSplitSpace(train_affine=True)
    supernet = stopped(drift(space.build_supernet(network(name))))
    logits = space.architecture_parameters(supernet)

    def loss() -> torch.Tensor:
        return supernet(images())[1].square().mean()

    slopes = torch.autograd.grad(loss(), logits)
    for index in (0, len(logits) // 2, len(logits) - 1):
        step = torch.tensor([1e-5, 0.0], dtype=torch.float64)
        with torch.no_grad():
            logits[index].add_(step)
            above = loss()
            logits[index].sub_(2 * step)
            below = loss()
            logits[index].add_(step)
        assert slopes[index][0].item() == pytest.approx(((above - below) / 2e-5).item(), rel=1e-4, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_convnext", "timm:test_efficientnet"])
def test_a_graph_file_gives_the_features_of_the_backbone(name, tmp_path):
    pytest.importorskip("onnxruntime")
    from torchreid_nas.export import OnnxNetwork, export_model

    trained = wrap_model(drift(network(name, "random-2")), *SIZE, name="small")
    x = images().float()
    for file in export_model(trained, tmp_path):
        torch.testing.assert_close(OnnxNetwork(file.path)(x), trained.network(file.modality)(x), rtol=1e-3, atol=1e-4)


# -- strides, sizes, weights --------------------------------------------------


@torch.no_grad()
def test_last_stride_2_keeps_the_network_of_timm_as_it_is():
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    expected = timm.create_model("resnet10t", num_classes=0).eval()
    torch.manual_seed(0)
    backbone = any_backbone("timm:resnet10t", False, 2, SIZE).eval()
    x = images().float()
    assert torch.equal(backbone(x), expected.forward_features(x)) and backbone(x).shape[2:] == (1, 1)
    # ResNet-D pools its shortcut: with last stride 1 the pooling is gone too.
    assert any_backbone("timm:resnet10t", False, 1, SIZE).eval()(x).shape[2:] == (2, 2)


def test_a_file_of_weights_starts_a_backbone_and_another_network_is_refused(tmp_path):
    import torchreid

    torch.manual_seed(3)
    given = torchreid.models.build_model("shufflenet_v2_x0_5", 5, pretrained=False)
    torch.save(given.state_dict(), tmp_path / "weights.pth")
    backbone = any_backbone("shufflenet_v2_x0_5", tmp_path / "weights.pth", 1, SIZE)
    assert torch.equal(backbone.network.conv5[0].weight, given.conv5[0].weight)
    with pytest.raises(InputError, match=r'weights.pth" do not fit model.backbone osnet_x0_25: "conv1.conv.weight" is missing'):
        any_backbone("osnet_x0_25", tmp_path / "weights.pth", 1, SIZE)


def test_a_file_of_timm_starts_a_backbone_and_another_network_is_refused(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    given = timm.create_model("test_resnet")
    torch.save(given.state_dict(), tmp_path / "weights.pth")
    backbone = any_backbone("timm:test_resnet", tmp_path / "weights.pth", 1, SIZE)
    assert torch.equal(backbone.network.conv1[0].weight, given.conv1[0].weight)
    with pytest.raises(InputError, match=r'weights.pth" do not fit model.backbone timm:test_vit: ".*" is missing; give a file'):
        any_backbone("timm:test_vit", tmp_path / "weights.pth", 1, SIZE)


@pytest.mark.parametrize("name, message", [
    ("squeezenet1_0", "squeezenet1_0, which has no norm that the modalities could share or split"),
    ("osnet_x9", 'model.backbone is "osnet_x9", a network that torchreid does not know; did you mean "osnet_x'),
    ("two_stream_resnet18", "two_stream_resnet18, a whole network of this package; set it as model.name"),
    ("hacnn", r"HACNN answers images of 32x32 with Input size does not match, expected \(160, 64\)"),
    ("timm:test_nfnet", "timm:test_nfnet, which has no norm"),
    ("timm:vit_tyni_patch16_224", 'timm [0-9.]+ does not know; did you mean "vit_tiny_patch16_224"'),
    ("timm:crossvit_9_240", "the backbone CrossVit answers images of 32x32 with .* choose another model.backbone, or other"),
])
def test_an_unsuited_backbone_is_one_sentence(name, message):
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    with pytest.raises(InputError, match=message) as error:
        two_stream(3, pretrained=False, backbone=name, image_size=SIZE)
    assert "\n" not in str(error.value)


def test_weights_of_timm_without_a_connection_are_one_sentence(monkeypatch, tmp_path):
    pytest.importorskip("timm")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCHREID_NAS_OFFLINE", "1")
    with pytest.raises(InputError, match="weights of model.backbone timm:test_vit cannot be had .*pretrained FILE") as error:
        any_backbone("timm:test_vit", True, 1, SIZE)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="timm's weights of model.backbone timm:test_vit.no_such_tag cannot be had"):
        any_backbone("timm:test_vit.no_such_tag", True, 1, SIZE)


def test_without_timm_the_way_out_is_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(InputError, match=r"needs timm; install it with pip install 'torchreid-nas\[timm\]'"):
        any_backbone("timm:resnet18")


def test_width_and_architecture_of_another_backbone_are_refused():
    with pytest.raises(InputError, match="model.width is 0.5, which model.backbone resnet18, a network as its name says"):
        two_stream(3, pretrained=False, backbone="resnet18", width=0.5)
    other = Architecture("norm_split", (("network.bn1", "share"),))
    with pytest.raises(InputError, match="for a backbone with 1 norm slots, this one has 56"):
        two_stream(3, other, pretrained=False, backbone="shufflenet_v2_x0_5", image_size=SIZE)


def test_the_config_names_backbone_and_size():
    cfg = load_config(None, [
        "model.name", "two_stream", "model.backbone", "shufflenet_v2_x0_5", "data.height", "32", "data.width", "32",
        "model.pretrained", "False", "model.architecture", "first-3",
    ])
    method = make_method(cfg, torch.device("cpu"))
    model = method.build_model(3, "first-3")
    assert method.describe(model) == {"slots": 56, "split_slots": 3}
    with modality_context("visible"):
        assert model.eval()(images().float()).shape == (4, 1024)


def test_the_former_name_of_the_space_is_read_in_configs_and_files(tmp_path):
    assert load_config(None, ["search.space", "bn_split"]).search.space == "norm_split"
    (tmp_path / "a.json").write_text('{"space": "bn_split", "choices": {"bn1": "share"}}')
    assert Architecture.load(tmp_path / "a.json").space == "norm_split"
