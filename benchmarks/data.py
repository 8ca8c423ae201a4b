#!/usr/bin/env python
"""Images per second into the training step at 256 x 128: the decoded cache against torchreid's PIL pipeline.

    python benchmarks/data.py                    # generated Market-1501 (JPEG) and RegDB (BMP), 128 x 64 as stored
    python benchmarks/data.py --root reid-data   # those that lie there

Both pad and crop, flip and erase. Plain is ``data.cache off``: every image is decoded, resized and augmented by itself,
in this process or in two loader processes, whichever is faster. A turn is one pass over the same number of batches, the
start of loader processes included. The limit is the time that the bytes of a batch take: one is read and four are
written for each value.
"""
from __future__ import annotations

import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any, Callable

import torch
from harness import arguments, copy_bandwidth, machine, markdown, peak_memory, take_turns

from torchreid_nas.data import DomainAdaptationDataManager
from torchreid_nas.data.cache import DecodedImages
from torchreid_nas.data.synthetic import SyntheticSettings, write_dataset

_TARGET = 3.5
_SETTINGS = {"market1501": SyntheticSettings(identities=210, images=4), "regdb": SyntheticSettings(identities=200, images=10)}
_OURS = {"ours, NCHW": False, "ours, channels-last": True}


def main() -> None:
    parser = arguments(__doc__, root="", batch=128, batches=14, height=256, width=128, workers=2)
    options = parser.parse_args()
    print(machine(options.device))
    with tempfile.TemporaryDirectory() as folder:
        root = options.root or folder
        if not options.root:
            for layout, settings in _SETTINGS.items():
                write_dataset(layout, root, settings)
        bandwidth = copy_bandwidth()
        rows, built = [], []
        for name in _SETTINGS:
            shape = {"height": options.height, "width": options.width}
            managers = _managers(name, root, Path(folder, "cache"), options)
            built.append([name, *_build(managers["ours, NCHW"], root, Path(folder, "apart"), **shape)])
            _check(name, root, Path(folder, "cache"), options)
            fresh = _managers(name, root, Path(folder, "cache"), options)
            peaks = {title: _memory(_pass(manager.train_loader, options.device), options.device)
                     for title, manager in fresh.items() if manager.workers == 0}
            rows += _compare(name, managers, peaks, options, bandwidth)
    headers = ["data set", "pipeline", "images/s", "times the plain", "target", "share of the limit", "peak memory, MiB"]
    print(f"\n{markdown(rows, headers)}\n")
    print(markdown(built, ["data set", "images", "file, MiB", "written, images/s", "opened again, ms"]))
    print(
        f"\nThe copy bandwidth is {bandwidth / 1e9:.1f} GB/s. A pass is {options.batches} batches of {options.batch}; "
        "memory is what one process takes beside the mapped file."
    )


def _managers(name: str, root: str, cache: Path, options: Any, **changes: Any) -> dict[str, DomainAdaptationDataManager]:
    """The managers of a comparison, whose source is walked in shuffled order."""
    shared = {
        "root": root, "sources": name, "targets": [], "height": options.height, "width": options.width,
        "batch_size_train": options.batch, "num_batches": options.batches, "cache_dir": str(cache), **changes,
    }
    plain = {
        f"plain, {workers} workers": DomainAdaptationDataManager(cache="off", workers=workers, **shared)
        for workers in (0, options.workers)
    }
    ours = {
        title: DomainAdaptationDataManager(cache="on", workers=0, channels_last=last, device=options.device, **shared)
        for title, last in _OURS.items()
    }
    return {**plain, **ours}


def _check(name: str, root: str, cache: Path, options: Any) -> None:
    """Without augmentation all pipelines must give the same numbers, to the bit."""
    batches = []
    for manager in _managers(name, root, cache, options, transforms=None).values():
        torch.manual_seed(0)
        batches.append(next(iter(manager.train_loader)))
    for batch in batches[1:]:
        assert batch["impath"] == batches[0]["impath"] and torch.equal(batch["img"].cpu(), batches[0]["img"])


def _compare(
    name: str, managers: dict[str, Any], peaks: dict[str, int], options: Any, bandwidth: float,
) -> list[list[str]]:
    steps = {title: _pass(manager.train_loader, options.device) for title, manager in managers.items()}
    images = options.batch * len(managers["ours, NCHW"].train_loader)
    turns = take_turns(steps, options.repetitions, 2, options.device)
    reference = min((title for title in steps if title.startswith("plain")), key=turns.median)
    moved = images * options.height * options.width * 3 * (1 + 4)
    rows = []
    for title in steps:
        ours = title in _OURS
        faster = turns.speedup(title, reference)
        reached = f"{_TARGET} {'reached' if faster >= _TARGET else 'missed'}" if ours else ""
        # What loader processes take is not seen from here.
        memory = f"{peaks[title] / 2**20:,.0f}" if title in peaks else ""
        rows.append([
            name, title, f"{images / turns.median(title):,.0f}", f"{faster:.2f}", reached,
            f"{moved / bandwidth / turns.median(title):.0%}", memory,
        ])
    return rows


def _pass(loader: Any, device: torch.device) -> Callable[[], None]:
    def step() -> None:
        for batch in loader:
            batch["img"].to(device, non_blocking=True)

    return step


def _memory(step: Callable[[], None], device: torch.device) -> int:
    """Peak bytes of torch and of NumPy, which holds the buffers of decoded batches."""
    tracemalloc.start()
    try:
        return peak_memory(step, device) + tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _build(manager: Any, root: str, folder: Path, height: int, width: int) -> list[str]:
    """Decode the training images to a folder of their own."""
    def images() -> DecodedImages:
        return DecodedImages((item[0] for item in manager.trainset.train), height, width, root, [folder])

    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        decoded = images()
        count = len(decoded.pixels)
        seconds.append(time.perf_counter() - start)
    return [f"{count:,}", f"{decoded.nbytes / 2**20:,.0f}", f"{count / seconds[0]:,.0f}", f"{1000 * seconds[1]:.0f}"]


if __name__ == "__main__":
    main()
