"""A comparison in words and tables: what can be told comes before the numbers."""
from __future__ import annotations

__all__ = ["as_markdown", "as_text", "sentence"]

from collections.abc import Sequence

from tabulate import tabulate

from torchreid_nas.evidence.comparing import Compared, Table
from torchreid_nas.evidence.sides import Comparison, Estimate
from torchreid_nas.metrics.scores import find_score

GENERATED = "The images are generated: nothing here says anything about a real data set."


def sentence(comparison: Comparison, score: str, level: float) -> str:
    """Return what a comparison shows, in words.

    Examples:
        >>> found = Comparison("split", "shared", 0.031, 0.012, 0.05, 0.004, 0.027, True, 60, 31, 5)
        >>> print(sentence(found, "Rank-1", 0.95))
        split is better than shared by 1.2 to 5.0 points of Rank-1 (95 % interval, p = 0.004).
        >>> import dataclasses
        >>> print(sentence(dataclasses.replace(found, p_value=0.2), "Rank-1", 0.95))
        split against shared: no difference of Rank-1 can be told (p = 0.20); one of 2.7 points or more would mostly show.
        >>> print(sentence(Comparison("split", "shared", 0.0, 0.0, 0.0, 1.0, 0.0, True, 0, 0, 96), "Rank-1", 0.95))
        split and shared are alike: their Rank-1 is the same for every identity.
    """
    p = f"p = {comparison.p_value:.3f}" if comparison.p_value < 0.1 else f"p = {comparison.p_value:.2f}"
    if comparison.p_value < 0.0005:
        p = "p < 0.001"
    outside = comparison.low > 0 or comparison.high < 0
    if comparison.difference == comparison.low == comparison.high == 0:
        said = f"{comparison.a} and {comparison.b} are alike: their {score} is the same for every identity."
    elif comparison.p_value >= 1 - level or not outside:
        said = f"{comparison.a} against {comparison.b}: no difference of {score} can be told ({p})"
        if comparison.smallest > 0:
            said += f"; one of {100 * comparison.smallest:.1f} points or more would mostly show"
        said += "."
    else:
        better, worse = (comparison.a, comparison.b) if comparison.difference > 0 else (comparison.b, comparison.a)
        low, high = sorted((abs(comparison.low), abs(comparison.high)))
        said = (
            f"{better} is better than {worse} by {100 * low:.1f} to {100 * high:.1f} points of {score} "
            f"({100 * level:g} % interval, {p})."
        )
    if not comparison.replicated:
        said += " One run on a side: this speaks of these two networks and says nothing about the method."
    return said


def as_text(compared: Compared) -> str:
    """Return the comparison for a terminal."""
    return "\n".join(_lines(compared, "simple"))


def as_markdown(compared: Compared) -> str:
    """Return the comparison as Markdown."""
    return "\n".join(["# Comparison of runs", "", *_lines(compared, "github")]) + "\n"


def _lines(compared: Compared, style: str) -> list[str]:
    lines = [GENERATED, ""] if compared.generated else []
    for method in compared.methods:
        seeds = ", ".join(str(seed) for seed in dict.fromkeys(run.seed for run in method.runs))
        splits = f"; splits {', '.join(map(str, method.splits))}" if len(method.splits) > 1 else ""
        lines.append(f"- {method.name}: {len(method.runs)} run{'s' if len(method.runs) > 1 else ''} (seed {seeds}{splits})")
    for table in compared.tables:
        title = find_score(table.score).title
        under = "" if table.protocol in table.dataset else f" ({table.protocol})"
        lines += ["", f"{'## ' if style == 'github' else '== '}{table.dataset}, {table.feature}, {title}{under}"]
        lines += [""] * bool(table.comparisons)
        lines += [f"- {sentence(comparison, title, compared.level)}" for comparison in table.comparisons]
        if len(table.comparisons) > 1:
            lines.append(f"- (p-values are corrected for {len(table.comparisons)} comparisons, by Holm.)")
        lines += ["", _estimates(table, compared.level, style)]
        if table.comparisons:
            lines += ["", _differences(table.comparisons, _unit(table), compared.level, style)]
        lines += _changed(table)
    return lines


def _estimates(table: Table, level: float, style: str) -> str:
    rows = [
        [name, f"{100 * found.mean:.2f}", _span(found.low, found.high), _shares(found)] for name, found in table.estimates.items()
    ]
    headers = ["method", find_score(table.score).title, f"{100 * level:g} % interval", "variance by"]
    return tabulate(rows, headers=headers, tablefmt=style, disable_numparse=True, colalign=("left", "right", "right", "left"))


def _differences(comparisons: Sequence[Comparison], unit: str, level: float, style: str) -> str:
    rows = [
        [f"{c.a} − {c.b}", f"{100 * c.difference:+.2f}", _span(c.low, c.high, "+"), f"{c.p_value:.4f}", f"{100 * c.smallest:.2f}",
         f"{c.wins} / {c.losses} / {c.ties}"]
        for c in comparisons
    ]
    headers = [
        "difference", "points", f"{100 * level:g} % interval", "p", "smallest that shows", f"{unit} better / worse / alike",
    ]
    return tabulate(rows, headers=headers, tablefmt=style, disable_numparse=True, colalign=("left", *["right"] * 5))


def _unit(table: Table) -> str:
    """Return what wins are counted in."""
    return "splits" if any("split" in found.shares for found in table.estimates.values()) else "identities"


def _changed(table: Table) -> list[str]:
    """Return the identities that changed most, once per pair: with the metric that the changes are measured by."""
    if table.score != "mAP":
        return []
    lines = []
    for (a, b), found in table.identities.items():
        # Less than half a point would be shown as +0 or -0.
        told = ", ".join(f"{pid} ({100 * difference:+.0f})" for pid, difference in found if abs(difference) >= 0.005)
        if told:
            lines += ["", f"Identities that changed most, {a} − {b}, points of mAP: {told}"]
    return lines


def _span(low: float, high: float, sign: str = "") -> str:
    return f"{100 * low:{sign}.2f} to {100 * high:{sign}.2f}"


def _shares(found: Estimate) -> str:
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in found.shares.items())
