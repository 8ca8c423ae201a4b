"""Whether intervals hold what they promise: coverage, false alarms and time of torchreid_nas.evidence, by simulation.

Test sets are drawn from a population whose true mean is known: an identity's queries share a normal variable of their own
(the correlation within identities), and a score is 0 or 1 (a hit) or a number in [0, 1] (an average precision).

    python benchmarks/intervals.py [--sets 1000]
"""
from __future__ import annotations

import argparse
import time

import numpy as np
from harness import add_json, machine
from results import Report
from scipy import stats

from torchreid_nas.evidence import interval, paired_test
from torchreid_nas.evidence.sides import Side, compare_sides

SHAPES = {"SYSU-MM01 (96 identities × 40 queries)": (96, 40), "RegDB (206 × 10)": (206, 10), "small (30 × 6)": (30, 6)}
CORRELATIONS = (0.2, 0.4, 0.6)
# The score of a standard normal variable, and its mean over the population.
SCORES = {
    "hit, 60 %": (lambda z: (z > -stats.norm.ppf(0.6)).astype(float), 0.6),
    "hit, 95 %": (lambda z: (z > -stats.norm.ppf(0.95)).astype(float), 0.95),
    "AP": (lambda z: stats.norm.cdf(z) ** 2, 1 / 3),
}


def draw(shape: tuple[int, int], correlation: float, generator: np.random.Generator) -> np.ndarray:
    """Return (K, n) standard normal variables; those of one identity correlate."""
    own = generator.standard_normal((shape[0], 1))
    return correlation**0.5 * own + (1 - correlation) ** 0.5 * generator.standard_normal(shape)


def coverage(sets: int) -> list[list[str]]:
    """Return rows: how often a 95 % interval holds the true mean, over identities and over queries."""
    generator = np.random.default_rng(0)
    rows = []
    for name, shape in SHAPES.items():
        pids = np.repeat(np.arange(shape[0]), shape[1])
        alone = np.arange(pids.size)
        for correlation in CORRELATIONS:
            for score, (of, mean) in SCORES.items():
                held = np.zeros(2)
                widths = np.zeros(2)
                for test_set in range(sets):
                    values = of(draw(shape, correlation, generator)).ravel()
                    for way, labels in enumerate((pids, alone)):
                        found = interval(values, labels, resamples=1000, seed=test_set)
                        held[way] += found.low <= mean <= found.high
                        widths[way] += found.high - found.low
                shares, width = held / sets, widths[0] / widths[1]
                rows.append([name, f"{correlation}", score, f"{shares[0]:.1%}", f"{shares[1]:.1%}", f"{width:.2f}"])
    return rows


def false_alarms(sets: int) -> list[list[str]]:
    """Return rows: p-values of two alike methods, which should be uniform, on one training and on several."""
    generator = np.random.default_rng(1)
    shape = (96, 40)
    pids = np.repeat(np.arange(shape[0]), shape[1])
    rows = []
    for correlation in CORRELATIONS:
        one, several = [], []
        for test_set in range(sets):
            common = draw(shape, correlation, generator)

            def training(common: np.ndarray = common, correlation: float = correlation) -> np.ndarray:
                # A training shifts all scores a little, and those of each identity on its own.
                noise = 0.15 * generator.standard_normal() + 0.7 * draw(shape, correlation, generator)
                return stats.norm.cdf((common + noise) / 1.25).ravel()

            one.append(paired_test(*(stats.norm.cdf(common + draw(shape, correlation, generator)).ravel() for _ in "ab"),
                                   pids, resamples=999, seed=test_set).p_value)
            sides = [Side(name, np.stack([training() for _ in range(5)])[:, None], pids, tuple(range(first, first + 5)))
                     for name, first in (("a", 1), ("b", 6))]
            several.append(compare_sides(*sides, resamples=200).p_value)
        for name, values in (("one training a side", one), ("five trainings a side", several)):
            below, uniform = np.mean(np.array(values) < 0.05), stats.kstest(values, "uniform").pvalue
            rows.append([f"{correlation}", name, f"{below:.1%}", f"{uniform:.3f}"])
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=1000, help="simulated test sets per row")
    add_json(parser)
    options = parser.parse_args()
    sets = options.sets
    with Report(machine(), options.json) as report:
        headers = ["test set", "correlation", "score", "over identities", "over queries", "width, identities : queries"]
        title = f"Coverage of the 95 % interval over {sets} test sets (1,000 resamples each)"
        report.table(coverage(sets), headers, title)
        headers = ["correlation", "", "p below 0.05", "Kolmogorov-Smirnov p"]
        title = f"Two alike methods, {sets} test sets of 96 × 40: p-values should be uniform"
        report.table(false_alarms(sets), headers, title)
        generator = np.random.default_rng(2)
        pids, values = np.repeat(np.arange(96), 40)[:3803], generator.random(3803)
        start = time.perf_counter()
        interval(values, pids)
        report.text(f"10,000 resamples of SYSU-MM01's size: {time.perf_counter() - start:.3f} s.")


if __name__ == "__main__":
    main()
