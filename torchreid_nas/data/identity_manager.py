"""The data manager of single-modality training: batches of P identities × K images."""
from __future__ import annotations

__all__ = ["BoundedSampler", "IdentityDataManager"]

from collections.abc import Iterator, Sequence
from typing import Protocol

import torchreid
from torch.utils.data import DataLoader, Sampler

from torchreid_nas.data.dataset import CrossModalityDataset, Item
from torchreid_nas.data.manager import ReIDDataManager
from torchreid_nas.data.splits import split_images_by_count
from torchreid_nas.errors import InputError


class IdentityDataManager(ReIDDataManager):
    """:class:`ReIDDataManager` for torchreid's own data sets, with torchreid's ``RandomIdentitySampler``.

    That sampler draws from Python's and NumPy's global random states: seed
    them per epoch, as the engines here do, for runs that repeat. The
    validation loaders hold one image per held-out identity and camera as
    query, all images as gallery, as Market-1501 does.
    """

    def make_sampler(
        self, dataset: CrossModalityDataset, batch_size: int, num_instances: int, num_batches: int | None, seed: int,
    ) -> Sampler:
        """Return torchreid's sampler; its own number of batches, ``num_batches`` only bounds it.

        Raises:
            InputError: a batch that the identities do not fill.
        """
        pids = {item[1] for item in dataset.data}
        needed = batch_size // num_instances
        if batch_size % num_instances or needed < 2 or len(pids) < needed:
            raise InputError(
                f"a batch of {batch_size} images takes {needed} identities of {num_instances} images, there are "
                f"{len(pids)}; set train.batch_size to a multiple of sampler.num_instances that they fill"
            )
        sampler = torchreid.data.sampler.build_train_sampler(
            dataset.data, "RandomIdentitySampler", batch_size=batch_size, num_instances=num_instances
        )
        return sampler if num_batches is None else BoundedSampler(sampler, num_batches * batch_size)

    def validation_parts(self, dataset: CrossModalityDataset, items: Sequence[Item]) -> dict[str, list[Item]]:
        """The first image of each identity and camera queries; identities of one camera alone are left out.

        Where every identity has one camera, each image counts as a camera of its own.
        """
        cameras: dict[int, set[int]] = {}
        for _, pid, camid, _ in items:
            cameras.setdefault(pid, set()).add(camid)
        if all(len(seen) == 1 for seen in cameras.values()):
            # Images without cameras, or of one camera: every image queries and skips itself alone.
            items = [(path, pid, place, dsetid) for place, (path, pid, _, dsetid) in enumerate(items)]
            return {"query": list(items), "gallery": list(items)}
        items = [item for item in items if len(cameras[item[1]]) > 1]
        first = {(item[1], item[2]): item for item in reversed(items)}
        return {"query": list(first.values()), "gallery": list(items)}

    def search_split(
        self, images: int = 4, overlap: bool = False, seed: int | None = None,
    ) -> tuple[DataLoader, DataLoader, int]:
        """Part the training images into those for the weights and those for the architecture; identities are in both.

        Args:
            images: per identity for the architecture (4 in the paper).
            overlap: leave these images in the first part too, as the authors' code does.
            seed: of the choice; default the manager's.

        Returns:
            The loader of the first part, that of the second, and the number of identities.

        Raises:
            InputError: too few images or identities for a batch.
        """
        seed = self.seed if seed is None else seed
        first, second = split_images_by_count(self.trainset.train, images, overlap, seed)
        loaders = [
            self._identity_loader(
                self.trainset.view(part, self.transform_tr), self.batch_size_train, self.num_instances,
                self.num_batches, seed,
            )
            for part in (first, second)
        ]
        return loaders[0], loaders[1], self.num_train_pids


class SizedSampler(Protocol):
    """A sampler that knows its length."""

    def __iter__(self) -> Iterator[int]:
        """Yield indices."""

    def __len__(self) -> int:
        """Return how many indices there are."""


class BoundedSampler(Sampler):
    """The first ``length`` indices of a sampler, or all where it has fewer."""

    def __init__(self, sampler: SizedSampler, length: int) -> None:
        self.sampler, self.length = sampler, min(length, len(sampler))
        # OwnShare reads these two of a sampler.
        self.parts, self.num_instances = getattr(sampler, "parts", 1), getattr(sampler, "num_instances", 1)

    def __iter__(self) -> Iterator[int]:
        """Yield them."""
        for _, index in zip(range(self.length), self.sampler):
            yield index

    def __len__(self) -> int:
        """Return how many they are."""
        return self.length
