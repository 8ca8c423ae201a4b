"""How an engine trains, apart from what it optimises; and the seed of everything random."""
from __future__ import annotations

__all__ = ["TrainingOptions", "seed_everything"]

import dataclasses

import numpy as np
import torch
import torchreid


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """How an engine trains, apart from what it optimises.

    Args:
        device: where the model lives.
        seed: of everything random.
        amp: autocast: ``"none"``, ``"bf16"`` or ``"fp16"``.
        channels_last: memory format of model and images.
        ema: decay of the average of the weights per step; 0 for no average.
        eval_freq: epochs between two looks at the held-out identities.
        accumulate: batches per step of the optimiser, which takes the mean of
            their gradients. Every batch keeps BatchNorm statistics and a loss
            of its own: pairs and triplets are not formed across batches. The
            last step of an epoch takes the batches that are left.
        compile: compile the network for training: its ``backbone``, or the
            whole model where it has no ``backbone``.
        sync_bn: whether BatchNorms take their statistics over the batch of all processes; see
            :func:`torchreid_nas.layers.synchronized_norms`.
        checkpoint_minutes: minutes after which a checkpoint is written inside an epoch; 0 for one at the end of each epoch alone.
        keep_checkpoints: newest checkpoints that stay, for the case that the newest is damaged.

    Example:
        >>> TrainingOptions(amp="bf16").device
        device(type='cpu')
    """

    device: torch.device = torch.device("cpu")
    seed: int = 1
    amp: str = "none"
    channels_last: bool = False
    ema: float = 0.0
    eval_freq: int = 10
    accumulate: int = 1
    compile: bool = False
    sync_bn: bool = True
    checkpoint_minutes: float = 0.0
    keep_checkpoints: int = 2


def seed_everything(seed: int, *parts: int) -> None:
    """Seed Python, NumPy and torch (all devices) by ``seed`` and further numbers, such as the epoch.

    An engine seeds every epoch anew: an epoch depends on its number and not on
    what ran before, so that a resumed run needs no stored random states. The
    seeds come from :class:`numpy.random.SeedSequence` and are the same in every
    version of Python and NumPy.

    Args:
        seed: at least 0.
        parts: further numbers, each at least 0.

    Example:
        >>> seed_everything(1, 0)
        >>> first = torch.rand(2)
        >>> seed_everything(1, 0)
        >>> torch.equal(torch.rand(2), first)
        True
    """
    sequence = np.random.SeedSequence(seed, spawn_key=parts)
    torchreid.utils.set_random_seed(int(sequence.generate_state(1)[0]))
