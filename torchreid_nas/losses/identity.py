"""Cross-entropy over the training identities."""
from __future__ import annotations

__all__ = ["identity_loss"]

from torch import nn


def identity_loss(label_smooth: bool = False) -> nn.CrossEntropyLoss:
    """Return the cross-entropy of logits (B, classes) with pids (B,), mean over the batch.

    The value is that of torchreid's ``CrossEntropyLoss``. Ours: torch's own
    cross-entropy. torchreid's writes one-hot labels on the CPU at every step, for
    which a GPU waits.

    Args:
        label_smooth: with torchreid's smoothing of 0.1.

    >>> import torch
    >>> criterion = identity_loss()
    >>> criterion(torch.zeros(2, 4), torch.tensor([0, 3]))  # log 4
    tensor(1.3863)
    """
    return nn.CrossEntropyLoss(label_smoothing=0.1 if label_smooth else 0.0)
