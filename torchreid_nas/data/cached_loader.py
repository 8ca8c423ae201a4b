"""A loader whose batches come from decoded images: no decoding, no worker processes, augmentation of the whole batch."""
from __future__ import annotations

__all__ = ["CachedLoader"]

import weakref
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Sampler

from torchreid_nas.data.augmentation import BatchTransform
from torchreid_nas.data.camstyle.dataset import CameraStyleDataset
from torchreid_nas.data.dataset import CrossModalityDataset
from torchreid_nas.data.readers import Reader
from torchreid_nas.data.share import OwnShare, own_places
from torchreid_nas.distributed import processes

# Images that a thread takes at once.
_PORTION = 8
# Cutting and styling hold Python's lock for up to half of their time: more threads would wait for each other, and would keep
# the thread that launches a GPU's work waiting.
_MOST_THREADS = 4


class _Begun(NamedTuple):
    """A batch whose random numbers are drawn and whose images are being brought together."""

    indices: list[int]
    read: list[Any]
    augmented: list[torch.Tensor]
    images: torch.Tensor
    portions: list[Future]


class CachedLoader(DataLoader):
    """Yields what ``DataLoader`` over the same data set and sampler yields, with the images on ``device`` already.

    Everything else of a batch has the default collate function's types and
    stays on the CPU. The images are normalised float32 (B, 3, H, W), so any
    engine can train on them. Indices and random numbers are drawn in this
    thread: the latter from a generator of the loader's own, seeded at the
    start of each pass from torch's global one, so that a pass depends on that
    seed alone. Threads, as many as torch uses and at most four, bring the next
    batch together while this one is worked on: for a GPU its pixels, in pinned
    memory, from which the GPU makes the batch; on a CPU all of it, one thread
    for an image, since threads within an operation would wait for these.

    Args:
        dataset: what is read; its own transform is not used.
        batch_size, sampler, drop_last: as of ``DataLoader``.
        reader: gives the pixels of the data set's images.
        transform: what is done to a batch of pixels.
        device: where the images are put.
        channels_last: memory order of the images.

    Attributes:
        skip: batches at the start of the next pass whose random numbers are drawn, and which are neither read nor yielded.
    """

    def __init__(
        self, dataset: CrossModalityDataset | CameraStyleDataset, batch_size: int, sampler: Sampler | None = None,
        drop_last: bool = False, *, reader: Reader, transform: BatchTransform, device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        # Images without a sampler, those of a test, are no batches to share.
        self._parts = getattr(sampler, "parts", 1) if sampler is not None and processes() > 1 else None
        if self._parts is None:
            super().__init__(dataset, batch_size, sampler=sampler, drop_last=drop_last)
        else:
            super().__init__(dataset, batch_size // processes(), sampler=OwnShare(sampler, batch_size), drop_last=drop_last)
        self._batches = BatchSampler(sampler or self.sampler, batch_size, drop_last)
        self._reader, self._transform, self._device = reader, transform, torch.device(device)
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._buffers = _Buffers()
        self.skip = 0

    dataset: CrossModalityDataset | CameraStyleDataset

    # torch's annotation promises an iterator class of its own.
    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """Yield the batches of one pass.

        Raises:
            InputError: at the first batch: an image is missing or broken, or
                the decoded images cannot be written; at any: a file of a
                camera style is broken, where they are too many to be decoded once.
        """
        generator = torch.Generator().manual_seed(int(torch.empty((), dtype=torch.int64).random_()))
        skipped, self.skip = self.skip, 0
        self._reader.open()
        with ThreadPoolExecutor(min(torch.get_num_threads(), _MOST_THREADS)) as pool:
            # No name is given to a batch that is handed out: what it takes is free as soon as nobody holds it.
            ahead: deque[_Begun] = deque()
            for number, indices in enumerate(self._batches):
                if number < skipped:
                    self._draw(indices, generator)
                    continue
                ahead.append(self._begin(indices, generator, pool))
                if len(ahead) > 1:
                    yield self._finish(ahead.popleft())
            if ahead:
                yield self._finish(ahead.popleft())

    def _begin(self, indices: list[int], generator: torch.Generator, pool: ThreadPoolExecutor) -> _Begun:
        """Draw a batch, and have the pool bring it together: its pixels for a GPU, all of it on a CPU.

        Of several processes each draws what is random about the whole batch and brings its own images together.
        """
        count, size = len(indices), self._reader.size
        read, augmented = self._draw(indices, generator)
        if self._parts is not None:
            own = own_places(count, self._parts)
            indices, read = [indices[place] for place in own], [read[place] for place in own]
            augmented, count = [values[own] for values in augmented], len(own)
        if self._device.type == "cpu":
            images, prepare = self._out(count, *size), self._augment
        else:
            images = torch.empty(count, *size, 3, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
            prepare = self._read
        portions = [slice(start, start + _PORTION) for start in range(0, count, _PORTION)]
        prepared = [
            pool.submit(prepare, indices[part], read[part], [values[part] for values in augmented], images[part])
            for part in portions
        ]
        return _Begun(indices, read, augmented, images, prepared)

    def _draw(self, indices: list[int], generator: torch.Generator) -> tuple[list[Any], list[torch.Tensor]]:
        """Draw what is random about a batch: its images, and what becomes of the images."""
        read = self._reader.draw(indices, generator)
        streams = None
        if self._transform.channels and isinstance(self.dataset, CrossModalityDataset):
            streams = [self.dataset.stream_of(index) for index in indices]
        return read, self._transform.draw(len(indices), *self._reader.size, generator, streams)

    def _read(self, indices: list[int], read: list[Any], augmented: list[torch.Tensor], out: torch.Tensor) -> None:
        self._reader.fill(indices, read, out.numpy())

    def _augment(self, indices: list[int], read: list[Any], augmented: list[torch.Tensor], out: torch.Tensor) -> None:
        pixels = torch.empty(len(indices), *self._reader.size, 3, dtype=torch.uint8)
        self._reader.fill(indices, read, pixels.numpy())
        self._transform.apply(pixels, augmented, out)

    def _finish(self, batch: _Begun) -> dict[str, Any]:
        paths, pids, camids, dsetids = zip(*(self.dataset.data[index] for index in batch.indices))
        for portion in batch.portions:
            portion.result()
        images = batch.images
        if self._device.type != "cpu":
            pixels = images.to(self._device, non_blocking=True)
            images = self._transform.apply(pixels, batch.augmented, self._out(len(paths), *self._reader.size))
        return {
            "img": images,
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
