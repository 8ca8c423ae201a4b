"""The network of AGW and CAJ against plain reference modules, and the authors' checkpoints."""
from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from torchreid_nas.checkpoints.load import load_weights
from torchreid_nas.checkpoints.recognise import recognise
from torchreid_nas.errors import InputError
from torchreid_nas.layers import SplitBatchNorm2d, SplitConv2d, bn_slots
from torchreid_nas.models import agw_resnet18, agw_resnet50, two_stream_resnet50


class Attention(nn.Module):
    """The non-local block by its N×N attention."""

    def __init__(self, channels):
        super().__init__()
        self.g = nn.Sequential(nn.Conv2d(channels, 1, 1))
        self.W = nn.Sequential(nn.Conv2d(1, channels, 1), nn.BatchNorm2d(channels))
        self.theta, self.phi = nn.Conv2d(channels, 1, 1), nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        attention = theta.mT @ phi / theta.shape[-1]
        return self.W((attention @ g.mT).mT.reshape(len(x), 1, *x.shape[2:])) + x


class Reference(nn.Module):
    """The authors' network: three whole ResNets, of two the stem is used, of the third the rest."""

    def __init__(self, classes):
        super().__init__()
        nets = [torchvision.models.resnet50(weights=None) for _ in range(3)]
        for net in nets:
            net.layer4[0].conv2.stride = net.layer4[0].downsample[0].stride = (1, 1)
        self.visible_module, self.thermal_module, self.base_resnet = (
            nn.ModuleDict({name: net}) for name, net in zip(("visible", "thermal", "base"), nets)
        )
        self.NL_1, self.NL_4 = nn.ModuleList(), nn.ModuleList()
        self.NL_2 = nn.ModuleList(Attention(512) for _ in range(2))
        self.NL_3 = nn.ModuleList(Attention(1024) for _ in range(3))
        self.bottleneck, self.classifier = nn.BatchNorm1d(2048), nn.Linear(2048, classes, bias=False)

    def forward(self, x, modality):
        stem = self.visible_module["visible"] if modality == "visible" else self.thermal_module["thermal"]
        base = self.base_resnet["base"]
        x = stem.maxpool(stem.relu(stem.bn1(stem.conv1(x))))
        for layer, blocks, behind in (
            (base.layer1, self.NL_1, {}), (base.layer2, self.NL_2, {2: 0, 3: 1}), (base.layer3, self.NL_3, {3: 0, 4: 1, 5: 2}),
            (base.layer4, self.NL_4, {}),
        ):
            for index, block in enumerate(layer):
                x = block(x)
                if index in behind:
                    x = blocks[behind[index]](x)
        pooled = (x.flatten(2).pow(3).mean(dim=2) + 1e-12) ** (1 / 3)
        return pooled, self.bottleneck(pooled)


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    model = Reference(7)
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm1d)):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("agw") / "sysu_agw.t"
    torch.save({"net": dict(reference.state_dict()), "cmc": [0.5], "mAP": 0.5, "epoch": 3}, path)
    return path


def test_the_authors_checkpoint_gives_their_features(reference, checkpoint):
    model = load_weights(agw_resnet50(7, pretrained=False), checkpoint).eval()
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for modality in ("visible", "infrared"):
            for ours, theirs in zip(model.features(images, modality), reference(images, modality)):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
        deployed = model.deploy("infrared")(images)
    torch.testing.assert_close(deployed, theirs, rtol=1e-3, atol=1e-3 * float(theirs.abs().max()))
    assert torch.equal(model.classifier.weight, reference.classifier.weight)


def test_the_layout_is_recognised(checkpoint):
    found = recognise(checkpoint)
    assert (found.format, found.model, found.num_classes) == ("agw_authors", "agw_resnet50", 7)
    assert [slot for slot, choice in found.architecture.choices if choice == "split"] == ["bn1"]


@pytest.mark.parametrize("model, message", [
    (lambda: two_stream_resnet50(7, "share", pretrained=False), 'has no "backbone.conv1.weight"'),
    (lambda: agw_resnet50(7, "split", pretrained=False), 'has no "base_resnet.base.layer1.0.bn1.visible.weight"; .*stages-stem'),
    (lambda: agw_resnet18(7, pretrained=False), "the model expects"),
])
def test_the_authors_weights_in_another_network_are_refused(checkpoint, model, message):
    with pytest.raises(InputError, match=message):
        load_weights(model(), checkpoint)


def test_a_new_network_starts_as_the_resnet_with_two_stems():
    model = agw_resnet18(3, pretrained=False, width=0.25)
    plain = torchvision.models.resnet18(weights=None)
    assert isinstance(model.backbone.conv1, SplitConv2d) and isinstance(model.backbone.bn1, SplitBatchNorm2d)
    assert torch.equal(model.backbone.conv1.visible.weight, model.backbone.conv1.infrared.weight)
    names = {name.replace("visible.", "").replace("infrared.", "") for name in model.backbone.state_dict()}
    assert {name for name in names if not name.startswith("NL_")} == {n for n in plain.state_dict() if not n.startswith("fc")}
    slots = bn_slots(model.backbone)
    assert len(slots) == 24 and len(bn_slots(agw_resnet50(3, pretrained=False).backbone)) == 58
    assert slots.index("layer2.1.bn2") < slots.index("NL_2.0.W.1") < slots.index("layer3.0.bn1")
