#!/usr/bin/env python
"""Print what every searcher of split BatchNorms loses against the best of the table: regret, ranks, stability, cost.

    python benchmarks/search_quality.py

Searchers that train architectures run on the table here, in seconds. Searchers that train a supernet ran before; their
architectures and scores stand in search_remedies.jsonl, which search_remedies.py writes. There a supernet's retrieval also
answers the searchers that train. judging.py judges all of them alike. All figures are of generated images.
"""
from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from harness import add_json, machine
from judging import HEADERS, against_draws, controls, kappa, searched, shown, with_predictor, with_supernet, with_trainings
from results import Report

from torchreid_nas.config import load_config
from torchreid_nas.models.size import model_size
from torchreid_nas.report.style import new_figure, save_figure
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.search.bench import SplitBench

FOLDER = Path(__file__).resolve().parent
SEARCHED = FOLDER / "search_remedies.jsonl"
RUNS = 200
PREDICTED_RUNS = 20
SHOWN = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default="imagenet")
    parser.add_argument("--searched", type=Path, default=SEARCHED, help="architectures that searchers with a supernet found")
    parser.add_argument("--picture", type=Path, help="draw accuracy over split slots")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of every searcher on the table")
    add_json(parser)
    arguments = parser.parse_args()
    bench = SplitBench(arguments.table)
    logged = searched(arguments.searched) if arguments.searched.exists() and arguments.table == "imagenet" else {}
    with Report(machine(), arguments.json) as report:
        report.text("; ".join(f"{name}: {fact}" for name, fact in bench.table.facts.items()) + ".")
        report.table(*noise(bench), "How much of the scores is architecture, seed, identity")
        report.table(*extremes(bench), "The best and the worst stage-wise architectures, and the controls")
        report.table(*effects(bench), "What splitting a stage adds, mean over the splits of the other stages")
        judged = [*controls(bench), *with_trainings(bench, arguments.runs), *with_supernet(bench, logged)]
        judged += with_predictor(bench, logged, min(arguments.runs, PREDICTED_RUNS))
        report.table([one.row(bench) for one in judged], HEADERS, "Every searcher")
        if logged:
            report.table(*against_draws(bench, logged), "Searchers with a supernet against random draws")
            report.table(*agreement(bench, logged), "Slots that all seeds of a search split / share, of the slots of a stage")
        if bench.long:
            report.table(*in_the_end(bench), "Long trainings: mAP after so many steps")
    if arguments.picture:
        draw(bench, logged, arguments.picture)


def noise(bench: SplitBench) -> tuple[list[list[str]], list[str]]:
    """Return the components of variance of both scores."""
    rows = []
    for score in ("mAP", "rank1"):
        one = SplitBench(bench.table, score)
        parts, pairs = one.components, one.kendall_between_seeds
        for name, part in parts.of_training.items():
            rows.append([score, name, f"{part.value:.3f} [{part.low:.3f}, {part.high:.3f}]"])
        for seeds in (1, len(one.seeds)):
            what = f"share of architecture in the variance of means over {seeds} seeds"
            rows.append([score, what, f"{parts.reliability(seeds):.0%}"])
        rows.append([score, "Kendall between two seeds: mean, least", f"{np.mean(pairs):.2f}, {min(pairs):.2f}"])
        for name, additive in (("predictor", False), ("predictor, a sum over slots and stages alone", True)):
            quality = one.fit_predictor(additive).quality
            if quality:
                what = f"{name}, {quality.architectures} architectures, 10 folds: error, spread, Kendall"
                rows.append([score, what, f"{quality.error:.2f}, {quality.spread:.2f}, {quality.kendall:.2f}"])
    return rows, ["score", "what", "value"]


def extremes(bench: SplitBench) -> tuple[list[list[str]], list[str]]:
    """Return the five best, the five worst and the controls with their regret."""
    order = [bench.stage_wise[index] for index in bench.scores.mean(axis=(1, 2)).argsort()[::-1]]
    rank1 = SplitBench(bench.table, "rank1")
    rows = []
    for bits in [*order[:SHOWN], *order[-SHOWN:]]:
        rows.append(_row(bench, rank1, stages_of(bench, bits), bits))
    shared, split = "0" * len(bench.slots), "1" * len(bench.slots)
    rows += [_row(bench, rank1, "all shared", shared), _row(bench, rank1, "all split", split)]
    if any(row.kind == "standardised" for row in bench.table.rows):
        rows.append(_row(bench, rank1, "all shared, standardised input", None))
    return rows, ["split", "split slots", "mAP", "Rank-1", "regret in mAP"]


def effects(bench: SplitBench) -> tuple[list[list[str]], list[str]]:
    """Return what splitting each stage adds to the mAP, with an interval over seeds and persons."""
    rows = []
    noise = bench.components.of_training["architecture × seed"].value
    for name, start, stop in bench.stages:
        split = np.array([bits[start] == "1" for bits in bench.stage_wise])
        gains = bench.scores[split].mean(axis=(0, 1)) - bench.scores[~split].mean(axis=(0, 1))
        variance = noise * (1 / split.sum() + 1 / (~split).sum()) / len(bench.seeds) + gains.var(ddof=1) / len(gains)
        half, mean = 1.96 * np.sqrt(variance), gains.mean()
        rows.append([name, str(stop - start), shown((mean, mean - half, mean + half))])
    return rows, ["stage", "slots", "mAP added"]


