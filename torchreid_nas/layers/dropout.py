"""Dropout on several processes that drops what one process with the whole batch drops."""
from __future__ import annotations

__all__ = ["whole_dropout"]

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from torchreid_nas.distributed import processes, rank
from torchreid_nas.layers.modality import joint_parts
from torchreid_nas.layers.swapping import behaving
from torchreid_nas.layers.sync_norm import uncompiled

# Layers that multiply a batch by random factors; timm's and torchvision's stochastic depth go by their names.
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_DEPTHS = ("DropPath", "StochasticDepth")


class _WholeBatch(nn.Module):
    """What :func:`whole_dropout` puts before the class of a dropout."""

    def forward(self, x: Tensor) -> Tensor:
        """Multiply a batch in train mode by this process's share of the factors of the whole batch."""
        output: Tensor = x * self._factors(x) if self.training else super().forward(x)
        return output

    @uncompiled
    @torch.no_grad()
    def _factors(self, x: Tensor) -> Tensor:
        """Return the factors of the rows of ``x``: every process draws the factors of all rows from the same random state."""
        shape = x.shape[1:]
        # Stochastic depth has one factor per image.
        if not isinstance(self, _DROPOUTS):
            shape = torch.Size([1] * len(shape))
        parts = [len(part) * processes() for part in torch.split(x, joint_parts(len(x)))]
        ones = x.new_ones(len(x) * processes(), *shape)
        # Numbers are drawn in the order in which they lie in memory.
        if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
            ones = ones.contiguous(memory_format=torch.channels_last)
        whole: Tensor = super().forward(ones)
        return torch.cat([part.chunk(processes())[rank()] for part in torch.split(whole, parts)])


def whole_dropout(model: nn.Module) -> AbstractContextManager[None]:
    """Return a block in which the dropout and the stochastic depth of ``model`` draw their numbers for the whole batch.

    All processes must have the same random state and shares of the same length. The function does nothing in a single
    process. A network that calls ``torch.nn.functional.dropout`` by itself is out of its reach: there every process drops
    the same places of its own share.

    Example:
        >>> layer = nn.Dropout(0.5)
        >>> with whole_dropout(layer):
        ...     layer(torch.ones(2, 3)).shape
        torch.Size([2, 3])
    """
    layers = [layer for layer in model.modules() if isinstance(layer, _DROPOUTS) or type(layer).__name__ in _DEPTHS]
    return behaving(layers if processes() > 1 else [], _WholeBatch)
