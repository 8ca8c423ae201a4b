"""Channel augmentation of CAJ: channel exchange and channel-adaptive grey, per stream of a training batch.

Ye, Ruan, Du, Shou. "Channel Augmented Joint Learning for Visible-Infrared Recognition", ICCV 2021. A batch of CAJ is
[visible; visible of another augmentation; infrared]. Each of these three streams has a rule of its own. The rules act
on normalised images, after erasing, as in the authors' code.
"""
from __future__ import annotations

__all__ = [
    "FIRST_VISIBLE", "INFRARED_STREAM", "RULES", "SECOND_VISIBLE", "UNCHANGED_CHANNELS", "ChannelDraw", "ChannelRule", "Channels",
    "StreamedCompose", "change_channels",
]

import dataclasses
import functools
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchvision import transforms as T

from torchreid_nas.device import move
from torchreid_nas.errors import InputError, nearest

FIRST_VISIBLE, SECOND_VISIBLE, INFRARED_STREAM = range(3)

GRAY, UNCHANGED = 3, 4
_GRAY_WEIGHTS = (0.2989, 0.5870, 0.1140)

RULES = {
    "none": (0.0, 0.0, 0.0, 0.0, 1.0),
    "exchange": (1 / 3, 1 / 3, 1 / 3, 0.0, 0.0),
    "adaptive": (1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8),
}
"""For each rule the shares of: channel 0, 1 or 2 repeated three times, grey, the image as it is."""


@dataclasses.dataclass(frozen=True)
class Channels:
    """The rules of the three streams of a training batch; the defaults change nothing and add no second visible stream.

    Args:
        visible: rule of the visible images; one of :data:`RULES`.
        second_visible: rule of the second copy of every visible image; ``""`` for no second copy.
        infrared: rule of the infrared images.

    Raises:
        InputError: a rule is unknown.

    Example:
        >>> Channels(second_visible="exchange", infrared="adaptive").visible_copies
        2
    """

    visible: str = "none"
    second_visible: str = ""
    infrared: str = "none"

    def __post_init__(self) -> None:
        for name, rule in dataclasses.asdict(self).items():
            if rule not in RULES and not (name == "second_visible" and rule == ""):
                raise InputError(
                    f'data.channels.{name} is "{rule}", expected one of {", ".join(RULES)}{nearest(rule, RULES)}'
                )

    @property
    def visible_copies(self) -> int:
        """How often a visible image enters a batch."""
        return 2 if self.second_visible else 1

    @property
    def rules(self) -> tuple[str, str, str]:
        """The rules of the first visible, the second visible and the infrared stream."""
        return self.visible, self.second_visible or "none", self.infrared

    @property
    def change(self) -> bool:
        """Whether a rule changes an image."""
        return set(self.rules) != {"none"}


UNCHANGED_CHANNELS = Channels()
"""The rules that change nothing."""


class ChannelRule:
    """A rule as a plain transform: normalised image, float32 (3, H, W), to the same shape.

    ``ChannelRule("exchange")`` is the authors' ``ChannelExchange`` (one of the three channels, drawn evenly, three times);
    ``ChannelRule("adaptive")`` their ``ChannelAdapGray``. Draws come from Python's global generator.

    Args:
        rule: one of :data:`RULES`.

    Raises:
        InputError: the rule is unknown.

    Example:
        >>> image = torch.arange(3.0).view(3, 1, 1)
        >>> ChannelRule("exchange")(image).unique().numel()
        1
    """

    def __init__(self, rule: str) -> None:
        if rule not in RULES:
            raise InputError(f'the channel rule "{rule}" is unknown, expected one of {", ".join(RULES)}{nearest(rule, RULES)}')
        self.rule = rule

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image after the rule, in place or not."""
        choice = random.choices(range(len(RULES[self.rule])), RULES[self.rule])[0]
        change_channels(image.numpy(), choice)
        return image


def change_channels(image: np.ndarray, choice: int) -> None:
    """Make one choice of :data:`RULES` of a normalised image, float32 (3, H, W), in place.

    Example:
        >>> image = np.arange(3, dtype=np.float32).reshape(3, 1, 1)
        >>> change_channels(image, 2)
        >>> image.ravel().tolist()
        [2.0, 2.0, 2.0]
    """
    if choice != UNCHANGED:
        image[:] = (_gray(image) if choice == GRAY else image[choice]).copy()


def _gray(channels: Any) -> Any:
    """Return the weighted sum of three channels, in the authors' order of summation."""
    red, green, blue = (weight * channel for weight, channel in zip(_GRAY_WEIGHTS, channels))
    return red + green + blue


class ChannelDraw:
    """The rules as an operation on whole batches, beside the steps of :class:`~torchreid_nas.data.augmentation.BatchTransform`.

    Args:
        channels: the rules.
    """

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        shares = torch.tensor([RULES[rule] for rule in channels.rules], dtype=torch.float64)
        self._bounds = shares.cumsum(dim=1)[:, :-1]

    def draw(self, streams: Sequence[int], generator: torch.Generator | None) -> torch.Tensor:
        """Draw the choice of each image of a batch, int64 (B, 1) on the CPU, for its stream."""
        numbers = torch.rand(len(streams), 1, generator=generator, dtype=torch.float64)
        return (numbers >= self._bounds[torch.as_tensor(streams)]).sum(dim=1, keepdim=True)

    def apply_to_batch(self, images: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """Return normalised images, float32 (B, 3, H, W), after the choices that were drawn."""
        repeated = torch.where(drawn < GRAY, drawn, torch.arange(3))
        channels = move(repeated, images.device)[:, :, None, None].expand_as(images)
        output = images.gather(1, channels)
        rows = move((drawn[:, 0] == GRAY).nonzero()[:, 0], images.device)
        gray = _gray(images.index_select(0, rows).unbind(1))
        return output.index_copy_(0, rows, gray[:, None].expand(-1, 3, -1, -1).to(output.dtype))


class StreamedCompose(T.Compose):
    """A ``Compose`` that ends with the rule of the image's stream.

    Called by itself it is the transform of the first visible stream; :meth:`of` gives that of each stream.

    Args:
        pieces: PIL image to normalised tensor.
        channels: the rules.
    """

    def __init__(self, pieces: Sequence[Any], channels: Channels) -> None:
        super().__init__([*pieces])
        self.channels = channels

    def of(self, stream: int) -> T.Compose:
        """Return the transform of a stream: ``FIRST_VISIBLE``, ``SECOND_VISIBLE`` or ``INFRARED_STREAM``."""
        return self._composed[stream]

    def __call__(self, image: Any) -> Any:
        """Transform an image of the first visible stream."""
        return self.of(FIRST_VISIBLE)(image)

    @functools.cached_property
    def _composed(self) -> list[T.Compose]:
        return [T.Compose([*self.transforms, ChannelRule(rule)]) for rule in self.channels.rules]
