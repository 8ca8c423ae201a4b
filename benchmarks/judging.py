"""Runs of searchers of split BatchNorms, judged by the tabular benchmark: what trains architectures, a supernet, or nothing."""
from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from torchreid_nas.search.bench import SEARCHERS, Found, Searcher, SplitBench

STEPS = 128
BUDGETS = (8, 16, 32)
QUESTIONS = 16
AGREEING = 50
DRAWS = 400
# The searcher sees this share of the seeds, the regret is measured on the others.
SEEN = 0.6


def shown(estimate: Sequence[float] | None) -> str:
    """Return value, low and high end as tables show them."""
    return "" if estimate is None else "{:.2f} [{:.2f}, {:.2f}]".format(*estimate)


@dataclasses.dataclass(frozen=True)
class Runs:
    """All runs of one searcher: whatever it trains, it is judged by these.

    Attributes:
        searcher: its name.
        steps: of training with a backward pass, in one run.
        seconds: of one core, in one run; None where they were not measured.
        bits: (runs) the architectures that it found; None for the control without a split slot.
        regret: value, low and high end.
        ranks: of every run, Kendall's correlation of its scores with the table; empty for a searcher without scores.
    """

    searcher: str
    steps: float
    seconds: float | None
    bits: Sequence[str | None]
    regret: Sequence[float]
    ranks: Sequence[float] = ()

    def row(self, bench: SplitBench) -> list[str]:
        """Return the searcher's line of the table."""
        counts = [each.count("1") if each else 0 for each in self.bits]
        ranks = [rank for rank in self.ranks if not np.isnan(rank)]
        agreement = kappa([each for each in self.bits if each is not None][:AGREEING])
        return [
            self.searcher, str(len(self.bits)), f"{self.steps:,.0f}", "" if self.seconds is None else f"{self.seconds:,.0f}",
            f"{np.mean(counts):.0f} ({min(counts)} to {max(counts)})", shown(self.regret),
            f"{np.mean(ranks):.2f}" if ranks else "", shown(agreement),
        ]


HEADERS = [
    "searcher", "runs", "training steps", "s of a core", "split slots", "regret in mAP", "Kendall",
    "agreement of runs (kappa)",
]


def controls(bench: SplitBench) -> list[Runs]:
    """Return what costs no search."""
    found = [
        Runs(name, 0, 0.0, [bits], bench.regret(bench.architecture(bits)))
        for name, bits in (("all shared", "0" * len(bench.slots)), ("all split", "1" * len(bench.slots)))
    ]
    if any(row.kind == "standardised" for row in bench.table.rows):
        found.append(Runs("all shared, standardised input", 0, 0.0, [None], bench.regret(bench.standardised())))
    return found


def genes_of(bench: SplitBench) -> list[str]:
    """Return the stage-wise architectures as genes, a character per stage."""
    return ["".join(bits[start] for _, start, _ in bench.stages) for bits in bench.stage_wise]


def with_trainings(bench: SplitBench, runs: int) -> list[Runs]:
    """Return the searchers that train every architecture they ask for, by budget, each run on seeds and persons of its own."""
    seconds = float(np.median([row.seconds for row in bench.table.rows if row.kind == "stages"]))
    found = []
    for name, searcher in SEARCHERS.items():
        for budget in BUDGETS:
            genes, losses, ranks = zip(*(run_once(bench, searcher, budget, run) for run in range(runs)))
            losses = np.array(losses)
            # Other runs, other persons, other trainings: their variances add up.
            variance = losses.mean(axis=1).var(ddof=1) / runs + losses.mean(axis=0).var(ddof=1) / losses.shape[1]
            variance += 2 * bench.components.of_training["architecture × seed"].value / len(bench.seeds)
            mean, half = losses.mean(), 1.96 * np.sqrt(variance)
            by_gene = dict(zip(genes_of(bench), bench.stage_wise))
            found.append(Runs(
                f"{name}, {budget} trainings", budget * STEPS, budget * seconds, [by_gene[gene] for gene in genes],
                (mean, mean - half, mean + half), ranks,
            ))
    return found


def run_once(bench: SplitBench, searcher: Searcher, budget: int, run: int) -> tuple[str, np.ndarray, float]:
    """Return the gene that a run finds, its loss per identity on seeds it has not seen, and the ranks' correlation."""
    generator = np.random.default_rng(run)
    genes = genes_of(bench)
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


# -- searchers that train a supernet, or nothing --------------------------------


