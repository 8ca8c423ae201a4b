#!/usr/bin/env python
"""ECN's ablation over several seeds on synthetic domains: one table, whatever it shows.

    python benchmarks/ecn_ablation.py --seeds 1 2 3

Runs the variants of ``configs/demo_ecn.yaml`` (``ecn.ablation``) and a
supervised training on the target for every seed, and prints mean and standard
deviation. Figures of synthetic images: no evidence for the paper's benchmarks.
Finished runs are taken over when started again.
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

_SUPERVISED = "ecn.ablation", '["source", "exemplar", "camera", "neighbourhood", "all", "supervised"]'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default=str(REPOSITORY / "configs" / "demo_ecn.yaml"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("runs/ecn_ablation"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, sharing the cores")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="config keys, for every run")
    add_json(parser)
    arguments = parser.parse_intermixed_args()

    def run(seed: int) -> list[dict]:
        folder = arguments.output / f"seed_{seed}"
        run_main(
            arguments.config, folder, arguments.jobs, ["train.seed", str(seed), *_SUPERVISED, *arguments.overrides]
        )
        return json.loads((folder / "results.json").read_text())["results"]

    with ThreadPoolExecutor(arguments.jobs) as pool:
        seeds = list(pool.map(run, arguments.seeds))
    with Report(machine(), arguments.json) as report:
        report.table(*_table(seeds))


def _table(seeds: list[list[dict]]) -> tuple[list[list[str]], list[str]]:
    rows = []
    for same in zip(*seeds):
        row = [same[0]["variant"], same[0]["dataset"]]
        for values in ([r["cmc"][0] for r in same], [r["cmc"][1] for r in same], [r["mAP"] for r in same]):
            row.append(f"{100 * statistics.mean(values):.1f} ± {100 * statistics.pstdev(values):.1f}")
        rows.append([*row, ", ".join(f"{100 * r['mAP']:.1f}" for r in same)])
    headers = ["variant", "target", "Rank-1", "Rank-5", "mAP", "mAP of each seed"]
    return rows, headers


if __name__ == "__main__":
    main()
