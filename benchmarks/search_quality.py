#!/usr/bin/env python
"""Print what every searcher of split BatchNorms loses against the best of the table: regret, ranks, stability, cost.

    python benchmarks/search_quality.py

Searchers that train architectures run on the table here, in seconds. Searchers that train a supernet ran before; their
architectures stand in search_remedies.jsonl, which search_remedies.py writes. All figures are of generated images.
"""
from __future__ import annotations

import argparse
import functools
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import add_json, machine
from results import Report
from scipy import stats

from torchreid_nas.report.style import new_figure, save_figure
from torchreid_nas.search.bench import SEARCHERS, Found, SplitBench

FOLDER = Path(__file__).resolve().parent
SEARCHED = FOLDER / "search_remedies.jsonl"
STEPS = 128
BUDGETS = (8, 16, 32)
RUNS = 200
SHOWN = 5
# The searcher sees this share of the seeds, the regret is measured on the others.
SEEN = 0.6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", default="imagenet")
    parser.add_argument("--searched", type=Path, default=SEARCHED, help="architectures that searchers with a supernet found")
    parser.add_argument("--picture", type=Path, help="draw accuracy over split slots")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of every searcher on the table")
    add_json(parser)
    arguments = parser.parse_args()
    bench = SplitBench(arguments.table)
    rows = searched(arguments.searched) if arguments.searched.exists() else []
    with Report(machine(), arguments.json) as report:
        report.text("; ".join(f"{name}: {fact}" for name, fact in bench.table.facts.items()) + ".")
        report.table(*noise(bench), "How much of the scores is architecture, seed, identity")
        report.table(*extremes(bench), "The best and the worst stage-wise architectures, and the controls")
        report.table(*effects(bench), "What splitting a stage adds, mean over the splits of the other stages")
        report.table(*on_the_table(bench, arguments.runs), f"Searchers that train architectures, {arguments.runs} runs each")
        if rows:
            report.table(*with_supernet(bench, rows), "Searchers that train a supernet")
            report.table(*agreement(bench, rows), "Do the seeds of a search agree?")
        if bench.long:
            report.table(*in_the_end(bench), "Long trainings: mAP after so many steps")
    if arguments.picture:
        draw(bench, rows, arguments.picture)


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


