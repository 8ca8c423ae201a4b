"""Does the doctor find wrong labels? Two persons under one label, and one person under two, judged by ImageNet weights.

Each set is a generated Market-1501 of 128 × 64 pixels, of whose training part labels are changed.

    torchreid-nas weights fetch mobilenetv2
    OMP_NUM_THREADS=1 python benchmarks/doctor_suspects.py --weights mobilenet_v2-b0353104.pth
    OMP_NUM_THREADS=1 python benchmarks/doctor_suspects.py --weights … --first 100   # other seeds: thresholds are chosen on these
"""
from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from defects import Random, some, write
from harness import add_json, machine
from results import Report

import torchreid_nas
from torchreid_nas.doctor.check_images import Measured
from torchreid_nas.doctor.reading import read_data
from torchreid_nas.doctor.records import Record
from torchreid_nas.doctor.scan import measure_all
from torchreid_nas.doctor.suspects import Judge
from torchreid_nas.zoo.trained import load_trained

# A name that no generated person has.
_NEW = "9999"


@dataclass
class Remembering(Judge):
    """A judge that looks at an image once: labels change from defect to defect, images do not."""

    seen: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict)

    def _features(self, files: Sequence[str], modality: str) -> np.ndarray:
        if tuple(files) not in self.seen:
            self.seen[tuple(files)] = super()._features(files, modality)
        return self.seen[tuple(files)]


def merged(records: list[Record], one: str, two: str, draw: Random) -> tuple[list[Record], str]:
    """Give the images of two persons to the first; return the records and how the title of the suspect begins."""
    return [dataclasses.replace(r, person=one) if r.person == two else r for r in records], f"person {one}:"


def divided(records: list[Record], one: str, two: str, draw: Random) -> tuple[list[Record], str]:
    """Give half of the first person's images to a new one; likewise."""
    own = [record.path for record in records if record.person == one]
    moved = set(draw.permutation(own)[: len(own) // 2].tolist())
    return [dataclasses.replace(r, person=_NEW) if r.path in moved else r for r in records], f"persons {one} and {_NEW}:"


DEFECTS = {"one_is_two": merged, "two_are_one": divided}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, metavar="FILE", required=True, help="torchvision's MobileNetV2 of ImageNet")
    parser.add_argument("--seeds", type=int, default=20, help="generated sets")
    parser.add_argument("--first", type=int, default=0, help="first seed (default 0)")
    add_json(parser)
    options = parser.parse_args()
    torchreid_nas.register()
    trained = load_trained("mobilenetv2_x1_0", options.weights)
    places: dict[str, list[int | None]] = {kind: [] for kind in DEFECTS}
    others: dict[str, list[int]] = {kind: [] for kind in DEFECTS}
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as root:
            data = read_data(write("market1501", Path(root), seed, identities=32, cameras=4, height=128, width=64))
            clean = data.part("train")
            paths = [record.path for record in clean]
            rows = measure_all(paths, workers=1, progress=False)
            names = sorted({record.person for record in clean})
            draw = np.random.default_rng(seed)
            judge = Remembering(trained, "cpu", progress=False)
            for kind, plant in DEFECTS.items():
                one, two = some(names, draw)
                data.records, begin = plant(clean, one, two, draw)
                found = judge.suspects(Measured(data, paths, rows))
                titles = [group.title for finding in found if finding.name == kind for group in finding.groups]
                place = next((number for number, title in enumerate(titles, start=1) if title.startswith(begin)), None)
                places[kind].append(place)
                others[kind].append(len(titles) - (place is not None))
    table = []
    for kind, found in places.items():
        hits = [place for place in found if place is not None]
        table.append([
            kind, f"{len(hits)}/{len(found)}", f"{len(hits) / len(found):.0%}", f"{sum(place == 1 for place in hits)}",
            f"{sum(place <= 3 for place in hits)}", f"{statistics.mean(others[kind]):.1f}",
        ])
    with Report(machine(), options.json) as report:
        report.table(
            table, ["kind", "named", "recall", "as the first", "among three", "others named, mean"],
            f"Label suspects by MobileNetV2 of ImageNet, {options.seeds} generated sets of {len(names)} training persons, one or "
            "two of whom are mislabelled",
        )


if __name__ == "__main__":
    main()
