#!/usr/bin/env python
"""Report the default search as a user runs it, beside all split and a random draw of as many split slots, paired by seed.

    python benchmarks/search_report.py --output runs/search_report --seeds 1 2 3 4 5

Every run is a call of ``torchreid-nas`` on generated persons that no choice was made on (``synthetic.seed`` 2000; the table
has 0, the first report 1000). A finished run is left alone, and an interrupted one goes on: the same command resumes. With
``--summary`` nothing is trained. All figures are of generated images.
"""
from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import add_json, machine
from results import Report

from torchreid_nas.architecture import SPLIT, Architecture
from torchreid_nas.evidence.runs import EvaluatedRun, Method, read_run
from torchreid_nas.evidence.sides import Side, compare_sides
from torchreid_nas.evidence.words import sentence
from torchreid_nas.run.folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "benchmarks" / "bn_split_bench" / "imagenet.yaml"
# Four times the steps of the table's trainings: there all split and all shared were 11 points of mAP apart.
LONGER = {"synthetic.seed": "2000", "train.max_epoch": "16", "train.stepsize": "[12, 14]"}
# As many steps as a search on the persons of the table had.
SEARCH = {"model.architecture": "search", "search.max_epoch": "4"}
DIRECTIONS = ("regdb", "regdb_ir2vis")
NAMES = {"found": "found by the search", "split": "all split", "drawn": "random draw, as many split slots"}


def drawn_like(found: Architecture, seed: int) -> Architecture:
    """Return an architecture with as many split slots, drawn at random."""
    choices = [choice for _, choice in found.choices]
    random.Random(seed).shuffle(choices)
    slots = [slot for slot, _ in found.choices]
    return Architecture(found.space, tuple(zip(slots, choices)), {"drawn": f"as many split slots, seed {seed}"})


def run(folder: RunFolder, seed: int, weights: str, data: Path, keys: dict[str, str]) -> None:
    """Call the command, unless the folder holds its results already."""
    if folder.results.is_file():
        return
    keys = {"model.pretrained": weights, **LONGER, "train.seed": str(seed), **keys}
    command = [sys.executable, "-m", "torchreid_nas", "--config", str(CONFIG), "--root", str(data), "--output", str(folder)]
    command += ["--resume"] if folder.path.exists() else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run([*command, *(word for pair in keys.items() for word in pair)], check=True, env=environment)


def train(output: Path, seed: int, weights: str, data: Path) -> None:
    """Search and train with one seed: what was found, all split, and a random draw."""
    folders = {name: RunFolder(output / f"{name}-{seed}") for name in NAMES}
    run(folders["found"], seed, weights, data, SEARCH)
    run(folders["split"], seed, weights, data, {"model.architecture": "split"})
    drawn = output / f"drawn-{seed}.json"
    if not drawn.exists():
        drawn_like(Architecture.load(folders["found"].architecture), seed).save(drawn)
    run(folders["drawn"], seed, weights, data, {"model.architecture": str(drawn)})


def finished(output: Path, seeds: Sequence[int]) -> dict[str, dict[int, EvaluatedRun]]:
    """Return the tested runs by name and seed."""
    folders = {name: {seed: RunFolder(output / f"{name}-{seed}") for seed in seeds} for name in NAMES}
    return {
        name: {seed: read_run(folder.path) for seed, folder in own.items() if folder.results.is_file()}
        for name, own in folders.items()
    }


def side(name: str, runs: Sequence[EvaluatedRun], score: str) -> Side:
    """Return the scores of trainings on the queries of both directions, a person being the same in both."""
    both = [Method(NAMES[name], tuple(runs)).side(target, "after BNNeck", score) for target in DIRECTIONS]
    scores = np.concatenate([each.scores for each in both], axis=2)
    return Side(NAMES[name], scores, np.concatenate([each.pids for each in both]), both[0].seeds)


def split_slots(output: Path, name: str, seed: int) -> str:
    """Return the number of split slots of what was found, which the random draw has too; empty for all split."""
    file = RunFolder(output / f"found-{seed}").architecture
    return "" if name == "split" else str(sum(choice == SPLIT for _, choice in Architecture.load(file).choices))


def summary(report: Report, output: Path, seeds: Sequence[int]) -> None:
    """Add the scores of every run, and the differences of what was found to both controls over the seeds that both have."""
    tested = finished(output, seeds)
    rows = []
    for seed in sorted({seed for own in tested.values() for seed in own}):
        for name in NAMES:
            if seed in tested[name]:
                means = [100 * side(name, [tested[name][seed]], score).scores.mean() for score in ("mAP", "rank1")]
                rows.append([str(seed), NAMES[name], split_slots(output, name, seed), *(f"{mean:.2f}" for mean in means)])
    report.table(rows, ["seed", "network", "split slots", "mAP", "Rank-1"], "Mean of both directions, in percent")
    rows, said = [], []
    for control in ("split", "drawn"):
        common = sorted(set(tested["found"]) & set(tested[control]))
        if len(common) < 2:
            continue
        for score, title in (("mAP", "mAP"), ("rank1", "Rank-1")):
            sides = [side(name, [tested[name][seed] for seed in common], score) for name in ("found", control)]
            found = compare_sides(*sides, family=2)
            ends = " to ".join(f"{100 * end:+.2f}" for end in (found.low, found.high))
            rows.append([
                f"found − {NAMES[control]}", title, str(len(common)), f"{100 * found.difference:+.2f}", ends,
                f"{found.p_value:.2f}", f"{100 * found.smallest:.1f}",
            ])
            said.append(sentence(found, title, 0.95))
    headers = ["difference", "score", "seeds", "points", "95 % interval", "p", "would mostly show"]
    report.table(rows, headers, "Paired by seed, over seeds and persons")
    report.text("\n".join(said) or "Fewer than two seeds of a pair are finished.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/search_report"))
    parser.add_argument("--data", type=Path, default=Path("reid-data/search_report"), help="folder of the generated images")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--weights", default="imagenet", help="ImageNet weights of MobileNetV2: a file, or imagenet")
    parser.add_argument("--summary", action="store_true", help="train nothing, report what is finished")
    add_json(parser)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if not arguments.summary:
        for seed in arguments.seeds:
            train(arguments.output, seed, arguments.weights, arguments.data)
    with Report(machine(), arguments.json) as report:
        summary(report, arguments.output, arguments.seeds)


if __name__ == "__main__":
    main()
