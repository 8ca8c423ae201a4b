"""Does the doctor find what is planted? Each kind of defect in generated data × 20 seeds, and 50 clean sets.

The data are generated persons in the layouts of RegDB, SYSU-MM01, LLCM, Market-1501 and DukeMTMC-reID. A defect counts as
found where the finding of its kind names what was planted: each planted file, or each planted person. Wrong labels are
planted by doctor_suspects.py.

    OMP_NUM_THREADS=1 python benchmarks/doctor.py
    OMP_NUM_THREADS=1 python benchmarks/doctor.py --first 100 --seeds 5   # other seeds: thresholds are chosen on these
"""
from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from defects import PLANTS, SETS, TOGETHER, write
from harness import add_json, machine
from results import Report

import torchreid_nas
from torchreid_nas.doctor.examine import Report as Examined
from torchreid_nas.doctor.examine import examine
from torchreid_nas.doctor.kinds import Severity
from torchreid_nas.doctor.reading import read_data
from torchreid_nas.doctor.records import Data, Expected

# Of Market-1501; generated sets are not asked for them.
PERSONS = (1, 1501)


def complete(data: Data) -> tuple[Expected, ...]:
    """Return what a copy as complete as this one has."""
    people = Expected("training identities", (0,), ("train",), "persons")
    listed = frozenset(record.person for record in data.part("train"))
    return (dataclasses.replace(people, complete=(people.count(data.records),), listed=listed),)


def generated(name: str, seed: int, store: Path) -> Path:
    """Return the folder of a clean set in a store; the set is generated once."""
    return write(name, store / f"{name}-{seed}", seed)


def copy_of(folder: Path, store: Path, place: Path) -> Path:
    """Copy a set with the mark of a generated set, which lies above its folder; return the folder of the copy."""
    inside = folder.relative_to(store)
    shutil.copytree(store / inside.parts[0], place / inside.parts[0])
    return place / inside


def is_named(report: Examined, kind: str, wanted: list[str]) -> bool:
    """Return whether the findings of a kind name all that was planted, by file or in their sentence."""
    found = [finding for finding in report.findings if finding.name == kind]
    named = {path for finding in found for path in finding.files}
    sentences = " ".join(finding.sentence for finding in found)
    # Of a surplus nobody knows which images are too many.
    return bool(found) and (kind == "surplus" or all(path in named or path in sentences for path in wanted))


def planted(kind: str, seed: int, store: Path) -> tuple[bool, list[str]]:
    """Plant one defect; return whether it is named, and which errors are named beside it."""
    name, plant = PLANTS[kind]
    with tempfile.TemporaryDirectory() as place:
        folder = copy_of(generated(name, seed, store), store, Path(place))
        clean = read_data(folder)
        wanted = plant(clean, np.random.default_rng(seed))
        data = read_data(folder)
        if kind in ("incomplete", "surplus"):
            data.expected = complete(clean)
        data.persons = PERSONS if kind == "person_range" else data.persons
        report = examine(data, workers=1, progress=False)
    beside = [finding.name for finding in report.findings if finding.severity == Severity.ERROR and finding.name != kind]
    return is_named(report, kind, wanted), beside


def together(seed: int, kinds: Sequence[str] = TOGETHER) -> tuple[Examined, dict[str, bool]]:
    """Plant a defect of each kind in one Market-1501, each on persons of its own; return the report and what is named."""
    draw = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as place:
        folder = write("market1501", Path(place), seed, identities=4 * len(kinds), images=2)
        clean = read_data(folder)
        trained, tested = (
            draw.permutation(sorted({record.person for record in clean.part(part) if record.person})).tolist()
            for part in ("train", "query")
        )
        wanted = {}
        for number, kind in enumerate(kinds):
            own = {*trained[2 * number:2 * number + 2], tested[number]}
            records = [record for record in clean.records if record.person in own]
            wanted[kind] = PLANTS[kind][1](dataclasses.replace(clean, records=records), draw)
        data = read_data(folder)
        data.persons = PERSONS
        report = examine(data, workers=1, progress=False)
    return report, {kind: is_named(report, kind, paths) for kind, paths in wanted.items()}


def of_seed(seed: int, store: str) -> tuple[dict[str, tuple[bool, list[str]]], dict[str, bool]]:
    """Plant every kind by itself in the sets of one seed, then many kinds together."""
    return {kind: planted(kind, seed, Path(store)) for kind in PLANTS}, together(seed)[1]


def recall(seeds: range, processes: int) -> list[list[str]]:
    with tempfile.TemporaryDirectory() as store, ProcessPoolExecutor(processes) as pool:
        outcomes = list(pool.map(of_seed, seeds, [store] * len(seeds)))
    rows = []
    for kind in PLANTS:
        hits = sum(alone[kind][0] for alone, _ in outcomes)
        crowd = f"{sum(many[kind] for _, many in outcomes)}/{len(seeds)}" if kind in TOGETHER else "–"
        beside = {name for alone, _ in outcomes for name in alone[kind][1]}
        rows.append([kind, f"{hits}/{len(seeds)}", f"{hits / len(seeds):.0%}", crowd, ", ".join(sorted(beside)) or "–"])
    return rows


def clean_sets(first: int, number: int) -> list[list[str]]:
    alarms: dict[str, list[str]] = {name: [] for name in SETS}
    totals, errors = Counter[str](), Counter[str]()
    for seed in range(number):
        name = SETS[seed % len(SETS)]
        with tempfile.TemporaryDirectory() as root:
            report = examine(read_data(write(name, Path(root), 1000 + first + seed)), workers=1, progress=False)
        totals[name] += 1
        errors[name] += report.severity == Severity.ERROR
        alarms[name] += [finding.name for finding in report.findings if finding.severity == Severity.WARNING]
    rows = []
    for name in SETS:
        warned = ", ".join(f"{kind} × {count}" for kind, count in sorted(Counter(alarms[name]).items()))
        rows.append([name, f"{totals[name]}", f"{errors[name]}", warned or "–"])
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="planted sets per kind")
    parser.add_argument("--first", type=int, default=0, help="first seed (default 0)")
    parser.add_argument("--clean", type=int, default=50, help="clean sets")
    parser.add_argument("--processes", type=int, default=1, help="sets that are examined at once")
    add_json(parser)
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    torchreid_nas.register()
    with Report(machine(), options.json) as report:
        report.table(
            recall(seeds, options.processes), ["kind", "named", "recall", "named among others", "errors named beside"],
            f"Planted defects, {options.seeds} generated sets per kind. *Among others*: {len(TOGETHER)} kinds in one set, each "
            "on persons of its own",
        )
        report.table(
            clean_sets(options.first, options.clean), ["layout", "clean sets", "sets with an error", "warnings"],
            f"{options.clean} clean generated sets",
        )


if __name__ == "__main__":
    main()
