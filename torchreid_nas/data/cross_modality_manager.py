"""The data manager of cross-modality training: batches of [visible; infrared]."""
from __future__ import annotations

__all__ = ["CrossModalityDataManager"]

from collections.abc import Sequence

from torch.utils.data import DataLoader

from torchreid_nas.data.dataset import INFRARED, VISIBLE, CrossModalityDataset, Item
from torchreid_nas.data.manager import ReIDDataManager
from torchreid_nas.data.sampler import CrossModalityIdentitySampler, group_by_identity
from torchreid_nas.data.splits import relabel, split_identities, split_images
from torchreid_nas.errors import InputError, nearest

DEFAULT_FRACTION = 0.25
PARTS = ("identity", "image")


class CrossModalityDataManager(ReIDDataManager):
    """:class:`ReIDDataManager` whose training batches are [visible; infrared], see :class:`CrossModalityIdentitySampler`.

    The validation loaders hold the infrared images of the held-out identities
    as query and the visible ones as gallery; from both, either direction of
    retrieval can be computed.
    """

    def make_sampler(
        self, dataset: CrossModalityDataset, batch_size: int, num_instances: int, num_batches: int | None, seed: int,
    ) -> CrossModalityIdentitySampler:
        """Return P identities × K visible, then × K infrared images; ``num_batches`` defaults to the paper's formula."""
        return CrossModalityIdentitySampler(
            dataset.data, dataset.modality_of, batch_size, num_instances, num_batches, seed, self._copies(dataset)
        )

    def _identity_loader(
        self, dataset: CrossModalityDataset, batch_size: int, num_instances: int, num_batches: int | None, seed: int,
        key: str = "train.batch_size",
    ) -> DataLoader:
        """Return a training loader, of [visible; visible; infrared] where the channels have a second visible stream."""
        sampler = self.make_sampler(dataset, batch_size, num_instances, num_batches, seed)
        read = dataset.doubled() if self._copies(dataset) > 1 else dataset
        return self._loader(read, sampler.images_per_batch, sampler, key)

    def _copies(self, dataset: CrossModalityDataset) -> int:
        """Return how often a visible image enters a batch: once where images are seen as in a test."""
        return 1 if dataset.transform is self.transform_te else self.channels.visible_copies

    def validation_parts(self, dataset: CrossModalityDataset, items: Sequence[Item]) -> dict[str, list[Item]]:
        """Infrared images query, visible ones are the gallery."""
        return {
            part: [item for item in items if dataset.modality_of(item[2]) == modality]
            for part, modality in (("query", INFRARED), ("gallery", VISIBLE))
        }

    def search_split(
        self,
        by: str = "identity",
        fraction: float | None = None,
        seed: int | None = None,
        batch_size: int | None = None,
        num_instances: int | None = None,
        num_batches: int | None = None,
        augment_validation: bool = True,
    ) -> tuple[DataLoader, DataLoader, int]:
        """Part the training data into one for the weights and one for the architecture.

        Both loaders sample as in training. By identity the first part is
        relabelled 0..n-1 and the second n, n+1, ..., so that its labels can
        never pass for classes of the first; by image both share the labels of
        training. When the second part has fewer identities than a batch
        needs, its batches take all that there are.

        Args:
            by: ``"identity"`` or ``"image"``.
            fraction: share of the second part; default the official 99 of
                SYSU-MM01's 395 identities when it is the only source and
                ``by`` is ``"identity"``, otherwise 0.25. Rounding: see
                :func:`split_identities` and :func:`split_images`.
            seed: of split and samplers; default the manager's.
            batch_size: default that of training.
            num_instances: default that of training.
            num_batches: of the first part, per epoch; default the paper's formula.
            augment_validation: give the second part the transform of training
                too, otherwise that of testing.

        Returns:
            The loader of the first part, that of the second, and n.

        Raises:
            InputError: an argument is out of range, or a part has too few
                identities with both modalities (the second needs two).
        """
        if by not in PARTS:
            raise InputError(f'a search is split by {" or ".join(PARTS)}, not by "{by}"{nearest(by, PARTS)}')
        seed = self.seed if seed is None else seed
        batch_size = self.batch_size_train if batch_size is None else batch_size
        num_instances = self.num_instances if num_instances is None else num_instances
        items = self.trainset.train
        share = DEFAULT_FRACTION if fraction is None else fraction
        if by == "image":
            first, second = split_images(items, self.trainset.modality_of, share, seed)
            num_pids = self.num_train_pids
        else:
            pids = {item[1] for item in items}
            if fraction is None and self._val_pids:
                held_out = sorted(self._val_pids)
                kept = sorted(pids - self._val_pids)
            else:
                kept, held_out = split_identities(pids, share, seed)
            num_pids = len(kept)
            first = relabel(items, {pid: label for label, pid in enumerate(kept)})
            second = relabel(items, {pid: num_pids + i for i, pid in enumerate(held_out)})
        usable = sum(map(all, group_by_identity(second, self.trainset.modality_of).values()))
        if usable < 2:
            raise InputError(
                f"the architecture's part of the search, split by {by}, has {usable} identities with images in both "
                "modalities, expected at least 2; raise the validation fraction or use more training data"
            )
        second_size = min(batch_size, 2 * num_instances * usable)
        second_transform = self.transform_tr if augment_validation else self.transform_te
        return (
            self._identity_loader(
                self.trainset.view(first, self.transform_tr), batch_size, num_instances, num_batches, seed
            ),
            self._identity_loader(
                self.trainset.view(second, second_transform), second_size, num_instances, None, seed,
                "train.batch_size" if second_size == batch_size else "search.val_fraction",
            ),
            num_pids,
        )
