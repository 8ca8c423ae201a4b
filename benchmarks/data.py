#!/usr/bin/env python
"""Images per second into the training step at 256 x 128: the decoded cache against torchreid's PIL pipeline.

    python benchmarks/data.py                    # generated Market-1501 (JPEG) and RegDB (BMP), 128 x 64 as stored
    python benchmarks/data.py --root reid-data   # those that lie there

Two recipes: pad and crop, flip and erase (CM-NAS), and a rectangle of the stored image, flip and erase (ECN), the latter
for a source and for a target in camera styles. Files of styles are made by the statistics styler; with --root that row
needs those that lie there. Plain is ``data.cache off``: every image is decoded, resized and augmented by itself, in this
process or in two loader processes, whichever is faster. A turn is one pass over the same number of batches, the start of
loader processes included. The limit is the time that the bytes of a batch take: one is read and four are written for
each value.
"""
from __future__ import annotations

import dataclasses
import os
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from harness import arguments, copy_bandwidth, machine, peak_memory, take_turns
from PIL import Image
from results import Report

from torchreid_nas.data import DomainAdaptationDataManager
from torchreid_nas.data.cache import DecodedImages, StoredImages
from torchreid_nas.data.camstyle import StatisticsStyler, camstyle_folder, camstyle_name
from torchreid_nas.data.dataset import read_pixels
from torchreid_nas.data.synthetic import SyntheticSettings, write_dataset
from torchreid_nas.errors import InputError

_TARGET = 3.5
_SETTINGS = {"market1501": SyntheticSettings(identities=210, images=4), "regdb": SyntheticSettings(identities=200, images=10)}
_OURS = {"ours, NCHW": False, "ours, channels-last": True}
_ECN = ("random_sized_rect_crop", "random_flip", "random_erase")


@dataclasses.dataclass(frozen=True)
class _Case:
    """A data set under a recipe: as a source, or as a target in styles."""

    title: str
    name: str
    transforms: tuple[str, ...] = ("pad_crop", "random_flip", "random_erase")
    camstyle: str = ""

    def loader(self, manager: DomainAdaptationDataManager) -> Any:
        return manager.train_loader_t if self.camstyle else manager.train_loader


_CASES = (
    _Case("market1501", "market1501"),
    _Case("regdb", "regdb"),
    _Case("ECN's source", "market1501", _ECN),
    *(_Case(f"ECN's target, {kind}", "market1501", _ECN, kind) for kind in ("statistics", "fourier", "files")),
)


def main() -> None:
    parser = arguments(__doc__, root="", batch=128, batches=14, height=256, width=128, workers=2)
    options = parser.parse_args()
    with Report(machine(options.device), options.json) as report, tempfile.TemporaryDirectory() as folder:
        root = options.root or folder
        if not options.root:
            for layout, settings in _SETTINGS.items():
                write_dataset(layout, root, settings)
            _write_styles(_managers(_CASES[0], root, folder, options)["ours, NCHW"].trainset.train)
        bandwidth = copy_bandwidth()
        built = []
        for name in _SETTINGS:
            case = _Case(name, name, ())
            managers = _managers(case, root, Path(folder, "cache"), options)
            _check(case, managers)
            shape = {"height": options.height, "width": options.width}
            built += _build(managers["ours, NCHW"].trainset.train, name, root, Path(folder, "apart"), **shape)
        rows = [row for case in _CASES for row in _compare(case, root, Path(folder, "cache"), options, bandwidth)]
        headers = ["images", "pipeline", "images/s", "times the plain", "target", "share of the limit", "peak memory, MiB"]
        report.table(rows, headers)
        report.table(built, ["data set", "images", "size", "file, MiB", "written, images/s", "opened again, ms"])
        report.text(
            f"The copy bandwidth is {bandwidth / 1e9:.1f} GB/s. A pass is {options.batches} batches of {options.batch} "
            "(of a target, all its images); memory is what one process takes beside the mapped file."
        )


def _write_styles(items: list[tuple]) -> None:
    """Write every image in the style of every other camera where the released ones would lie."""
    styler = StatisticsStyler(items)
    for item in items:
        folder, pixels = camstyle_folder(item[0]), read_pixels(item[0])
        folder.mkdir(exist_ok=True)
        for camid in styler.camids:
            if camid != item[2]:
                image = Image.fromarray(styler(pixels, item, camid))
                image.save(folder / camstyle_name(item[0], item[2], camid), quality=95)


def _managers(case: _Case, root: str, cache: str | os.PathLike, options: Any) -> dict[str, DomainAdaptationDataManager]:
    """The managers of a comparison, whose images are walked in shuffled order."""
    shared = {
        "root": root, "sources": case.name, "targets": [], "height": options.height, "width": options.width,
        "batch_size_train": options.batch, "num_batches": options.batches, "cache_dir": str(cache),
        "transforms": case.transforms, "load_train_targets": [],
    }
    if case.camstyle:
        shared.update(load_train_targets=[case.name], camstyle=case.camstyle)
    plain = {
        f"plain, {workers} workers": DomainAdaptationDataManager(cache="off", workers=workers, **shared)
        for workers in (0, options.workers)
    }
    ours = {
        title: DomainAdaptationDataManager(cache="on", workers=0, channels_last=last, device=options.device, **shared)
        for title, last in _OURS.items()
    }
    return {**plain, **ours}


def _check(case: _Case, managers: dict[str, Any]) -> None:
    """Without augmentation all pipelines must give the same numbers, to the bit."""
    batches = []
    for manager in managers.values():
        torch.manual_seed(0)
        batches.append(next(iter(case.loader(manager))))
    for batch in batches[1:]:
        assert batch["impath"] == batches[0]["impath"] and torch.equal(batch["img"].cpu(), batches[0]["img"])


def _compare(case: _Case, root: str, cache: Path, options: Any, bandwidth: float) -> list[list[str]]:
    try:
        managers = _managers(case, root, cache, options)
    except InputError as error:
        print(f"left out: {case.title}, {error}")
        return []
    # Decoded before anything is measured, by another manager: that one's memory would be lent again.
    next(iter(case.loader(_managers(case, root, cache, options)["ours, NCHW"])))
    loaders = {title: case.loader(manager) for title, manager in managers.items()}
    steps = {title: _pass(loader, options.device) for title, loader in loaders.items()}
    peaks = {title: _memory(step, options.device) for title, step in steps.items() if managers[title].workers == 0}
    images = options.batch * len(loaders["ours, NCHW"])
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
            case.title, title, f"{images / turns.median(title):,.0f}", f"{faster:.2f}", reached,
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


def _build(items: list[tuple], name: str, root: str, folder: Path, height: int, width: int) -> list[list[str]]:
    """Decode training images to a folder of their own, at the network's size and as they are stored."""
    kinds: dict[str, Callable[[], DecodedImages | StoredImages]] = {
        f"{height} x {width}": lambda: DecodedImages((item[0] for item in items), height, width, root, [folder]),
        "as stored": lambda: StoredImages((item[0] for item in items), root, [folder]),
    }
    rows = []
    for title, make in kinds.items():
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            pixels = make().pixels
            seconds.append(time.perf_counter() - start)
        size = sum(image.nbytes for image in pixels) / 2**20
        rows.append([
            name, f"{len(pixels):,}", title, f"{size:,.0f}", f"{len(pixels) / seconds[0]:,.0f}", f"{1000 * seconds[1]:.0f}"
        ])
    return rows


if __name__ == "__main__":
    main()