def _row(bench: SplitBench, rank1: SplitBench, name: str, bits: str | None) -> list[str]:
    answers = [each.standardised() if bits is None else each.query(each.architecture(bits)) for each in (bench, rank1)]
    count = "0" if bits is None else str(bits.count("1"))
    return [name, count, *(f"{answer.mean:.2f}" for answer in answers), shown(bench.regret(answers[0]))]


def stages_of(bench: SplitBench, bits: str) -> str:
    """Return the names of the stages that an architecture splits."""
    return " + ".join(name for name, start, _ in bench.stages if bits[start] == "1") or "nothing"


def agreement(bench: SplitBench, logged: Mapping[str, Sequence[dict]]) -> tuple[list[list[str]], list[str]]:
    """Return which slots all seeds of a searcher with a supernet split or share, by stage, and how far the seeds agree."""
    table = []
    for name, rows in logged.items():
        if len(rows) < 2:
            continue
        bits = np.array([[bit == "1" for bit in row["bits"]] for row in rows])
        always, never = bits.all(axis=0), ~bits.any(axis=0)
        per_stage = [f"{always[start:stop].sum()}/{never[start:stop].sum()} of {stop - start}" for _, start, stop in bench.stages]
        table.append([name, str(len(bits)), shown(kappa([row["bits"] for row in rows])), *per_stage])
    return table, ["searcher", "seeds", "kappa", *(stage for stage, *_ in bench.stages)]


# -- trainings, pictures ------------------------------------------------------


def in_the_end(bench: SplitBench) -> tuple[list[list[str]], list[str]]:
    """Return the score of every seed of the long trainings after so many steps."""
    names = {"0" * len(bench.slots): "all shared", "1" * len(bench.slots): "all split"}
    steps = sorted({step for scores in bench.long.values() for step in scores})
    rows = []
    for (kind, bits), scores in bench.long.items():
        for seed in sorted({seed for by_seed in scores.values() for seed in by_seed}):
            cells = [f"{scores[step][seed]:.1f}" if seed in scores.get(step, {}) else "" for step in steps]
            rows.append([names.get(bits, bits), kind.partition("-")[2], str(seed), *cells])
    return rows, ["network", "of steps", "seed", *(f"after {step}" for step in steps)]


def multiply_adds(bench: SplitBench) -> dict[int, float]:
    """Return the multiply-adds of an image at test time in millions, by the number of split slots: of no, every second, all."""
    setup = RunSetup.of(load_config(str(FOLDER.parent / bench.table.facts["config"]), ["model.pretrained", "False"]))
    size, found = len(bench.slots), {}
    for bits in ("0" * size, ("01" * size)[:size], "1" * size):
        model = setup.method.build_model(1, bench.architecture(bits), pretrained=False)
        found[bits.count("1")] = model_size(model, setup.cfg.data.height, setup.cfg.data.width)[2] / 1e6
    return found


def draw(bench: SplitBench, logged: Mapping[str, Sequence[dict]], path: Path) -> None:
    """Draw accuracy over split slots and over multiply-adds: splitting costs parameters, and no multiply-add."""
    figure = new_figure((10.0, 6.4))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    costs = multiply_adds(bench)
    half = 1.96 * bench.components.error(len(bench.seeds)) / np.sqrt(2)
    markers = itertools.cycle("^vs*DPXph<>d8")

    def point(bits: Sequence[str], label: str, marker: str, **style: Any) -> None:
        values = [bench.query(bench.architecture(each)).mean for each in bits]
        counts = [each.count("1") for each in bits]
        left.plot(counts, values, marker, ls="", label=label, **style)
        right.plot(np.interp(counts, list(costs), list(costs.values())), values, marker, ls="", **style)

    drawn = [bits for bits in bench.trained() if bits not in set(bench.stage_wise)]
    point(drawn, "drawn slots split, one seed", "x", color="lightgray")
    point(bench.stage_wise, f"whole stages split, {len(bench.seeds)} seeds", "o", color="tab:blue")
    left.errorbar(
        [bits.count("1") for bits in bench.stage_wise], bench.scores.mean(axis=(1, 2)), half, fmt="none", ecolor="tab:blue",
        capsize=2, alpha=0.5,
    )
    for name, rows in logged.items():
        point([row["bits"] for row in rows], f"{name} ({len(rows)}), predicted", next(markers), ms=6)
    if any(row.kind == "standardised" for row in bench.table.rows):
        left.axhline(bench.standardised().mean, color="tab:red", ls=":", label="all shared, standardised input")
        right.axhline(bench.standardised().mean, color="tab:red", ls=":")
    left.set_xlabel(f"split slots of {len(bench.slots)}")
    right.set_xlabel("multiply-adds per image, in M")
    middle = float(np.mean(list(costs.values())))
    right.set_xlim(middle - 1, middle + 1)
    right.set_title("the same for all", fontsize=9)
    left.set_ylabel("mAP in %, mean of both directions")
    left.set_title("Generated images; no figure is one of RegDB", fontsize=9)
    figure.legend(loc="lower center", ncols=4, fontsize=7, title="searches by name (seeds)", title_fontsize=7)
    figure.subplots_adjust(left=0.07, right=0.98, top=0.94, bottom=0.27, wspace=0.06)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
