"""Batches of P identities x K visible images, then the same identities x K infrared ones."""
from __future__ import annotations

__all__ = ["CrossModalityIdentitySampler", "group_by_identity"]

import warnings
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from torchreid_nas.data.dataset import INFRARED, VISIBLE, Item
from torchreid_nas.errors import InputError, InputWarning


def group_by_identity(
    items: Sequence[Item], modality_of: Callable[[int], int]
) -> dict[int, tuple[list[int], list[int]]]:
    """Return for each pid, in ascending order, the positions of its visible and of its infrared items."""
    groups: dict[int, tuple[list[int], list[int]]] = {pid: ([], []) for pid in sorted({item[1] for item in items})}
    for position, (_, pid, camid, _) in enumerate(items):
        groups[pid][modality_of(camid)].append(position)
    return groups


class CrossModalityIdentitySampler(Sampler[int]):
    """Sample the batches of cross-modality training, [visible; infrared] in the same identity order.

    Each run of ``batch_size`` = 2PK indices is P identities x K visible images
    and then the same identities, in the same order, x K infrared ones
    (CM-NAS, ICCV 2021: P = 16, K = 4). Identities are drawn without
    replacement within a batch and afresh for each; so are an identity's
    images, except that one with fewer than K in a modality draws those with
    replacement (the authors' code always does).

    With ``visible_copies`` above 1 the visible indices follow again before the
    infrared ones, raised by ``len(items)`` at each copy, as
    :meth:`CrossModalityDataset.doubled` numbers the copies (CAJ, ICCV 2021:
    [visible; visible; infrared]). The images drawn stay the same.

    The order depends on (seed, epoch) alone: call :meth:`set_epoch` before
    each epoch, or every epoch repeats the same batches.

    Args:
        items: (path, pid, camid, dsetid) tuples; indices refer to it.
        modality_of: camid -> ``VISIBLE`` or ``INFRARED``.
        batch_size: images in a batch, further visible copies aside; a multiple of ``2 * num_instances``.
        num_instances: K, images per identity and modality.
        num_batches: batches per epoch; default the paper's
            floor(max(visible images, infrared images) / (PK)) + 1.
        seed: of all epochs, at least 0.
        visible_copies: how often a visible image enters a batch.

    Attributes:
        images_per_batch: images in a batch, all visible copies counted.
        parts: parts of a batch, of equal length: visible, further visible copies, infrared.
        num_pids_per_batch: P.
        pids: identities that are drawn from.
        left_out: identities that lack a modality (a warning names them).

    Raises:
        InputError: ``batch_size`` does not fit ``num_instances``, fewer than P
            identities have both modalities, or a number is out of range.
    """

    def __init__(
        self,
        items: Sequence[Item],
        modality_of: Callable[[int], int],
        batch_size: int,
        num_instances: int = 4,
        num_batches: int | None = None,
        seed: int = 0,
        visible_copies: int = 1,
    ):
        super().__init__()
        if num_instances < 1 or batch_size < 1 or batch_size % (2 * num_instances):
            raise InputError(
                f"the training batch size {batch_size} (train.batch_size) does not split into visible and infrared "
                f"halves of {num_instances} images per identity (sampler.num_instances); "
                f"use a multiple of {2 * max(num_instances, 1)}"
            )
        if num_batches is not None and num_batches < 1:
            raise InputError(f"the number of batches per epoch is {num_batches}, expected at least 1")
        if seed < 0:
            raise InputError(f"the seed of the sampler is {seed}, expected at least 0")
        self.batch_size = batch_size
        self.visible_copies, self._count = visible_copies, len(items)
        self.parts = visible_copies + 1
        self.images_per_batch = batch_size // 2 * self.parts
        self.num_instances = num_instances
        self.num_pids_per_batch = batch_size // (2 * num_instances)
        self.seed = seed
        self.epoch = 0

        groups = group_by_identity(items, modality_of)
        self._groups = [tuple(map(np.asarray, group)) for group in groups.values() if all(group)]
        self.pids = tuple(pid for pid, group in groups.items() if all(group))
        self.left_out = tuple(pid for pid, group in groups.items() if not all(group))
        if len(self.pids) < self.num_pids_per_batch:
            alone = [sum(bool(group[m]) and not group[1 - m] for group in groups.values()) for m in (VISIBLE, INFRARED)]
            if len(groups) in alone:
                name = "infrared" if alone[VISIBLE] == 0 else "visible"
                raise InputError(
                    f"all {len(groups)} training identities have {name} images only, and "
                    "half of a batch is visible, half infrared; name a data set of both modalities in data.sources"
                )
            if min(alone) > len(self.pids):
                raise InputError(
                    f"{len(self.pids)} of {len(groups)} training identities have images in both modalities, {alone[0]} have "
                    f"visible images only and {alone[1]} infrared images only, and a batch needs {self.num_pids_per_batch} with "
                    "both; the label of a person must be the same in both modalities: check the labels of the training images"
                )
            raise InputError(
                f"a batch needs {self.num_pids_per_batch} identities (train.batch_size {batch_size} over 2 x "
                f"sampler.num_instances {num_instances}), but {len(self.pids)} of {len(groups)} have images in both "
                "modalities; lower train.batch_size or raise sampler.num_instances"
            )
        if self.left_out:
            warnings.warn(
                f"{len(self.left_out)} of {len(groups)} identities lack visible or infrared images and are left out "
                f"of training: labels {', '.join(map(str, self.left_out[:5]))}{', ...' if len(self.left_out) > 5 else ''}",
                InputWarning,
                stacklevel=2,
            )
        if num_batches is None:
            sizes = [sum(len(group[modality]) for group in groups.values()) for modality in (VISIBLE, INFRARED)]
            num_batches = max(sizes) // (batch_size // 2) + 1
        self.num_batches = num_batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Yield ``num_batches * images_per_batch`` indices; the next iteration is the next epoch's.

        An engine that knows ``set_epoch`` says which epoch it is; torchreid's
        own do not, and get another order each time all the same.
        """
        generator = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        for _ in range(self.num_batches):
            chosen = generator.choice(len(self._groups), self.num_pids_per_batch, replace=False)
            for modality in (VISIBLE, INFRARED):
                part: list[int] = []
                for identity in chosen:
                    images = self._groups[identity][modality]
                    short = len(images) < self.num_instances
                    part += generator.choice(images, self.num_instances, replace=short).tolist()
                yield from part
                for copy in range(1, self.visible_copies if modality == VISIBLE else 1):
                    yield from (index + copy * self._count for index in part)

    def __len__(self) -> int:
        """Return the exact number of indices of an epoch."""
        return self.num_batches * self.images_per_batch
