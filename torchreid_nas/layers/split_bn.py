"""BatchNorm with separate statistics and affine parameters per modality (CM-NAS; Fu et al., ICCV 2021)."""
from __future__ import annotations

__all__ = ["SplitBatchNorm2d", "normalize_by_modality"]

import torch
from torch import nn

from torchreid_nas.layers.modality import BOTH, MODALITIES, ModalityLayer
from torchreid_nas.layers.split_function import finish, is_plain, parts, split_batch_norm
from torchreid_nas.layers.split_norm import SplitNorm, check_joint
from torchreid_nas.layers.sync_norm import are_synchronized, normalize_parts


class SplitBatchNorm2d(SplitNorm):
    """One ``BatchNorm2d`` per modality in the place of one.

    A joint batch is normalised by its two parts. A batch of one declared modality
    goes through the BatchNorm of that modality alone. In train mode the native
    kernel writes both parts into one output (see split_function.py); layers
    with hooks, frozen layers and subclasses are called as they are.

    Args:
        bn: the layer to split, or the number of channels of a new one. Both
            copies start from its parameters and running statistics (CM-NAS
            copies the pretrained BatchNorm into all).

    Shapes: (N, C, H, W) -> (N, C, H, W) in the dtype and memory format of the
    input: float32, or float16/bfloat16 with parameters in float32.

    Example:
        >>> layer = SplitBatchNorm2d(4)
        >>> layer(torch.randn(6, 4, 2, 2)).shape
        torch.Size([6, 4, 2, 2])
        >>> layer.visible.num_batches_tracked.item(), layer.infrared.num_batches_tracked.item()
        (1, 1)
        >>> from torchreid_nas.layers import modality_context
        >>> with modality_context("visible"):
        ...     _ = layer(torch.randn(6, 4, 2, 2))
        >>> layer.visible.num_batches_tracked.item(), layer.infrared.num_batches_tracked.item()
        (2, 1)
    """

    def __init__(self, bn: nn.BatchNorm2d | int) -> None:
        super().__init__(nn.BatchNorm2d(bn) if isinstance(bn, int) else bn)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise a batch (N, C, H, W).

        Raises:
            InputError: the modality is not known in eval mode, or a joint
                batch does not divide into its parts.
        """
        return normalize_by_modality(self, x, self.visible, self.infrared)


def normalize_by_modality(
    layer: ModalityLayer, x: torch.Tensor, visible: nn.BatchNorm2d, infrared: nn.BatchNorm2d,
) -> torch.Tensor:
    """Normalise a batch (N, C, H, W) of ``layer`` by the BatchNorm of its modality, a joint batch by its parts.

    Raises:
        InputError: the modality is not known in eval mode, or a joint batch does not divide into its parts.
    """
    modality = layer.modality()
    if modality != BOTH:
        output: torch.Tensor = (visible, infrared)[MODALITIES.index(modality)](x)
        return output
    length = check_joint(layer, x)
    if are_synchronized(visible, infrared):
        return finish(visible, normalize_parts(x, (visible, infrared), (length, len(x) - length)))
    if is_plain(x, visible, infrared, length=length):
        return finish(visible, split_batch_norm(x, visible, infrared, length))
    first, second = parts(x, length)
    return torch.cat((visible(first), infrared(second)))
