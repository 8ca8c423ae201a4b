"""Published figures by protocol, and tables of figures that do not compare."""
from __future__ import annotations

__all__ = ["Figure", "Finding", "lint_table", "published_beside", "published_figures", "published_table", "read_table"]

import csv
import dataclasses
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.metrics.protocols import PROTOCOLS
from torchreid_nas.metrics.scores import row_scores

_PUBLISHED = Path(__file__).resolve().parent / "published.csv"
_TEN_TRIALS = {
    "regdb": "RegDB visible to infrared, ten trials", "regdb_ir2vis": "RegDB infrared to visible, ten trials",
}
_REQUIRED = ("method", "dataset", "protocol", "rank1", "mAP", "source")


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row of a table of figures.

    Attributes:
        line: number of the row in its file, from 1 for the first row below the header.
        method: what was tested.
        dataset: name of the target, as torchreid and this package spell it.
        protocol: how it was tested.
        rank1, mAP: in percent.
        source: paper, repository or run.
        note: what a reader should know besides.
        trained_on: name of the data set that the network was trained on; ``""`` for the training part of ``dataset``.
    """

    line: int
    method: str
    dataset: str
    protocol: str
    rank1: float
    mAP: float
    source: str
    note: str = ""
    trained_on: str = ""


@dataclasses.dataclass(frozen=True)
class Finding:
    """Why a row does not compare with the others.

    Attributes:
        line: number of the row.
        method: of the row.
        said: the reason, one sentence.
    """

    line: int
    method: str
    said: str


@cache
def published_figures() -> tuple[Figure, ...]:
    """Return the figures that ship with the package, each with its protocol and source.

    Examples:
        >>> [figure.rank1 for figure in published_figures() if figure.method == "CM-NAS" and figure.dataset == "sysu_mm01"]
        [61.99]
    """
    return tuple(read_table(_PUBLISHED))


def read_table(path: str | os.PathLike[str]) -> list[Figure]:
    """Return the rows of a CSV file: method, dataset, protocol, rank1, mAP, source and, if there are any, note and trained_on.

    Raises:
        InputError: the file cannot be read, lacks a column, or a figure is no number.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f'the table "{path}" cannot be read ({error.strerror}); name a CSV file') from error
    except UnicodeDecodeError as error:
        raise InputError(f'the table "{path}" is not UTF-8; save it as UTF-8') from error
    reader = csv.DictReader(io.StringIO(text))
    columns = [name.strip() for name in reader.fieldnames or ()]
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise InputError(f'the table "{path}" has no column "{missing[0]}"; expected {", ".join(_REQUIRED)} in the first line')
    figures = []
    try:
        for line, row in enumerate(reader, 1):
            cells = {name.strip(): (value or "").strip() for name, value in row.items() if isinstance(name, str)}
            figures.append(Figure(
                line, cells["method"], cells["dataset"], cells["protocol"], _percent(path, line, "rank1", cells["rank1"]),
                _percent(path, line, "mAP", cells["mAP"]), cells["source"], cells.get("note", ""), cells.get("trained_on", ""),
            ))
    except csv.Error as error:
        raise InputError(f'the table "{path}" is no CSV ({error}); save it as CSV with a header line') from error
    if not figures:
        raise InputError(f'the table "{path}" has no rows; expected one per method')
    return figures


def published_beside(row: Mapping[str, Any], sources: Sequence[str] | None = None) -> list[Figure]:
    """Return the published figures that an entry of ``results.json`` compares with: same data set, protocol and training data.

    A single split of RegDB compares with none: the published figures are means over ten.

    Args:
        row: the entry.
        sources: data sets that the network was trained on; None where that is not known, which counts as the data set's own.

    Examples:
        >>> row = {"dataset": "market1501", "protocol": "market1501", "num_trials": 1}
        >>> [figure.method for figure in published_beside(row)]
        ['CNet from scratch', 'CDNet from scratch', 'CDNet pretrained', 'OSNet x1.0 pretrained']
        >>> published_beside({"dataset": "regdb", "protocol": "RegDB split_id 0", "num_trials": 1})
        []
    """
    protocol = row["protocol"]
    if protocol == row["dataset"]:
        protocol = "Market-1501"
    elif protocol == "mean over trials" and row["num_trials"] == 10:
        protocol = _TEN_TRIALS.get(row["dataset"], "")
    # A setting of SYSU-MM01 is known by its protocol, whichever data set of the registry it was tested on.
    dataset = row["dataset"].removesuffix("_indoor")
    return [
        figure for figure in published_figures()
        if (figure.dataset.removesuffix("_indoor"), figure.protocol) == (dataset, protocol)
        and (list(sources or ()) == [figure.trained_on] if figure.trained_on else _trained_on(row["dataset"], sources))
    ]


