"""Small networks that export in a second or two."""
import pytest
import torch
from torch import nn

from torchreid_nas.checkpoints.trained import wrap_model
from torchreid_nas.layers import SplitBatchNorm2d

SIZE = (24, 16)


class SmallNetwork(nn.Module):
    """Two convolutions and their BatchNorms, the first split or not; (B, 3, H, W) -> (B, 32)."""

    def __init__(self, split: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = SplitBatchNorm2d(16) if split else nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm2d(32)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.bn2(self.conv2(self.bn1(self.conv1(images)).relu())).mean((2, 3))


def trained(split: bool):
    torch.manual_seed(0)
    model = SmallNetwork(split)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return wrap_model(model, *SIZE, norm_mean=(0.4, 0.5, 0.6), norm_std=(0.2, 0.25, 0.3), name="runs/small net")


@pytest.fixture(scope="session")
def one_modality():
    """A trained model of one modality."""
    return trained(split=False)


@pytest.fixture(scope="session")
def two_modalities():
    """A trained model with a network per modality."""
    return trained(split=True)


@pytest.fixture(scope="session")
def graphs(two_modalities, tmp_path_factory):
    """The ONNX files of both modalities, checked on random images."""
    from torchreid_nas.export import export_model

    return export_model(two_modalities, tmp_path_factory.mktemp("graphs"), batch_sizes=(1, 3))


@pytest.fixture
def drawn():
    """A function from a number to normalised images."""
    def draw(count: int) -> torch.Tensor:
        return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(count))
    return draw
