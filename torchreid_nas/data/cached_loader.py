"""A loader whose batches come from decoded images: no decoding, no worker processes, augmentation of the whole batch."""
from __future__ import annotations

__all__ = ["CachedLoader"]

import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from torchreid_nas.data.augmentation import BatchTransform
from torchreid_nas.data.cache import DecodedImages
from torchreid_nas.data.dataset import CrossModalityDataset


class CachedLoader(DataLoader):
    """Yields what ``DataLoader`` over the same data set and sampler yields, with the images on ``device`` already.

    Everything else of a batch has the default collate function's types and
    stays on the CPU. The images are normalised float32 (B, 3, H, W), so any
    engine can train on them. Indices and random numbers are drawn in this
    thread: the latter from a generator of the loader's own, seeded at the
    start of each pass from torch's global one, so that a pass depends on that
    seed alone. A thread copies the next batch's pixels out of the memory map
    (and, for a GPU, into pinned memory) while this one is worked on.

    Args:
        dataset: what is read; its own transform is not used.
        batch_size, sampler, drop_last: as of ``DataLoader``.
        images: decoded images that cover the data set.
        transform: what is done to a batch of pixels.
        device: where the images are put.
        channels_last: memory order of the images.
    """

    def __init__(
        self, dataset: CrossModalityDataset, batch_size: int, sampler: Sampler | None = None, drop_last: bool = False, *,
        images: DecodedImages, transform: BatchTransform, device: torch.device | str = "cpu", channels_last: bool = False,
    ) -> None:
        super().__init__(dataset, batch_size, sampler=sampler, drop_last=drop_last)
        self._images, self._transform, self._device = images, transform, torch.device(device)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._rows = images.rows(item[0] for item in dataset.data)
        self._buffers = _Buffers()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of one pass.

        Raises:
            InputError: at the first batch: an image is missing or broken, or
                the decoded images cannot be written.
        """
        generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        items, rows, pixels = self.dataset.data, self._rows, self._images.pixels
        with ThreadPoolExecutor(1) as thread:

            def begin(indices: list[int] | None) -> tuple[list[int], Future] | None:
                return None if indices is None else (indices, thread.submit(self._gather, pixels, rows[indices]))

            batches = iter(self.batch_sampler)
            upcoming = begin(next(batches, None))
            while upcoming is not None:
                (indices, gathered), upcoming = upcoming, begin(next(batches, None))
                paths, pids, camids, dsetids = zip(*(items[index] for index in indices))
                yield {
                    "img": self._finish(gathered.result(), generator),
                    "pid": torch.tensor(pids),
                    "camid": torch.tensor(camids),
                    "impath": list(paths),
                    "dsetid": torch.tensor(dsetids),
                    "modality": torch.tensor([self.dataset.modality_of(camid) for camid in camids]),
                    "index": torch.tensor(indices),
                }

    def _gather(self, pixels: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        batch = torch.empty(len(rows), *pixels.shape[1:], dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        # With another mode NumPy goes through a buffer of its own; the rows are known to be there.
        np.take(pixels, rows, axis=0, out=batch.numpy(), mode="clip")
        return batch

    def _finish(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        count, height, width, _ = pixels.shape
        drawn = self._transform.draw(count, height, width, generator)
        pixels = pixels.to(self._device, non_blocking=True)
        return self._transform.apply(pixels, drawn, self._out(count, height, width))

    def _out(self, count: int, height: int, width: int) -> torch.Tensor:
        if self._device.type == "cpu":
            flat = self._buffers.lend(count * 3 * height * width)
            if self._memory_format == torch.channels_last:
                return flat.view(count, height, width, 3).permute(0, 3, 1, 2)
            return flat.view(count, 3, height, width)
        return torch.empty(count, 3, height, width, device=self._device).to(memory_format=self._memory_format)


class _Buffers:
    """Float32 memory that is lent again once nobody holds the tensor that had it, nor a view of it.

    The operating system clears fresh memory page by page, which for a batch of
    128 images takes longer than filling it. (A GPU's allocator keeps memory by itself.)
    """

    def __init__(self) -> None:
        self._lent: list[tuple[np.ndarray, weakref.ref]] = []

    def lend(self, count: int) -> torch.Tensor:
        """Return ``count`` numbers, not initialised."""
        free = [buffer for buffer, borrower in self._lent if borrower() is None and buffer.size == count]
        buffer = free[0] if free else np.empty(count, np.float32)
        # The storage of a tensor keeps alive the array that it came from, here a view made for this loan alone.
        loan = buffer[:]
        self._lent = [(other, ref) for other, ref in self._lent if ref() is not None] + [(buffer, weakref.ref(loan))]
        return torch.from_numpy(loan)
