"""Any network of torchreid or timm as a backbone: its feature map, without head, with its last stride."""
from __future__ import annotations

__all__ = ["FeatureMaps", "any_backbone"]

import logging
import math
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from torchreid_nas.deploy.fold import unused_layers
from torchreid_nas.errors import InputError
from torchreid_nas.files import load_checkpoint
from torchreid_nas.layers import norm_slots, replace_module
from torchreid_nas.models.host_networks import build_host_network
from torchreid_nas.models.imagenet import load_fitting
from torchreid_nas.models.timm_network import PREFIX, build_timm
from torchreid_nas.models.torchvision_weights import in_torchreids_layout
from torchreid_nas.state_dicts import find_state

# Total strides of the networks that have a last stride to take away, before and after.
_STRIDE, _LAST = 32, 16
# Size of the images on which strides are counted, where the network takes it.
_PROBE = (128, 64)
# What a network answers images of a wrong size with.
_WRONG_SIZE = (AssertionError, AttributeError, RuntimeError, TypeError, ValueError)

logger = logging.getLogger(__name__)


class FeatureMaps(nn.Module):
    """The feature map of a network, (B, D, h, w), as the network itself computes it.

    torchreid's networks give theirs by ``featuremaps``, those without by the
    features that they are tested by; timm's by ``forward_features``. Tokens
    (B, N, D) become a map of N pixels: the class token alone where the network
    pools by it, else the tokens of the patches. Layers that the map does not
    depend on, the head, are taken out.

    Args:
        network: of torchreid or timm; it is taken over, not copied.
        image_size: height and width of the images that the network is used for.

    Attributes:
        feature_dim: D.

    Raises:
        InputError: the network gives no feature map for images of that size.

    Example:
        >>> backbone = FeatureMaps(build_host_network("osnet_x0_25", 3), (64, 32))
        >>> backbone(torch.zeros(2, 3, 64, 32)).shape
        torch.Size([2, 128, 4, 2])
    """

    def __init__(self, network: nn.Module, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.network: Any = network
        self.image_size = image_size
        self._method = next((name for name in ("featuremaps", "forward_features") if hasattr(network, name)), "forward")
        self.train(network.training)
        found = self._answer(image_size)
        if not isinstance(found, torch.Tensor) or not 2 <= found.dim() <= 4:
            what = tuple(found.shape) if isinstance(found, torch.Tensor) else found
            raise InputError(
                f"the backbone {type(network).__name__} answers images of {image_size[0]}x{image_size[1]} with {what}, expected "
                "one feature map; choose another model.backbone, or other data.height and data.width"
            )
        channels = getattr(network, "num_features", None)
        self._channels_last = found.dim() == 4 and channels is not None and found.shape[1] != channels == found.shape[3]
        prefix = getattr(network, "num_prefix_tokens", 0) if found.dim() == 3 else 0
        by_class = prefix > 0 and getattr(network, "global_pool", "") == "token"
        self._tokens = slice(0, 1) if by_class else slice(prefix, None)
        self.feature_dim: int = self._as_map(found).shape[1]
        for parent, name, _ in self._in_eval(lambda: unused_layers(self, self._images(image_size))):
            setattr(parent, name, None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the feature map of images (B, 3, H, W)."""
        return self._as_map(getattr(self.network, self._method)(x))

    def train(self, mode: bool = True) -> FeatureMaps:
        """Set the mode; a network that is asked for its test features keeps the flag of eval mode itself, its layers do not."""
        super().train(mode)
        if self._method == "forward":
            self.network.training = False
        return self

    def _as_map(self, found: torch.Tensor) -> torch.Tensor:
        if found.dim() == 2:
            return found[..., None, None]
        if found.dim() == 3:
            return found[:, self._tokens].transpose(1, 2)[..., None]
        return found.permute(0, 3, 1, 2) if self._channels_last else found

    # -- probing --------------------------------------------------------------

    def set_last_stride_1(self) -> bool:
        """Give the last stage stride 1 where the whole stride is 32; return whether it was possible.

        Convolutions keep their weights; a pooling of 2×2 becomes the identity.
        Networks whose last reduction is something else (merged patches), or
        that are made for one size of map, stay as they are.
        """
        size = _PROBE if isinstance(self._answer(_PROBE), torch.Tensor) else self.image_size
        before = self._answer(size)
        changed = self._last_strides(size)
        for name, layer in changed.items():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
            else:
                replace_module(self.network, name, nn.Identity())
        if changed and all(self._fits(one, before if one == size else None) for one in (size, self.image_size)):
            return True
        for name, layer in changed.items():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (2, 2)
            else:
                replace_module(self.network, name, layer)
        return False

    def _fits(self, size: tuple[int, int], before: Any) -> bool:
        """Return whether the network takes images of that size, and gives a larger map than ``before`` where it is given."""
        found = self._answer(size)
        if not isinstance(found, torch.Tensor):
            return False
        found = self._as_map(found)
        if before is None:
            return found.shape[1] == self.feature_dim
        expected = self._as_map(before).shape
        if self._method == "forward":
            return found.shape == expected
        return found.shape[1] == expected[1] and found.shape[2:] == tuple(math.ceil(pixels / _LAST) for pixels in size)

    def _last_strides(self, size: tuple[int, int]) -> dict[str, nn.Module]:
        """Return the layers that reduce the map from 1/16 to 1/32 of the image, by name."""
        found: dict[str, nn.Module] = {}
        before, after = (tuple(math.ceil(pixels / stride) for pixels in size) for stride in (_LAST, _STRIDE))

        def look(name: str) -> Any:
            def hook(layer: nn.Module, args: Any, output: torch.Tensor) -> None:
                if tuple(args[0].shape[2:]) == before and tuple(output.shape[2:]) == after:
                    found[name] = layer

            return hook

        hooks = [
            layer.register_forward_hook(look(name)) for name, layer in self.network.named_modules() if _halves_maps(layer)
        ]
        try:
            self._answer(size)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _images(self, size: tuple[int, int]) -> torch.Tensor:
        parameter = next(self.parameters())
        return torch.linspace(-1, 1, 3 * size[0] * size[1], dtype=parameter.dtype, device=parameter.device).reshape(1, 3, *size)

    def _answer(self, size: tuple[int, int]) -> Any:
        """Return what the network gives for one image in eval mode, or what it says where it takes no such image."""
        try:
            return self._in_eval(lambda: getattr(self.network, self._method)(self._images(size)))
        except _WRONG_SIZE as error:
            return " ".join(str(error).split())[:200] or type(error).__name__

    @torch.no_grad()
    def _in_eval(self, ask: Any) -> Any:
        training = self.training
        self.eval()
        try:
            return ask()
        finally:
            self.train(training)


def _halves_maps(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.stride == (2, 2) and layer.kernel_size != (2, 2)
    if isinstance(layer, (nn.AvgPool2d, nn.MaxPool2d)):
        return {layer.kernel_size, layer.stride} <= {2, (2, 2)}
    return False


def any_backbone(
    name: str, pretrained: bool | str | os.PathLike[str] = False, last_stride: int = 1, image_size: Sequence[int] = (256, 128),
) -> FeatureMaps:
    """Return the feature map of a network of torchreid, or of timm where the name is ``timm:NAME``.

    Args:
        name: ``"osnet_x1_0"``, ``"timm:convnext_tiny"``.
        pretrained: ImageNet weights: True (torchreid's, timm's), a file in the layout of the network, or False.
        last_stride: 1 for a map of 1/16 of the image (Luo et al., CVPRW 2019) where the network's is of 1/32 and its last
            stage has a stride to take away; 2 for the network as it is.
        image_size: height and width of the images.

    Raises:
        InputError: the name is unknown or the network is a two-stream one, its weights cannot be had or do not fit, it
            gives no feature map, or has no norm.

    Example:
        >>> any_backbone("shufflenet_v2_x0_5", image_size=(64, 32))(torch.zeros(1, 3, 64, 32)).shape
        torch.Size([1, 1024, 4, 2])
    """
    size = (int(image_size[0]), int(image_size[1]))
    if name.startswith(PREFIX):
        backbone = FeatureMaps(build_timm(name.removeprefix(PREFIX), pretrained, size), size)
    else:
        network = build_host_network(name, 1, pretrained is True, key="model.backbone")
        if norm_slots(network) and hasattr(network, "backbone"):
            raise InputError(
                f"model.backbone is {name}, a whole network of this package; set it as model.name, or name a network of "
                f"torchreid or {PREFIX}NAME"
            )
        backbone = FeatureMaps(network, size)
        if isinstance(pretrained, (str, os.PathLike)):
            _load(backbone.network, pretrained, name)
    if not norm_slots(backbone):
        raise InputError(
            f"model.backbone is {name}, which has no norm that the modalities could share or split (BatchNorm, LayerNorm, "
            "GroupNorm, RMSNorm); choose another one"
        )
    if last_stride == 1 and not backbone.set_last_stride_1():
        logger.info(f"model.backbone {name} has no last stride of 2 to change; its feature map stays as it is")
    return backbone


def _load(network: nn.Module, path: str | os.PathLike[str], name: str) -> None:
    """Load a file in torchreid's or torchvision's layout into a network without head.

    Raises:
        InputError: the file cannot be read, or it is of another network.
    """
    given = in_torchreids_layout(find_state(load_checkpoint(path), f'the file of weights "{path}"'), network.state_dict())
    load_fitting(network, given, f'"{path}"', f"model.backbone {name}")
