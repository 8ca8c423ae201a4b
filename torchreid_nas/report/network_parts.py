"""The parts of a CDNet in the order of the data: the shape, the parameters and the multiply-adds of each."""
from __future__ import annotations

__all__ = ["NetworkPart", "network_parts"]

import dataclasses
from collections.abc import Callable

import torch
from torch import nn

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.models.cdnet import CDNet
from torchreid_nas.models.size import measure_cost


@dataclasses.dataclass(frozen=True)
class NetworkPart:
    """A part of a network at test time.

    Args:
        name: in the network: ``"stem"``, ``"stage1.0"``, ``"stage1.downsample"``, …, ``"neck"``.
        output: shape of its output without the batch: C×H×W, of the neck D.
        parameters: of the layers that inference executes.
        macs: multiply-adds of its convolutions and linear layers for one image.
    """

    name: str
    output: tuple[int, ...]
    parameters: int
    macs: int


def network_parts(
    architecture: ArchitectureSpec, height: int = 256, width: int = 128, neck: str = "fblneck",
    model_width: float = 1.0, small_images: bool = False,
) -> list[NetworkPart]:
    """Return stem, blocks, DownSamples and neck of the CDNet that ``architecture`` makes, in the order of the data.

    Measured on torch's meta device: shapes only, nothing is computed, and no
    random number is drawn.

    Args:
        architecture: see :class:`~torchreid_nas.models.cdnet.CDNet`, as the last three.
        height: of the images.
        width: of the images.
        neck: one of :data:`~torchreid_nas.neck_names.NECKS`.
        model_width: multiplier of the channels.
        small_images: the stem of the authors' CIFAR networks.

    Raises:
        InputError: what CDNet refuses, such as images too small for it.
    """
    with torch.device("meta"):
        # Any number of classes serves: inference has no classifiers.
        model = CDNet(1, architecture, neck, model_width, small_images=small_images).eval()
        images = torch.zeros(1, 3, height, width)
    backbone = model.backbone
    modules: dict[str, nn.Module] = {"stem": backbone.stem}
    for stage in range(1, len(backbone.stage_dims) + 1):
        for name, module in backbone.get_submodule(f"stage{stage}").named_children():
            modules[f"stage{stage}.{name}"] = module
    modules["neck"] = model.neck
    inputs, outputs = {}, {}

    def keep(name: str) -> Callable[[nn.Module, tuple, torch.Tensor], None]:
        def hook(_: nn.Module, given: tuple, output: torch.Tensor) -> None:
            inputs[name], outputs[name] = given[0], output

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in modules.items()]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return [
        NetworkPart(
            name, tuple(outputs[name].shape[1:]), int(measure_cost(module, inputs[name], "parameters")),
            int(measure_cost(module, inputs[name], "macs")),
        )
        for name, module in modules.items()
    ]
