#!/usr/bin/env python
"""Collect the finished trainings into the table that the package ships.

    python benchmarks/bn_split_bench/make_table.py --runs runs/bn_split_bench --table imagenet --machine "AMD EPYC, 2 cores"
"""
from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from training import Trainer

from torchreid_nas.layers import bn_slots
from torchreid_nas.search.bench import TABLES, Row, Table, write_table

KINDS = ("stages", "standardised", "slots", "long")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/bn_split_bench"))
    parser.add_argument("--data", type=Path, default=Path("reid-data/bn_split_bench"), help="folder of the generated images")
    parser.add_argument("--table", choices=("imagenet", "scratch"), default="imagenet")
    parser.add_argument("--machine", required=True, help="processor and number of cores, for the reader of the table")
    parser.add_argument("--to", type=Path, help="file to write; default: that of the package, or scratch.csv")
    arguments = parser.parse_args()
    results = [json.loads(path.read_text()) for path in sorted((arguments.runs / arguments.table).glob("*.json"))]
    setup = Trainer(arguments.table, "choice", arguments.data).setup(1)
    slots = bn_slots(setup.method.build_unsearched(1, pretrained=False).backbone)
    place = {kind: number for number, kind in enumerate(KINDS)}
    rows = sorted(
        rows_of(results), key=lambda row: (place[row.kind.partition("-")[0]], row.kind, row.bits, row.seed, row.steps)
    )
    cfg = setup.cfg
    facts = {
        "network": f"{cfg.model.name}, width {cfg.model.width:g}, start {cfg.model.pretrained or 'random weights'}",
        "data": (
            f"generated RegDB, {cfg.synthetic.identities // 2} training and as many test persons, {cfg.synthetic.images} images "
            f"per person and modality, {cfg.data.height}×{cfg.data.width}, gap {cfg.synthetic.gap:g}, difficulty "
            f"{cfg.synthetic.difficulty:g}, seed {cfg.synthetic.seed}"
        ),
        "config": f"benchmarks/bn_split_bench/{arguments.table}.yaml",
        "machine": arguments.machine,
        "hours": f"{sum(result['processor_seconds'] for result in results) / 3600:.2f} of one core, trainings and tests",
    }
    path = arguments.to or TABLES.get(arguments.table) or Path(f"{arguments.table}.csv")
    write_table(Table(facts, slots, cfg.synthetic.images, rows), path)
    print(f"{path}: {len(rows)} lines of {len(results)} trainings, {path.stat().st_size / 1e6:.2f} MB")


def rows_of(results: list[dict]) -> list[Row]:
    """Return the trainings, and a row for every look at a long one."""
    rows = []
    for result in results:
        epochs = result["looks"]
        last = max(map(int, epochs), default=0)
        per_epoch = result["steps"] // (last + 4) if epochs else 0
        kind = f"long-{result['steps']}" if epochs else result["kind"]
        for scores, steps in [*((each, int(epoch) * per_epoch) for epoch, each in epochs.items()), (result, result["steps"])]:
            rows.append(Row(
                kind, result["bits"], result["seed"], steps, result["seconds"], np.array(scores["hits"]),
                np.array(scores["ap"]),
            ))
    return rows


if __name__ == "__main__":
    main()
