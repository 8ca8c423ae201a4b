"""The settings of a StarGAN across cameras: one frozen value, checked on creation, stored in the checkpoint."""
from __future__ import annotations

__all__ = ["PRECISIONS", "StarGANSettings"]

import dataclasses
import math
import numbers
from typing import Any

from torchreid_nas.errors import InputError, nearest

PRECISIONS = ("none", "bf16")
"""Names of the autocast of the training."""

# Inclusive range of every number. Below 8 pixels nothing is left after two halvings. A loss weight of 0 leaves a term out.
_RANGES: dict[str, tuple[float, float]] = {
    "height": (8, 4096),
    "width": (8, 4096),
    "channels": (1, 1024),
    "residual_blocks": (0, 100),
    "iterations": (1, 10**9),
    "batch_size": (1, 10**6),
    "n_critic": (1, 1000),
    "lr": (0.0, 1.0),
    "beta1": (0.0, 0.9999),
    "beta2": (0.0, 0.9999),
    "gradient_penalty": (0.0, 1e6),
    "classification": (0.0, 1e6),
    "reconstruction": (0.0, 1e6),
    "seed": (0, 2**63 - 1),
}


@dataclasses.dataclass(frozen=True)
class StarGANSettings:
    """Settings of a StarGAN (Choi et al., CVPR 2018) whose domains are cameras.

    All defaults but the size of the images are the paper's (Sections 3 to 5 and
    the appendix, on CelebA): channels, residual blocks, Adam, batch size, five
    updates of the discriminator to one of the generator, and the loss weights of
    Eq. 5, 6 and 8. The paper trains for 20 epochs, and its learning rate falls to 0
    over the second half. The 200,000 iterations come from the authors' code, with
    the same decay over the second half.

    Attributes:
        height, width: of the images in pixels, divisible by 4. The defaults are the
            size of the re-ID network that reads the images; the paper has 128 x 128.
        channels: of the first convolution of both networks.
        residual_blocks: number of residual blocks of the generator.
        iterations: updates of the discriminator.
        batch_size: real images per update.
        n_critic: updates of the discriminator per update of the generator.
        lr, beta1, beta2: of Adam, for both networks.
        gradient_penalty: λ_gp of Eq. 8.
        classification: λ_cls of Eq. 5 and 6.
        reconstruction: λ_rec of Eq. 6.
        amp: ``"none"`` or ``"bf16"``, the autocast of everything but the
            gradient penalty (ours).
        seed: of the weights, of the images and of every draw.

    Raises:
        InputError: a value has the wrong type or is out of its range.

    >>> StarGANSettings(height=64, width=32, iterations=100).learning_rate(75)
    5e-05
    """

    height: int = 256
    width: int = 128
    channels: int = 64
    residual_blocks: int = 6
    iterations: int = 200_000
    batch_size: int = 16
    n_critic: int = 5
    lr: float = 1e-4
    beta1: float = 0.5
    beta2: float = 0.999
    gradient_penalty: float = 10.0
    classification: float = 1.0
    reconstruction: float = 10.0
    amp: str = "none"
    seed: int = 1

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value: Any = getattr(self, field.name)
            if field.name == "amp":
                if value not in PRECISIONS:
                    known = ", ".join(PRECISIONS)
                    raise InputError(f'StarGAN: amp is "{value}", expected one of {known}{nearest(str(value), PRECISIONS)}')
                continue
            whole = isinstance(field.default, int)
            kind: Any = numbers.Integral if whole else numbers.Real
            low, high = _RANGES[field.name]
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                raise InputError(
                    f"StarGAN: {field.name} is {value!r}, expected a {'whole ' * whole}number from {low} to {high}"
                )
        for name in ("height", "width"):
            value = getattr(self, name)
            if value % 4:
                raise InputError(
                    f"StarGAN: {name} is {value}, expected a multiple of 4, since the generator halves it twice; "
                    f"use {value - value % 4} or {value + 4 - value % 4}"
                )

    def learning_rate(self, iteration: int) -> float:
        """Return the learning rate of a 0-based iteration: ``lr`` in the first half, then a linear fall towards 0."""
        falling = self.iterations - self.iterations // 2
        return self.lr * min(1.0, (self.iterations - iteration) / falling)

    @property
    def discriminator_layers(self) -> int:
        """Number of convolutions that halve the map.

        The paper's 6 where the shorter side then keeps 2 pixels, fewer on smaller images (ours).
        """
        return min(6, int(math.log2(min(self.height, self.width))) - 1)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> StarGANSettings:
        """Make the settings from the dict that ``dataclasses.asdict`` returns.

        Raises:
            InputError: the names are not the names of the settings, or see the class.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(values, dict) or set(values) != set(names):
            raise InputError(
                f"the settings of a StarGAN are {', '.join(names)}, but the checkpoint has other names; "
                "choose another --output to train anew"
            )
        return cls(**values)