def shown(estimate: Sequence[float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*estimate)


# -- searchers that train architectures ---------------------------------------


def on_the_table(bench: SplitBench, runs: int) -> tuple[list[list[str]], list[str]]:
    """Return regret, ranks and stability of the searchers of the package, by budget."""
    rows = []
    for name, searcher in SEARCHERS.items():
        for budget in BUDGETS:
            rows.append([name, *judged(bench, functools.partial(run_once, bench, searcher, budget), runs, budget)])
    return rows, ["searcher", "trainings", "steps", "split slots", "regret in mAP", "Kendall", "same stages in two runs"]


def run_once(bench: SplitBench, searcher, budget: int, run: int) -> tuple[str, np.ndarray, float]:
    """Return the gene that a run finds, its loss per identity on seeds it has not seen, and the ranks' correlation."""
    generator = np.random.default_rng(run)
    genes = ["".join(bits[start] for _, start, _ in bench.stages) for bits in bench.stage_wise]
    seeds = generator.permutation(len(bench.seeds))
    seen, fresh = np.split(seeds, [round(SEEN * len(seeds))])
    asked = dict.fromkeys(genes, 0)
    means = bench.scores.mean(axis=2)

    def train(gene: str) -> float:
        asked[gene] += 1
        return float(means[genes.index(gene), seen[(asked[gene] - 1) % len(seen)]])

    found: Found = searcher(train, genes, budget, generator)
    best = [bench.stage_wise.index(bench.bits(bench.best(bench.seeds[seed]))) for seed in fresh]
    own = genes.index(found.gene)
    loss = np.mean([bench.scores[top, seed] - bench.scores[own, seed] for top, seed in zip(best, fresh)], axis=0)
    believed = list(found.belief)
    true = [means[genes.index(gene)][fresh].mean() for gene in believed]
    return found.gene, loss, float(stats.kendalltau([found.belief[gene] for gene in believed], true).statistic)


def judged(bench: SplitBench, run, runs: int, budget: int) -> list[str]:
    genes, losses, ranks = zip(*map(run, range(runs)))
    losses = np.array(losses)
    # Other runs, other persons, other trainings: their variances add up.
    variance = losses.mean(axis=1).var(ddof=1) / runs + losses.mean(axis=0).var(ddof=1) / losses.shape[1]
    variance += 2 * bench.components.of_training["architecture × seed"].value / len(bench.seeds)
    half = 1.96 * np.sqrt(variance)
    sizes = [stop - start for _, start, stop in bench.stages]
    split = np.mean([sum(size for bit, size in zip(gene, sizes) if bit == "1") for gene in genes])
    same = np.mean([np.mean([a == b for a, b in zip(*pair)]) for pair in itertools.combinations(genes[:50], 2)])
    mean = losses.mean()
    return [
        str(budget), f"{budget * STEPS:,}", f"{split:.0f}", shown((mean, mean - half, mean + half)), f"{np.nanmean(ranks):.2f}",
        f"{same:.0%}",
    ]


# -- searchers that train a supernet ------------------------------------------


def searched(path: Path) -> list[dict]:
    """Return the searches of a file on the persons of the table, one per searcher and seed."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = {(line["what"], line["seed"]): line for line in lines if line.get("persons") == "choice" and line.get("preferences")}
    return [
        {"searcher": what, "seed": seed, "architecture": line["bits"], "scores": line["preferences"], "steps": line["steps"]}
        for (what, seed), line in found.items()
    ]


def by_searcher(rows: Sequence[dict]) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for row in rows:
        found.setdefault(row["searcher"], []).append(row)
    return found


def with_supernet(bench: SplitBench, rows: Sequence[dict]) -> tuple[list[list[str]], list[str]]:
    """Return the regret of found architectures, and the rank correlation of the slots' scores with the table."""
    known = bench.trained()
    truth = [bench.query(bench.architecture(bits)).mean for bits in known]
    matrix = np.array([[float(bit) for bit in bits] for bits in known])
    table = []
    for name, group in by_searcher(rows).items():
        regrets = [bench.regret(bench.architecture(row["architecture"])) for row in group]
        mean = float(np.mean([regret.value for regret in regrets]))
        # Every regret has the error of the prediction, which the runs share; between the runs there is that of the search.
        half = np.mean([regret.high - regret.value for regret in regrets])
        if len(group) > 1:
            between = stats.t.ppf(0.975, len(group) - 1) * np.std([r.value for r in regrets], ddof=1) / np.sqrt(len(group))
            half = float(np.hypot(half, between))
        ranks = [stats.kendalltau(matrix @ np.array(row["scores"]), truth).statistic for row in group if row["scores"]]
        sizes = [row["architecture"].count("1") for row in group]
        table.append([
            name, str(len(group)), f"{np.mean([row['steps'] for row in group]):,.0f}", f"{min(sizes)} to {max(sizes)}",
            shown((mean, mean - half, mean + half)), f"{np.mean(ranks):.2f}" if ranks else "",
        ])
    return table, ["searcher", "seeds", "steps", "split slots", "regret in mAP (predicted)", "Kendall"]


def agreement(bench: SplitBench, rows: Sequence[dict]) -> tuple[list[list[str]], list[str]]:
    """Return how far the seeds of a searcher agree beyond chance (Fleiss' kappa), slots drawn anew for the interval."""
    table = []
    for name, group in by_searcher(rows).items():
        bits = np.array([[bit == "1" for bit in row["architecture"]] for row in group], float)
        if len(bits) < 2:
            continue
        generator = np.random.default_rng(0)
        slots = bits.shape[1]
        drawn = [fleiss(bits[:, generator.integers(slots, size=slots)]) for _ in range(1000)]
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        always, never = bits.all(axis=0), ~bits.any(axis=0)
        per_stage = "; ".join(
            f"{stage} {int(always[start:stop].sum())}/{int(never[start:stop].sum())} of {stop - start}"
            for stage, start, stop in bench.stages
        )
        table.append([name, str(len(bits)), shown((fleiss(bits), low, high)), per_stage])
    return table, ["searcher", "seeds", "kappa", "slots split / shared by all seeds"]


def fleiss(bits: np.ndarray) -> float:
    """Return Fleiss' kappa of the choices (seeds, slots); NaN where all choices are alike."""
    seeds, split = len(bits), bits.sum(axis=0)
    observed = ((split * (split - 1) + (seeds - split) * (seeds - split - 1)) / (seeds * (seeds - 1))).mean()
    chance = bits.mean() ** 2 + (1 - bits.mean()) ** 2
    return float((observed - chance) / (1 - chance)) if chance < 1 else float("nan")


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


def draw(bench: SplitBench, rows: Sequence[dict], path: Path) -> None:
    """Draw accuracy over split slots; multiply-adds at test time are the same for all, BatchNorms are folded away."""
    figure = new_figure((7.0, 4.2))
    axes = figure.subplots()
    stage = bench.scores.mean(axis=(1, 2))
    counts = [bits.count("1") for bits in bench.stage_wise]
    axes.errorbar(
        counts, stage, 1.96 * bench.components.error(len(bench.seeds)) / np.sqrt(2), fmt="o", color="tab:blue", capsize=2,
        label=f"whole stages split, {len(bench.seeds)} seeds",
    )
    drawn = [bits for bits in bench.trained() if bits not in set(bench.stage_wise)]
    if drawn:
        values = [bench.query(bench.architecture(bits)).mean for bits in drawn]
        axes.plot([bits.count("1") for bits in drawn], values, "x", color="tab:gray", label="drawn slots split")
    for (name, group), marker in zip(by_searcher(rows).items(), itertools.cycle("^vs*DPX")):
        values = [bench.query(bench.architecture(row["architecture"])).mean for row in group]
        axes.plot([row["architecture"].count("1") for row in group], values, marker, ms=7, label=f"{name}, predicted")
    if any(row.kind == "standardised" for row in bench.table.rows):
        axes.axhline(bench.standardised().mean, color="tab:red", ls=":", label="all shared, standardised input")
    axes.set_xlabel(f"split slots of {len(bench.slots)} (multiply-adds at test time are the same)")
    axes.set_ylabel("mAP in %, mean of both directions")
    axes.set_title("Generated images; no figure is one of RegDB", fontsize=9)
    axes.legend(fontsize=7)
    save_figure(figure, path)


if __name__ == "__main__":
    main()
