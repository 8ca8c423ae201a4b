"""The table of a study: as text, Markdown, LaTeX and CSV."""
from __future__ import annotations

__all__ = ["Table", "study_table"]

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torchreid_nas.metrics.scores import find_score

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "→": r"$\rightarrow$", "×": r"$\times$",
    "α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$",
}


@dataclass(frozen=True)
class Table:
    """Cells of text with a head, and the sentences that belong below them.

    Attributes:
        title: one line.
        headers: of the columns.
        rows: cells; ``""`` where nothing was measured or published.
        notes: sentences.
        numbers: the rows of the CSV file, which holds a mean, a deviation and a number of seeds in a column each.
        below: a second table of the same rows; None where there is none.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    numbers: Sequence[Sequence[str]]
    below: Table | None = None

    def render(self, suffix: str) -> str:
        """Return the table as ``txt``, ``md``, ``tex`` or ``csv``.

        Example:
            >>> print(Table("t", ["row", "mAP"], [["a", "1.0 ± 0.5"]], [], []).render("md"))
            | row   |       mAP |
            |:------|----------:|
            | a     | 1.0 ± 0.5 |
            <BLANKLINE>
        """
        from tabulate import tabulate

        if suffix == "csv":
            file = io.StringIO()
            csv.writer(file, lineterminator="\n").writerows(self.numbers)
            return file.getvalue()
        if suffix == "tex":
            return self._latex() + (f"\n{self.below._latex()}" if self.below else "")
        align = ["left"] + ["right"] * (len(self.headers) - 1)
        style = "pipe" if suffix == "md" else "simple"
        text = tabulate(self.rows, headers=self.headers, tablefmt=style, colalign=align, disable_numparse=True)
        notes = "\n\n".join(self.notes) if suffix == "md" else "\n".join(self.notes)
        head = "" if suffix == "md" else f"{self.title}\n\n"
        further = f"\n{self.below.title}:\n\n{replace(self.below, title='').render(suffix).lstrip()}" if self.below else ""
        return f"{head}{text}\n" + (f"\n{notes}\n" if notes else "") + further

    def _latex(self) -> str:
        lines = [" & ".join(map(_escaped, cells)) + r" \\" for cells in (self.headers, *self.rows)]
        return "\n".join([
            *(f"% {note}" for note in (self.title, *self.notes)),
            rf"\begin{{tabular}}{{l{'r' * (len(self.headers) - 1)}}}", r"\hline", lines[0],
            r"\hline", *lines[1:], r"\hline", r"\end{tabular}", "",
        ])


def study_table(content: Mapping[str, Any]) -> Table:
    """Return the table of a study.

    Args:
        content: of ``study.json``.

    A column is one target, in one column of the study, under one protocol. What the authors published stands in columns of its
    own, whose heads say so.
    """
    cells = {(cell["row"], cell["column"], cell["dataset"]): cell for cell in content["cells"]}
    places = [
        (column, dataset) for column in content["columns"]
        for dataset in dict.fromkeys(cell["dataset"] for cell in content["cells"] if cell["column"] == column)
    ]
    several = len({dataset for _, dataset in places}) > 1 or not any(column for column, _ in places)
    scores = content["shown"]["scores"]
    differences = _differences(content)
    headers = [_row_title(content), "seeds"]
    numbers = [[
        "row", "column", "data set", "protocol", "metric", "mean", "std", "seeds", "authors", "low", "high", "difference",
        "difference low", "difference high", "p",
    ]]
    rows: list[list[str]] = [[row, _seeds(row, cells)] for row in content["rows"]]
    if content["shown"]["size"]:
        headers += ["parameters", "multiply-adds"]
        for name, row in zip(content["rows"], rows):
            row += _size(next((cell for key, cell in cells.items() if key[0] == name), {}))
    for column, dataset in places:
        label = _label(column, dataset, several)
        for score in scores:
            headers.append(f"{label} {find_score(score).title}".strip())
            for name, row in zip(content["rows"], rows):
                row.append(_text(cells.get((name, column, dataset), {}).get("scores", {}).get(score)))
        for score in scores:
            figures = [_published(content, name, column, dataset, score) for name in content["rows"]]
            if any(figure is not None for figure in figures):
                headers.append(f"authors' {label} {find_score(score).title}")
                for row, figure in zip(rows, figures):
                    row.append("" if figure is None else f"{figure:.1f}")
            numbers += [
                [
                    *_numbers(name, column, dataset, score, cells.get((name, column, dataset)), figure),
                    *_spans(cells.get((name, column, dataset)), differences.get((name, column, dataset, score)), score),
                ]
                for name, figure in zip(content["rows"], figures)
            ]
    return Table(content["title"], headers, rows, _notes(content), numbers, _difference_table(content, places, several))


def _row_title(content: Mapping[str, Any]) -> str:
    return str(content["sweep"]) or "row"


def _seeds(row: str, cells: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> str:
    counts = sorted({len(cell["seeds"]) for key, cell in cells.items() if key[0] == row})
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"


def _size(cell: Mapping[str, Any]) -> list[str]:
    return [f"{cell['parameters']:,}", f"{cell['macs'] / 1e6:,.1f} M"] if "macs" in cell else ["", ""]


def _text(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return ""
    deviation = "" if score["std"] is None else f" ± {100 * score['std']:.1f}"
    return f"{100 * score['mean']:.1f}{deviation}" + (f" {_span(score)}" if "low" in score else "")


def _span(found: Mapping[str, Any], sign: str = "") -> str:
    """Return an interval in percent.

    >>> _span({"low": 0.081, "high": 0.22}), _span({"low": -0.01, "high": 0.072}, "+")
    ('[8.1, 22.0]', '[-1.0, +7.2]')
    """
    return f"[{100 * found['low']:{sign}.1f}, {100 * found['high']:{sign}.1f}]"


def _label(column: str, dataset: str, several: bool) -> str:
    return ", ".join(filter(None, (column, dataset if several else "")))


def _differences(content: Mapping[str, Any]) -> dict[tuple[str, str, str, str], Mapping[str, Any]]:
    """Return the differences of the rows from the first one; a record of a study under way has none."""
    return {(one["row"], one["column"], one["dataset"], one["score"]): one for one in content.get("differences", ())}


def _difference_table(
    content: Mapping[str, Any], places: Sequence[tuple[str, str]], several: bool,
) -> Table | None:
    """Return the table of the differences of the rows from the first row, None where none is known."""
    found = _differences(content)
    if not found:
        return None
    columns = [(*place, score) for place in places for score in content["shown"]["scores"]]
    columns = [place for place in columns if any(key[1:] == place for key in found)]
    first, *others = content["rows"]
    rows = [[row, *(_difference(found.get((row, *place))) for place in columns)] for row in others]
    told = [
        f"{row} ({_label(column, dataset, True)} {find_score(score).title})"
        for (row, column, dataset, score), one in found.items() if _is_told(one, content["level"])
    ]
    smallest = [one["smallest"] for one in found.values()]
    notes = [
        f"Brackets: the {100 * content['level']:g} % interval, for other persons and other seeds. p: corrected for the rows of a "
        "column (Holm).",
        f"Told apart from {first}: {'; '.join(told)}." if told else f"No row can be told apart from {first}.",
        f"Differences that these seeds and persons would mostly show: from {100 * min(smallest):.1f} to "
        f"{100 * max(smallest):.1f} points.",
    ]
    heads = [f"{_label(column, dataset, several)} {find_score(score).title}".strip() for column, dataset, score in columns]
    return Table(f"Differences from the row {first}, in points", [_row_title(content), *heads], rows, notes, [])


def _difference(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    points = round(100 * one["difference"], 1) + 0.0  # -0.0 becomes 0.0
    return f"{points:+.1f} {_span(one, '+')}, p = {one['p_value']:.2g}"


def _is_told(one: Mapping[str, Any], level: float) -> bool:
    return bool(one["p_value"] < 1 - level and (one["low"] > 0 or one["high"] < 0))


def _spans(cell: Mapping[str, Any] | None, difference: Mapping[str, Any] | None, score: str) -> list[str]:
    own = (cell or {}).get("scores", {}).get(score, {})
    ends = [f"{100 * own[key]:.4f}" if key in own else "" for key in ("low", "high")]
    if difference is None:
        return [*ends, "", "", "", ""]
    return [*ends, *(f"{100 * difference[key]:.4f}" for key in ("difference", "low", "high")), f"{difference['p_value']:.4g}"]


def _numbers(
    row: str, column: str, dataset: str, score: str, cell: Mapping[str, Any] | None, figure: float | None,
) -> list[str]:
    own = (cell or {}).get("scores", {}).get(score)
    measured = ["", "", "0"] if cell is None or own is None else [
        f"{100 * own['mean']:.4f}", "" if own["std"] is None else f"{100 * own['std']:.4f}", str(len(cell["seeds"])),
    ]
    return [row, column, dataset, (cell or {}).get("protocol", ""), score, *measured, "" if figure is None else f"{figure:g}"]


def _published(content: Mapping[str, Any], row: str, column: str, dataset: str, score: str) -> float | None:
    found = ((content["published"] or {}).get("figures") or {}).get(row, {})
    figure = found.get(column, found.get(dataset, {})).get(score)
    return None if figure is None else float(figure)


def _notes(content: Mapping[str, Any]) -> list[str]:
    notes = []
    if content["cells"]:
        notes.append("Percent: mean ± standard deviation (n - 1) over the seeds of the column seeds.")
        if any("low" in score for cell in content["cells"] for score in cell["scores"].values()):
            notes.append(f"Brackets: the {100 * content['level']:g} % interval of the figure, for other persons and other seeds.")
        protocols = dict.fromkeys(f"{cell['dataset']}: {cell['protocol']}, {cell['feature']}" for cell in content["cells"])
        notes.append(f"Protocols: {'; '.join(protocols)}.")
    if any(cell["generated"] for cell in content["cells"]):
        notes.append("The images are generated: these figures say nothing about a real data set.")
    published = content["published"]
    if published and published["figures"]:
        how = ", ".join(filter(None, (published["protocol"], "generated images" if published["generated"] else "")))
        notes.append(f"Columns of the authors hold their own figures ({published['source']}{'; ' + how if how else ''}).")
    if content["note"]:
        notes.append(" ".join(content["note"].split()))
    failed = [run for run in content["runs"] if run["state"] == "failed"]
    if failed:
        named = "; ".join(", ".join(filter(None, (run["row"], run["column"], f"seed {run['seed']}"))) for run in failed)
        notes.append(f"{len(failed)} of {len(content['runs'])} runs failed and are left out: {named}.")
    seconds = [run["user_seconds"] for run in content["runs"] if run["user_seconds"]]
    if seconds:
        notes.append(f"Cost: {len(seconds)} runs, {sum(seconds) / 60:.1f} minutes of user-CPU time.")
    return notes


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