def searched(path: Path) -> dict[str, list[dict]]:
    """Return the logged searches on the persons of the table by searcher, one per seed."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found: dict[str, dict[int, dict]] = {}
    for line in lines:
        if line.get("persons") == "choice" and line.get("preferences"):
            found.setdefault(line["what"], {})[line["seed"]] = line
    return {what: list(by_seed.values()) for what, by_seed in found.items()}


def with_supernet(bench: SplitBench, logged: Mapping[str, Sequence[dict]]) -> list[Runs]:
    """Return the logged searchers; regrets are predicted where the architecture was not trained for the table."""
    known = bench.trained()
    truth = [bench.query(bench.architecture(bits)).mean for bits in known]
    matrix = np.array([[float(bit) for bit in bits] for bits in known])
    found = []
    for name, rows in logged.items():
        ranks = [stats.kendalltau(matrix @ np.array(row["preferences"]), truth).statistic for row in rows]
        seconds = [row["processor_seconds"] for row in rows if "processor_seconds" in row]
        found.append(Runs(
            name, float(np.mean([row["steps"] for row in rows])), float(np.mean(seconds)) if seconds else None,
            [row["bits"] for row in rows], over_seeds(bench, [[row["bits"]] for row in rows]), ranks,
        ))
    return found


def against_draws(bench: SplitBench, logged: Mapping[str, Sequence[dict]]) -> tuple[list[list[str]], list[str]]:
    """Return the predicted score of what the logged searchers found beside that of random draws with as many split slots."""
    generator, size = np.random.default_rng(0), len(bench.slots)

    def predicted(bits: Sequence[Sequence[int]]) -> float:
        return float(bench.predictor.predict(np.array(bits, float))[0].mean())

    table = []
    for name, rows in logged.items():
        own, drawn = [], []
        for row in rows:
            bits = np.array(list(map(int, row["bits"])))
            own.append(predicted([bits]))
            drawn.append(predicted([bits[generator.permutation(size)] for _ in range(DRAWS)]))
        gains = np.subtract(own, drawn)
        table.append([
            name, str(len(rows)), f"{np.mean([row['bits'].count('1') for row in rows]):.0f}", f"{np.mean(own):.2f}",
            f"{np.mean(drawn):.2f}", " ".join(f"{gain:+.2f}" for gain in gains),
        ])
    return table, ["searcher", "seeds", "split slots", "predicted mAP", f"{DRAWS} draws with as many", "gain of every seed"]


def over_seeds(bench: SplitBench, by_seed: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    """Return the mean regret of what searches found, (seeds, runs), with an interval over the seeds of the search.

    Every regret has the error of the prediction or of the trainings, which the runs share.
    """
    regrets = [[bench.regret(bench.architecture(bits)) for bits in runs] for runs in by_seed]
    means = [float(np.mean([regret.value for regret in runs])) for runs in regrets]
    half = float(np.mean([regret.high - regret.value for runs in regrets for regret in runs]))
    if len(means) > 1:
        half = float(np.hypot(half, stats.t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) / np.sqrt(len(means))))
    return float(np.mean(means)), float(np.mean(means)) - half, float(np.mean(means)) + half


def with_predictor(bench: SplitBench, logged: Mapping[str, Sequence[dict]], runs: int) -> list[Runs]:
    """Return the searchers that ask a supernet's retrieval instead of a training, by supernet.

    A question costs a scoring and no step. All budgets ask all seeds; the losses are brought to the table's spread.
    """
    genes, by_gene = genes_of(bench), dict(zip(genes_of(bench), bench.stage_wise))
    truth = bench.scores.mean(axis=(1, 2))
    found = []
    for what, rows in logged.items():
        rows = [row for row in rows if "stages" in row]
        if not rows:
            continue
        values = [np.array([-row["stages"][gene] for gene in genes]) for row in rows]
        scores = [(each - each.mean()) / each.std() for each in values]
        ranks = [float(stats.kendalltau(each, truth).statistic) for each in scores]
        for name, searcher in SEARCHERS.items():
            bits = []
            for each in scores:
                answers = dict(zip(genes, each.tolist()))
                generators = [np.random.default_rng(run) for run in range(runs)]
                bits.append([by_gene[searcher(answers.__getitem__, genes, QUESTIONS, one).gene] for one in generators])
            found.append(Runs(
                f"{name}, {QUESTIONS} questions to the supernet of \"{what}\"", float(np.mean([row["steps"] for row in rows])),
                float(np.mean([row["processor_seconds"] for row in rows])), [one for each in bits for one in each],
                over_seeds(bench, bits), ranks,
            ))
    return found


# -- do runs agree? -------------------------------------------------------------


def kappa(found: Sequence[str]) -> tuple[float, float, float] | None:
    """Return Fleiss' kappa of architectures, slots drawn anew for the interval; None for fewer than two that differ."""
    if len(set(found)) < 2:
        return None
    bits = np.array([[bit == "1" for bit in each] for each in found], float)
    generator = np.random.default_rng(0)
    drawn = [fleiss(bits[:, generator.integers(bits.shape[1], size=bits.shape[1])]) for _ in range(500)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return fleiss(bits), float(low), float(high)


def fleiss(bits: np.ndarray) -> float:
    """Return Fleiss' kappa of the choices (seeds, slots); NaN where all choices are alike."""
    seeds, split = len(bits), bits.sum(axis=0)
    observed = ((split * (split - 1) + (seeds - split) * (seeds - split - 1)) / (seeds * (seeds - 1))).mean()
    chance = bits.mean() ** 2 + (1 - bits.mean()) ** 2
    return float((observed - chance) / (1 - chance)) if chance < 1 else float("nan")
