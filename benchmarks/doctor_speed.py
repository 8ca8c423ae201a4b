"""What the doctor takes for 100,000 images: time, CPU time and memory of a first run, and of a second one.

The images are generated, lie in Market-1501's layout at its size, 128 × 64, and are JPEG files. All checks are made but label
suspects.

    OMP_NUM_THREADS=1 python benchmarks/doctor_speed.py [--images 100000] [--workers 2]
"""
from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from defects import write
from harness import add_json, machine
from PIL import Image
from results import Report

import torchreid_nas
from torchreid_nas.doctor.examine import examine
from torchreid_nas.doctor.reading import read_data


def write_many(folder: Path, number: int, size: tuple[int, int] = (64, 128)) -> None:
    """Write images in Market-1501's layout: generated persons, each before a background and in a light of its own.

    Args:
        folder: below which they lie.
        number: of images.
        size: width and height in pixels, Market-1501's by default.
    """
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as root:
        clean = read_data(write("market1501", Path(root), 0, identities=24, cameras=6, width=size[0], height=size[1]))
        persons = [np.asarray(Image.open(record.path).convert("RGB"), dtype=np.float32) for record in clean.records]
    for part in ("bounding_box_train", "query", "bounding_box_test"):
        (folder / part).mkdir(parents=True)
    for index in range(number):
        coarse = Image.fromarray(draw.integers(0, 256, (8, 4, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        mixed = (persons[index % len(persons)] + np.asarray(coarse)) / 2 + draw.normal(0, 4, (size[1], size[0], 1))
        # 20 images of a person; a tenth of the test persons' images are queries.
        person, shot = divmod(index, 20)
        part = "bounding_box_train" if person % 2 else "query" if shot < 2 else "bounding_box_test"
        name = f"{person + 1:04d}_c{shot % 6 + 1}s1_{index:06d}_00.jpg"
        Image.fromarray(mixed.clip(0, 255).astype(np.uint8)).save(folder / part / name, quality=90)


def speed(number: int, workers: int) -> list[list[str]]:
    """Examine many images for real: a first run, and a second one with the measurements of the first."""
    rows = []
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "images")
        write_many(folder, number)
        for run in ("first run", "second run"):
            start, before = time.perf_counter(), _cpu_seconds()
            data = read_data(folder)
            data.expected, data.persons = (), None
            report = examine(data, store=Path(root, "store.sqlite"), workers=workers, progress=False)
            took = time.perf_counter() - start
            rows.append([
                run, f"{number:,}", f"{took:.0f} s", f"{_cpu_seconds() - before:.0f} s",
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MiB",
                f"{resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:,.0f} MiB",
                ", ".join(sorted({finding.name for finding in report.findings})) or "–",
            ])
        size = Path(root, "store.sqlite").stat().st_size
        rows[-1].append(f"{size / 2**20:,.0f} MiB")
        rows[0].append("–")
    return rows


def _cpu_seconds() -> float:
    """Return the seconds that all cores have worked for this process and for its finished processes."""
    both = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in both)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000, help="images of the generated set")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode")
    add_json(parser)
    options = parser.parse_args()
    torchreid_nas.register()
    with Report(machine(), options.json) as report:
        report.table(
            speed(options.images, options.workers),
            ["", "images", "time", "CPU time", "peak memory", "of a worker", "findings", "file of measurements"],
            f"Every file is read and decoded by {options.workers} processes in the first run, and none in the second",
        )


if __name__ == "__main__":
    main()
