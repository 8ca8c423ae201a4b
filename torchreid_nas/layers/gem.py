"""Generalised-mean pooling with a fixed exponent, as AGW and CAJ pool."""
from __future__ import annotations

__all__ = ["GeMPool"]

import math

import torch
from torch import Tensor, nn

from torchreid_nas.errors import InputError


class GeMPool(nn.Module):
    r"""Pool each channel by its generalised mean.

    Radenović, Tolias, Chum. "Fine-tuning CNN Image Retrieval with No Human Annotation",
    TPAMI 2019, Eq. 3, with the fixed exponent of AGW (Ye et al., TPAMI 2021) and the 1e-12
    of the code of AGW's authors:

    .. math:: f_c = (\frac{1}{HW} \sum_{hw} x_{chw}^p + 10^{-12})^{1/p}

    p = 1 is average pooling up to the 1e-12; a larger p comes nearer to max pooling. The
    input must not be negative (it follows a ReLU) unless p is an odd whole number; an odd p
    gives NaN where the mean of the powers is negative, as in the authors' code.

    Args:
        p: exponent, above 0.

    Shapes: (B, C, H, W) -> (B, C), float32 for half precision input.

    Raises:
        InputError: ``p`` is not a finite number above 0.

    >>> GeMPool(3.0)(torch.tensor([[[[0.0, 2.0]]]]))
    tensor([[1.5874]])
    """

    def __init__(self, p: float = 3.0) -> None:
        super().__init__()
        if not (math.isfinite(p) and p > 0):
            raise InputError(f"the exponent p of GeM pooling is {p}, expected a finite number above 0; AGW's is 3")
        self.p = float(p)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) means of the feature maps (B, C, H, W)."""
        with torch.autocast(images.device.type, enabled=False):
            values = images.to(torch.promote_types(images.dtype, torch.float32)).flatten(2)
            return (values.pow(self.p).mean(dim=2) + 1e-12).pow(1 / self.p)

    def extra_repr(self) -> str:
        """Return the exponent, for ``repr``."""
        return f"p={self.p:g}"
