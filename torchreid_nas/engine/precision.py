"""Number format and memory format of a training: autocast, loss scaling, channels-last."""
from __future__ import annotations

__all__ = ["Precision"]

import contextlib
import logging
from collections.abc import Iterator

import torch
from torch import nn

from torchreid_nas.device import endangered_by_channels_last, rectify_in_place
from torchreid_nas.errors import InputError

logger = logging.getLogger(__name__)

_AMP = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """The device, the number format and the memory format that a network is trained in.

    Args:
        device: where network and images live.
        amp: autocast: ``"none"``, ``"bf16"`` or ``"fp16"``; fp16 scales its losses.
        channels_last: memory format of network and images.

    Attributes:
        scaler: scales the losses of fp16; does nothing in other formats.

    Raises:
        InputError: another ``amp``.

    Example:
        >>> precision = Precision(torch.device("cpu"), "bf16")
        >>> model = precision.place(nn.Linear(2, 3))
        >>> with precision.autocast():
        ...     model(precision.to_device(torch.ones(1, 2))).dtype
        torch.bfloat16
    """

    def __init__(self, device: torch.device, amp: str = "none", channels_last: bool = False) -> None:
        if amp not in _AMP:
            raise InputError(f'amp (train.amp) is "{amp}", expected one of {", ".join(_AMP)}')
        self.device, self.amp, self.channels_last = device, amp, channels_last
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp == "fp16")

    def place(self, model: nn.Module, trains: bool = True) -> nn.Module:
        """Move a network to the device, in place, in the memory format, and return it.

        Channels-last is left where it would corrupt the memory of a training, with a note if this is one: see
        :func:`~torchreid_nas.device.endangered_by_channels_last`.
        """
        endangered = None
        if self.channels_last and self.device.type == "cpu" and self.amp == "none":
            endangered = endangered_by_channels_last(model)
        if endangered is not None:
            if trains:
                logger.info(
                    f'note: train.channels_last is left alone: torch corrupts memory in the backward pass of "{endangered}", '
                    "a 1×1 convolution with a stride whose channels are no multiple of 16"
                )
            self.channels_last, self._format = False, torch.contiguous_format
        model = model.to(self.device, memory_format=self._format)  # type: ignore[call-overload]  # torch's stub lacks this form
        if self.device.type == "cpu" and self.amp == "bf16":
            rectify_in_place(model, False)
        return model

    def to_device(self, images: torch.Tensor) -> torch.Tensor:
        """Move images to the device in the memory format."""
        return images.to(self.device, non_blocking=True).contiguous(memory_format=self._format)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Return the context of mixed precision."""
        dtype = _AMP[self.amp]
        return torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None)

    @contextlib.contextmanager
    def explained_layout(self, model: nn.Module) -> Iterator[None]:
        """Say in one sentence that a network cannot have channels-last, as torchreid's PCB, which views its maps as rows.

        Raises:
            InputError: the network calls ``view`` on its maps.
        """
        try:
            yield
        except RuntimeError as error:
            if self.channels_last and "view size is not compatible" in str(error):
                raise InputError(
                    f"{type(model).__name__} cannot be computed in channels-last (it calls view on its maps); "
                    "set train.channels_last False"
                ) from error
            raise