def published_table(results: Mapping[str, Any]) -> str:
    """Return what is published under the protocols of a run, beside what the run measured; ``""`` where nothing is.

    Args:
        results: the content of ``results.json``. The last feature of a data set is the one that is compared. Nothing is
            compared with a network that was trained on other data, whose figures are of another kind.
    """
    from tabulate import tabulate

    if results.get("data", {}).get("synthetic"):
        return "The images are generated: nothing that is published compares with these figures."
    last = {(row["dataset"], row["protocol"]): row for row in results["results"] if "variant" not in row}
    sources = results.get("data", {}).get("sources")
    tables: dict[str, list[list[str]]] = {}
    for row in [ways for one in last.values() for ways in _by_integration(one)]:
        figures = published_beside(row, sources)
        if figures:
            scores = row_scores(row)
            lines = tables.setdefault(figures[0].protocol, [])
            lines.append([row["dataset"], "measured here", f"{100 * scores['rank1']:.2f}", f"{100 * scores['mAP']:.2f}", "", ""])
            lines += [["", f.method, f"{f.rank1:.2f}", f"{f.mAP:.2f}", f.source, f.note] for f in figures]
    align = ("left", "left", "right", "right", "left", "left")
    return "\n\n".join(
        tabulate(
            lines, headers=["data set", f"published under {protocol}", "Rank-1", "mAP", "source", "note"], disable_numparse=True,
            colalign=align,
        )
        for protocol, lines in tables.items()
    )


def _by_integration(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return an entry, and where it also has the mAP by trapezoid, the entry of the protocol that integrates so."""
    if "mAP_trapezoid" not in row or row["protocol"] != row["dataset"]:
        return [row]
    label = PROTOCOLS["market1501_trapezoid"].label
    return [row, {**row, "mAP": row["mAP_trapezoid"], "protocol": label}]


def _trained_on(target: str, sources: Sequence[str] | None) -> bool:
    """Return whether a network was trained on a target, or on another test of the same images; True where it is not known."""
    if sources is None or target in sources:
        return True
    from torchreid_nas.data import dataset_facts

    try:
        layout = dataset_facts(target).stand_in
        return bool(layout) and layout in {dataset_facts(name).stand_in for name in sources}
    except InputError:  # A data set of an extension that is not registered here: other data.
        return False


def lint_table(figures: Sequence[Figure]) -> list[Finding]:
    """Return what keeps rows of a table from being compared, in the order of the rows.

    Rows compare within one data set and protocol. Named are: another protocol than most rows of the data set, a protocol that
    nothing is published under, figures that are published under another protocol or for the other direction, fractions among
    percents, and rows without a source.

    Examples:
        >>> rows = [Figure(1, "ours", "sysu_mm01", "SYSU-MM01 all-search, 1-shot, random galleries", 60.1, 58.0, "run"),
        ...         Figure(2, "CAJ", "sysu_mm01", "SYSU-MM01 all-search, 1-shot, random galleries", 69.88, 66.89, "")]
        >>> for finding in lint_table(rows):
        ...     print(finding.line, finding.said)
        2 the row names no source; say where its figures come from
        2 69.88 / 66.89 is published for CAJ under "SYSU-MM01 all-search, 1-shot, random galleries, flipped"
    """
    known = published_figures()
    protocols = {figure.protocol for figure in known}
    usual: dict[str, str] = {}
    for dataset in {figure.dataset for figure in figures}:
        counts = Counter(figure.protocol for figure in figures if figure.dataset == dataset)
        most = max(counts.values())
        # Of two protocols that are equally frequent the first row's is the table's.
        usual[dataset] = next(f.protocol for f in figures if f.dataset == dataset and counts[f.protocol] == most)
    return [
        Finding(figure.line, figure.method, said)
        for figure in figures for said in _reasons(figure, usual[figure.dataset], protocols, known)
    ]


def _reasons(figure: Figure, usual: str, protocols: set[str], known: Sequence[Figure]) -> list[str]:
    said = []
    if not figure.source:
        said.append("the row names no source; say where its figures come from")
    if not figure.protocol:
        said.append("the row names no protocol; say how it was tested")
    elif figure.protocol != usual:
        said.append(f'the protocol is "{figure.protocol}", most rows of {figure.dataset} have "{usual}"; put it in another table')
    elif figure.protocol not in protocols:
        said.append(f'nothing is published under "{figure.protocol}"{nearest(figure.protocol, protocols)}')
    if 0 < figure.rank1 <= 1 and 0 < figure.mAP <= 1:
        said.append(f"{figure.rank1:g} / {figure.mAP:g} look like fractions; the other rows are percent")
    twins = [other for other in known if (other.rank1, other.mAP) == (figure.rank1, figure.mAP)]
    if twins and not any(other.protocol == figure.protocol and other.dataset == figure.dataset for other in twins):
        other = twins[0]
        where = f'under "{other.protocol}"' if other.protocol != figure.protocol else f"on {other.dataset}"
        said.append(f"{figure.rank1:.2f} / {figure.mAP:.2f} is published for {other.method} {where}")
    return said


def _percent(path: str | os.PathLike[str], line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 100:
        raise InputError(f'row {line} of the table "{path}" has {column} "{text}", expected percent between 0 and 100')
    return value
