"""Cross-entropy over the training identities."""
from __future__ import annotations

__all__ = ["identity_loss"]

from torch import nn


def identity_loss(label_smooth: bool = False) -> nn.CrossEntropyLoss:
    """Return the cross-entropy of logits (B, classes) with pids (B,), mean over the batch.

    The value is that of torchreid's ``CrossEntropyLoss``, which writes one-hot
    labels on the CPU at every step and so makes a GPU wait.

    Args:
        label_smooth: with torchreid's smoothing of 0.1.
    """
    return nn.CrossEntropyLoss(label_smoothing=0.1 if label_smooth else 0.0)
