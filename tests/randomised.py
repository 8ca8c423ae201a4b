"""Networks in eval mode whose BatchNorms are not fresh, images for them, and how near features must be."""
from __future__ import annotations

import torch
from torch import nn

from torchreid_nas.layers import split_batchnorm
from torchreid_nas.models import (
    CDNet,
    CDNetBackbone,
    TwoStreamNetwork,
    cdnet_x0_25,
    two_stream_resnet18,
)

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """``model`` in eval mode with statistics and affine parameters that no fresh BatchNorm has."""
    generator = torch.Generator().manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, NORMS):
            layer.running_mean.normal_(0, 0.3, generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
                nn.init.normal_(layer.bias, 0, 0.3, generator=generator)
    return model.eval()


def two_stream(architecture: str = "split", **options) -> TwoStreamNetwork:
    torch.manual_seed(0)
    options = {"pretrained": False, "width": 0.25, **options}
    return randomised(two_stream_resnet18(5, architecture, **options))


def two_stream_on_cdnet(architecture: str = "random-1") -> TwoStreamNetwork:
    torch.manual_seed(0)
    backbone = split_batchnorm(CDNetBackbone.from_architecture("cdnet", width=0.25), architecture)
    return randomised(TwoStreamNetwork(backbone, backbone.feature_dim, 5))


def narrow_cdnet(**options) -> CDNet:
    torch.manual_seed(0)
    return randomised(cdnet_x0_25(5, **options))


def images(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def count(model: nn.Module, kind=nn.BatchNorm2d) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def assert_same(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Equal to ``tolerance`` of the features' scale, which is far from zero."""
    assert expected.abs().max() > 1e-3 and expected.std(0).max() > 1e-3, "features that do not depend on the images"
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * expected.abs().max().item())
