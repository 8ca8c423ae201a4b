#!/usr/bin/env python
"""The searched architecture beside its controls, on synthetic data: one table, whatever it shows.

    python benchmarks/controls.py --seeds 1 2 3

Every row trains and tests with the same config and seeds: the architecture
that the search of that seed found, all shared, all split, the first k slots
split (k as the search found it), random splits, and all shared with the input
standardised per modality. Figures of synthetic images: no evidence for
RegDB or SYSU-MM01. Finished runs are taken over when started again.
"""
from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import add_json, machine
from results import Report
from runs import REPOSITORY, run_main

from torchreid_nas.architecture import SPLIT, Architecture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=str(REPOSITORY / "configs" / "demo_scratch.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("runs/controls"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, sharing the cores")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys, for every run")
    add_json(parser)
    arguments = parser.parse_intermixed_args()

    def run(folder: Path, seed: int, *overrides: str) -> None:
        run_main(arguments.config, folder, arguments.jobs, ["train.seed", str(seed), *overrides, *arguments.overrides])

    with ThreadPoolExecutor(arguments.jobs) as pool:
        searched = {seed: arguments.output / f"seed_{seed}" / "searched" for seed in arguments.seeds}
        list(pool.map(lambda seed: run(searched[seed], seed), arguments.seeds))
        jobs = []
        for seed in arguments.seeds:
            for name, overrides in _controls(searched[seed], seed).items():
                jobs.append(pool.submit(run, searched[seed].with_name(name), seed, *overrides))
        for job in jobs:
            job.result()
    with Report(machine(), arguments.json) as report:
        report.table(*_table(arguments.output, arguments.seeds))


def _controls(searched: Path, seed: int) -> dict[str, list[str]]:
    choices = Architecture.load(searched / "architecture.json").choices
    split = sum(choice == SPLIT for _, choice in choices)
    return {
        "share": ["model.architecture", "share"],
        "split": ["model.architecture", "split"],
        "first-k": ["model.architecture", f"first-{split}"],
        "random": ["model.architecture", f"random-{seed}"],
        "share-standardised-input": ["model.architecture", "share", "model.standardize_input", "True"],
    }


def _table(output: Path, seeds: list[int]) -> tuple[list[list[str]], list[str]]:
    rows = []
    for name in ("searched", "share", "split", "first-k", "random", "share-standardised-input"):
        runs = [json.loads((output / f"seed_{seed}" / name / "results.json").read_text())["results"] for seed in seeds]
        splits = [_num_split(output / f"seed_{seed}" / name) for seed in seeds]
        row = [name, "/".join(map(str, splits))]
        for direction in ("visible → infrared", "infrared → visible"):
            scores = [_after_bnneck(results, direction) for results in runs]
            for values in ([s["cmc"][0] for s in scores], [s["mAP"] for s in scores]):
                row.append(f"{100 * statistics.mean(values):.1f} ± {100 * statistics.pstdev(values):.1f}")
        rows.append(row)
    headers = ["architecture", "slots split", "V→I Rank-1", "V→I mAP", "I→V Rank-1", "I→V mAP"]
    return rows, headers


def _after_bnneck(results: list[dict], direction: str) -> dict:
    return next(row for row in results if row["direction"] == direction and row["feature"] == "after BNNeck")


def _num_split(folder: Path) -> int:
    return json.loads((folder / "results.json").read_text())["split_slots"]


if __name__ == "__main__":
    main()
