"""A backbone from outside: four plain convolutions, whose BatchNorms CM-NAS can split and search."""
from __future__ import annotations

from torch import nn

from torchreid_nas.layers import split_batchnorm
from torchreid_nas.methods.cmnas import CMNASMethod
from torchreid_nas.models import TwoStreamNetwork
from torchreid_nas.registry import register_method


class FourConvolutions(nn.Module):
    """(B, 3, H, W) to (B, 8 · width, H/16, W/16); every convolution has a BatchNorm, a slot of the search."""

    def __init__(self, width):
        super().__init__()
        channels = [3, width, 2 * width, 4 * width, 8 * width]
        self.feature_dim = channels[-1]
        for number, (into, out) in enumerate(zip(channels, channels[1:]), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(out))

    def forward(self, x):
        for number in range(1, 5):
            x = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(x)).relu()
        return x


def two_stream_four(num_classes, architecture="share", pretrained=False, loss="softmax", use_gpu=True, width=1.0, **head):
    """Return the two-stream network; ``torchreid.models.build_model("two_stream_four", …)`` calls this function too."""
    backbone = FourConvolutions(round(32 * width))
    split_batchnorm(backbone, architecture)
    return TwoStreamNetwork(backbone, backbone.feature_dim, num_classes, loss, **head)


class FourMethod(CMNASMethod):
    name = "four"
    factories = {"two_stream_four": two_stream_four}
    # The backbone has no stage whose stride a config could change.
    own_keys = tuple(key for key in CMNASMethod.own_keys if key != "model.last_stride")


def register():
    register_method(FourMethod)
