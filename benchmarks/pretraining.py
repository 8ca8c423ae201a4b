#!/usr/bin/env python
"""A searched CDNet pretrained on what generated persons wear, then trained for the re-ID of other persons, against scratch.

    python benchmarks/pretraining.py --seeds 1 2 3

Per seed: search and classification on the attributes (configs/demo_pretrain.yaml), then twice the re-ID of generated
persons of another population (configs/demo_cdnet.yaml) with the network found, from the pretrained weights and from
random ones. Both re-IDs have the same seed, images, epochs and recipe. The differences are paired by seed. Figures of
generated images: no evidence for real data. Finished runs are taken over when started again.
"""
from __future__ import annotations

import argparse
import json
import math
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import add_json, machine
from results import Report
from runs import REPOSITORY, run_main
from scipy import stats

SIZE = ["synthetic.height", "64", "synthetic.width", "32", "data.height", "64", "data.width", "32"]
REID = [
    "--stages", "train,test", "synthetic.identities", "100", "synthetic.cameras", "3", "train.max_epoch", "30",
    "train.stepsize", "[22, 28]",
]
SCORES = {"Rank-1": lambda row: row["cmc"][row["ranks"].index(1)], "mAP": lambda row: row["mAP"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, default=Path("runs/pretraining"))
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time, sharing the cores")
    add_json(parser)
    arguments = parser.parse_args()
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda seed: _run(arguments.output, seed, arguments.jobs), arguments.seeds))
    with Report(machine(), arguments.json) as report:
        report.table(*_classified(arguments.output, arguments.seeds))
        report.table(*_compared(arguments.output, arguments.seeds))


def _run(output: Path, seed: int, jobs: int) -> None:
    """Pretrain with a seed, then train for re-ID from the weights and from scratch."""
    folder = output / f"seed_{seed}"
    common = ["--root", str(output / "data"), "train.seed", str(seed), *SIZE]
    run_main(str(REPOSITORY / "configs" / "demo_pretrain.yaml"), folder / "attributes", jobs, common)
    architecture = ["model.architecture", str(folder / "attributes" / "architecture.json")]
    for name, weights in (("pretrained", str(folder / "attributes")), ("scratch", "False")):
        overrides = [*REID, *common, *architecture, "model.pretrained", weights]
        run_main(str(REPOSITORY / "configs" / "demo_cdnet.yaml"), folder / name, jobs, overrides)


def _rows(output: Path, seeds: list[int], name: str) -> list[dict]:
    return [json.loads((output / f"seed_{seed}" / name / "results.json").read_text())["results"][-1] for seed in seeds]


def _classified(output: Path, seeds: list[int]) -> tuple[list[list[str]], list[str], str]:
    rows = [
        [str(seed), f"{100 * row['top1']:.1f}", f"{100 * row['top5']:.1f}", f"{row['num_valid_queries']:,}"]
        for seed, row in zip(seeds, _rows(output, seeds, "attributes"))
    ]
    protocol = _rows(output, seeds, "attributes")[0]["protocol"]
    return rows, ["seed", "top-1", "top-5", "images"], f"Generated images: {protocol}, percent"


def _compared(output: Path, seeds: list[int]) -> tuple[list[list[str]], list[str], str]:
    """Return the scores of both sides per seed, then the mean difference with its t interval over the seeds."""
    sides = {name: _rows(output, seeds, name) for name in ("pretrained", "scratch")}
    table, last = [[str(seed)] for seed in seeds], ["mean difference"]
    for score in SCORES.values():
        values = {name: [100 * score(row) for row in rows] for name, rows in sides.items()}
        for cells, own, other in zip(table, values["pretrained"], values["scratch"]):
            cells += [f"{own:.1f}", f"{other:.1f}"]
        differences = [own - other for own, other in zip(*values.values())]
        mean, half = statistics.mean(differences), math.nan
        if len(seeds) > 1:
            half = stats.t.ppf(0.975, len(seeds) - 1) * statistics.stdev(differences) / math.sqrt(len(seeds))
        last += [f"{mean:+.1f}", f"{mean - half:+.1f} to {mean + half:+.1f}"]
    headers = ["seed", *(f"{name}, {side}" for name in SCORES for side in sides)]
    queries = sides["scratch"][0]["num_valid_queries"]
    title = (
        f"Generated images, {queries} queries, percent. Last row: pretrained less scratch and its 95 % interval over "
        f"{len(seeds)} seeds (paired, Student's t)"
    )
    return [*table, last], headers, title


if __name__ == "__main__":
    main()
