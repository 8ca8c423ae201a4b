"""A loader whose batches come from decoded images: no decoding, no worker processes, augmentation of the whole batch."""
from __future__ import annotations

__all__ = ["CachedLoader"]

import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Iterator, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from torchreid_nas.data.augmentation import BatchTransform
from torchreid_nas.data.camstyle.dataset import CameraStyleDataset
from torchreid_nas.data.dataset import CrossModalityDataset
from torchreid_nas.data.readers import Reader

# Images that a thread takes at once.
_PORTION = 8
# Cutting and styling hold Python's lock for up to half of their time: more threads would wait for each other, and would keep
# the thread that launches a GPU's work waiting.
_MOST_THREADS = 4


class _Begun(NamedTuple):
    """A batch whose random numbers are drawn and whose pixels are being filled in."""

    indices: list[int]
    read: list[Any]
    augmented: list[torch.Tensor]
    pixels: torch.Tensor
    portions: list[Future]


class CachedLoader(DataLoader):
    """Yields what ``DataLoader`` over the same data set and sampler yields, with the images on ``device`` already.

    Everything else of a batch has the default collate function's types and
    stays on the CPU. The images are normalised float32 (B, 3, H, W), so any
    engine can train on them. Indices and random numbers are drawn in this
    thread: the latter from a generator of the loader's own, seeded at the
    start of each pass from torch's global one, so that a pass depends on that
    seed alone. Threads, as many as torch uses and at most four, bring the next
    batch's pixels together (for a GPU, in pinned memory) while this one is
    worked on.

    Args:
        dataset: what is read; its own transform is not used.
        batch_size, sampler, drop_last: as of ``DataLoader``.
        reader: gives the pixels of the data set's images.
        transform: what is done to a batch of pixels.
        device: where the images are put.
        channels_last: memory order of the images.
    """

    def __init__(
        self, dataset: CrossModalityDataset | CameraStyleDataset, batch_size: int, sampler: Sampler | None = None,
        drop_last: bool = False, *, reader: Reader, transform: BatchTransform, device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        super().__init__(dataset, batch_size, sampler=sampler, drop_last=drop_last)
        self._reader, self._transform, self._device = reader, transform, torch.device(device)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._buffers = _Buffers()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches of one pass.

        Raises:
            InputError: at the first batch: an image is missing or broken, or
                the decoded images cannot be written; at any: a file of a
                camera style is broken, where they are too many to be decoded once.
        """
        generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        self._reader.open()
        with ThreadPoolExecutor(min(torch.get_num_threads(), _MOST_THREADS)) as pool:
            # No name is given to a batch that is handed out: what it takes is free as soon as nobody holds it.
            ahead: deque[_Begun] = deque()
            for indices in self.batch_sampler:
                ahead.append(self._begin(indices, generator, pool))
                if len(ahead) > 1:
                    yield self._finish(ahead.popleft())
            if ahead:
                yield self._finish(ahead.popleft())

    def _begin(self, indices: list[int], generator: torch.Generator, pool: ThreadPoolExecutor) -> _Begun:
        """Draw a batch, and have the pool fill in its pixels."""
        reader, count = self._reader, len(indices)
        read = reader.draw(indices, generator)
        augmented = self._transform.draw(count, *reader.size, generator)
        pixels = torch.empty(count, *reader.size, 3, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        portions = [slice(start, start + _PORTION) for start in range(0, count, _PORTION)]
        out = pixels.numpy()
        filled = [pool.submit(reader.fill, indices[portion], read[portion], out[portion]) for portion in portions]
        return _Begun(indices, read, augmented, pixels, filled)

    def _finish(self, batch: _Begun) -> dict[str, Any]:
        paths, pids, camids, dsetids = zip(*(self.dataset.data[index] for index in batch.indices))
        for portion in batch.portions:
            portion.result()
        pixels = batch.pixels.to(self._device, non_blocking=True)
        return {
            "img": self._transform.apply(pixels, batch.augmented, self._out(len(paths), *self._reader.size)),
            "pid": torch.tensor(pids),
            "camid": torch.tensor(camids),
            "impath": list(paths),
            "dsetid": torch.tensor(dsetids),
            "modality": torch.tensor([self.dataset.modality_of(camid) for camid in camids]),
            "index": torch.tensor(batch.indices),
            **self._reader.labels(batch.read),
        }

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
