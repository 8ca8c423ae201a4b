"""The weights that CDNet's networks and necks start from."""
from __future__ import annotations

__all__ = ["init_params"]

from torch import nn


def init_params(module: nn.Module) -> None:
    """Initialise the layers of ``module`` as the authors do, in place.

    Convolutions Kaiming normal, linear layers N(0, 0.001²), BatchNorms 1 and 0, biases 0.

    Example:
        >>> layer = nn.BatchNorm2d(2)
        >>> init_params(layer)
        >>> layer.weight.tolist(), layer.bias.tolist()
        ([1.0, 1.0], [0.0, 0.0])
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.001)
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)) and layer.affine:
            nn.init.ones_(layer.weight)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
