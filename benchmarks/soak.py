#!/usr/bin/env python
"""A soak: a search and a training of many epochs each, whose memory and open files must stay flat.

    python benchmarks/soak.py                   # 200 epochs of search, 200 of training, tiny networks and images
    python benchmarks/soak.py --epochs 1000

The command of the package runs in a process of its own, with workers that load the images. After each epoch this script
reads from Linux how much memory the processes of the run hold (the run and its workers together), and how many files they
have open. The slope is the median of the slopes between pairs of epochs of one stage (Theil and Sen), without the first
quarter, in which caches fill. Exit code 1: the memory or the files grow.
"""
from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness import add_json, machine
from results import Report

from torchreid_nas.run.folder import RunFolder, StageFolder

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "small_cmnas"
OPTIONS = {
    "synthetic.identities": 20, "synthetic.images": 4, "synthetic.height": 48, "synthetic.width": 24,
    "data.height": 48, "data.width": 24, "data.workers": 2, "model.width": 0.125, "train.batch_size": 16,
    "sampler.num_instances": 2, "train.num_batches": 3, "search.paths": 4, "report.enabled": False,
}
# KiB an epoch. A tensor of the size of a batch that an epoch leaves behind has 216 KiB, and a run of 200 epochs that leaks
# less than this gains at most 3 MiB.
MOST_KIB = 16.0
# Files an epoch: one file more every fifty epochs is a leak already.
MOST_FILES = 0.02
PAUSE = 0.02


class Sample(NamedTuple):
    """What the processes of a run hold after an epoch.

    Args:
        epoch: from 1.
        kib: memory that they hold, each page of shared memory once for each process.
        files: that they have open.
        processes: how many they are.
    """

    epoch: int
    kib: float
    files: int
    processes: int


def slope(values: Sequence[float]) -> float:
    """Return the median slope between pairs of values, per step.

    >>> slope([1.0, 3.0, 5.0, 100.0, 9.0])
    2.0
    """
    pairs = [(b - a) / (j - i) for i, a in enumerate(values) for j, b in enumerate(values) if i < j]
    return statistics.median(pairs)


def steady(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples without the first quarter."""
    return samples[len(samples) // 4 :]


def verdict(samples: Sequence[Sample]) -> str:
    """Return ``flat``, or what grows.

    >>> verdict([Sample(epoch, 1000.0 + 200.0 * epoch, 9, 1) for epoch in range(8)])
    'the memory grows'
    >>> verdict([Sample(epoch, 1000.0, 9, 1) for epoch in range(8)])
    'flat'
    """
    kept = steady(samples)
    grows = [
        what for what, values, most in (
            ("the memory grows", [sample.kib for sample in kept], MOST_KIB),
            ("the open files grow", [float(sample.files) for sample in kept], MOST_FILES),
        ) if slope(values) > most
    ]
    return " and ".join(grows) or "flat"


def family(pid: int) -> list[int]:
    """Return a process and those that it has started, on Linux."""
    try:
        children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir()
                    for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(child))]


def sample(pid: int, epoch: int) -> Sample | None:
    """Return what a run holds now; None where a process of it ended meanwhile."""
    pages = files = 0
    members = family(pid)
    try:
        for member in members:
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
            files += len(list(Path(f"/proc/{member}/fd").iterdir()))
    except OSError:
        return None
    return Sample(epoch, pages * os.sysconf("SC_PAGE_SIZE") / 1024, files, len(members))


def epochs_done(stage: StageFolder) -> int:
    """Return the number of lines of the history of a stage."""
    try:
        return stage.history.read_bytes().count(b"\n")
    except OSError:
        return 0


def soak(folder: Path, epochs: int) -> dict[str, list[Sample]]:
    """Run the command and return a sample of each epoch, by stage.

    Raises:
        SystemExit: the run failed.
    """
    options = {
        **OPTIONS, "data.root": folder / "data", "data.save_dir": folder / "run",
        "search.max_epoch": epochs, "train.max_epoch": epochs, "train.stepsize": [epochs],
    }
    overrides = [str(part) for item in options.items() for part in item]
    command = [sys.executable, "-m", "torchreid_nas", "--config", CONFIG, *overrides]
    run = RunFolder(folder / "run")
    found: dict[str, list[Sample]] = {"search": [], "train": []}
    stages = {"search": run.search, "train": run.train}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with (folder / "output.txt").open("w", encoding="utf-8") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment, cwd=folder)
        try:
            while process.poll() is None:
                for name, stage in stages.items():
                    done = epochs_done(stage)
                    if done > (found[name][-1].epoch if found[name] else 0):
                        now = sample(process.pid, done)
                        found[name] += [now] if now else []
                time.sleep(PAUSE)
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        sys.exit(f"the run failed:\n{(folder / 'output.txt').read_text(encoding='utf-8')[-2000:]}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=200, help="of the search, and of the training (default: %(default)s)")
    add_json(parser)
    options = parser.parse_args()
    if options.epochs < 8:
        parser.error("--epochs must be at least 8, so that a slope says something")
    if not sys.platform.startswith("linux"):
        parser.error("the soak reads /proc, which Linux alone has")
    with tempfile.TemporaryDirectory() as folder:
        found = soak(Path(folder), options.epochs)
    rows = []
    for name, samples in found.items():
        kept = steady(samples)
        memory, files = [sample.kib for sample in kept], [float(sample.files) for sample in kept]
        rows.append([
            name, len(samples), f"{statistics.median(memory[: len(memory) // 4]) / 1024:,.0f} → "
            f"{statistics.median(memory[-(len(memory) // 4) :]) / 1024:,.0f}", f"{slope(memory):+.2f}",
            f"{min(files):.0f} to {max(files):.0f}", f"{slope(files):+.3f}", max(sample.processes for sample in kept),
            verdict(samples),
        ])
    with Report(machine(), options.json) as report:
        report.table(
            rows,
            ["stage", "epochs seen", "memory, MiB: begin → end", "slope, KiB an epoch", "open files", "slope", "processes", ""],
            f"{options.epochs} epochs of search and as many of training; two-stream ResNet-18, 16 images of 48×24, "
            "3 batches an epoch; without the first quarter",
        )
        report.text(f"Flat means a slope of at most {MOST_KIB:g} KiB and {MOST_FILES:g} files an epoch.")
    return int(any(verdict(samples) != "flat" for samples in found.values()))


if __name__ == "__main__":
    sys.exit(main())
