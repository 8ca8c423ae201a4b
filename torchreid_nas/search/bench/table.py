"""The file of a tabular benchmark: one line per training, with the scores of every test identity.

The first line is a JSON object behind ``# ``: what was trained (:class:`Table`). The second line names the columns. Then
every line is a training:

- ``kind``, ``architecture`` (a character per slot, 1 for split), ``seed``, ``steps``, ``seconds``;
- ``rank1_v2i``, ``rank1_i2v``, ``mAP_v2i``, ``mAP_i2v``: percent, the means of what follows;
- ``hits_v2i``, ``hits_i2v``: a digit per test identity, the number of its queries whose nearest image is right;
- ``ap_v2i``, ``ap_i2v``: two characters per test identity, the mean of the average precisions of its queries in tenths of
  percent, in base 36.
"""
from __future__ import annotations

__all__ = ["DIRECTIONS", "Row", "Table", "read_table", "write_table"]

import csv
import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from torchreid_nas.errors import InputError, shown
from torchreid_nas.files import write_text

DIRECTIONS = ("v2i", "i2v")
"""Visible → infrared and infrared → visible, in the order of every array."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_VALUE = {digit: value for value, digit in enumerate(_DIGITS)}
_MEANS = tuple(f"{score}_{direction}" for score in ("rank1", "mAP") for direction in DIRECTIONS)
_IDENTITIES = tuple(f"{score}_{direction}" for score in ("hits", "ap") for direction in DIRECTIONS)
_COLUMNS = ("kind", "architecture", "seed", "steps", "seconds", *_MEANS, *_IDENTITIES)
_WAY_OUT = "restore the file, or make the table again with benchmarks/bn_split_bench"
# Half of the last digit of a mean, and what the rounding of the average precisions may add.
_TOLERANCE = 0.005 + 0.05


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """One training.

    Attributes:
        kind: ``"stages"`` (whole stages split), ``"slots"`` (drawn slots split), ``"standardised"`` (all shared, the input
            standardised per modality) or ``"long-N"`` (a training of N steps after ``steps`` of them).
        bits: a character per slot, ``"1"`` for split, ``"0"`` for shared.
        seed: of the training.
        steps: of the optimiser.
        seconds: of training and test on the machine of the table.
        hits: (2, K) share of the queries of an identity whose nearest image is right, by direction.
        ap: (2, K) mean average precision of the queries of an identity, by direction.
    """

    kind: str
    bits: str
    seed: int
    steps: int
    seconds: float
    hits: npt.NDArray[np.float64]
    ap: npt.NDArray[np.float64]

    def identities(self, score: str) -> npt.NDArray[np.float64]:
        """Return ``"mAP"`` or ``"rank1"`` of every identity in percent, (K,), the mean of both directions."""
        values: npt.NDArray[np.float64] = 100 * (self.ap if score == "mAP" else self.hits).mean(axis=0)
        return values


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """All trainings of one start on one set of persons.

    Attributes:
        facts: what was trained, for the reader: network, start, data, machine, hours.
        slots: names of the slots, in the order of the bits.
        queries: queries per identity and direction.
        rows: the trainings.
    """

    facts: Mapping[str, str]
    slots: Sequence[str]
    queries: int
    rows: Sequence[Row]


def write_table(table: Table, path: str | os.PathLike[str]) -> None:
    """Write a table, whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    text = io.StringIO()
    head = {"facts": dict(table.facts), "slots": list(table.slots), "queries": table.queries}
    text.write(f"# {json.dumps(head, ensure_ascii=False)}\n")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(_COLUMNS)
    for row in table.rows:
        hits = np.rint(row.hits * table.queries).astype(int)
        tenths = np.rint(row.ap * 1000).astype(int)
        means = 100 * np.concatenate([row.hits.mean(axis=1), row.ap.mean(axis=1)])
        lines.writerow([
            row.kind, row.bits, row.seed, row.steps, f"{row.seconds:.1f}", *(f"{mean:.2f}" for mean in means),
            *("".join(map(str, side)) for side in hits),
            *("".join(_DIGITS[value // 36] + _DIGITS[value % 36] for value in side) for side in tenths),
        ])
    write_text(path, text.getvalue())


def read_table(path: str | os.PathLike[str]) -> Table:
    """Read a table; average precisions are exact to 0.05 percent.

    Raises:
        InputError: the file is missing or damaged: the line is named.

    Example:
        >>> import tempfile
        >>> row = Row("stages", "01", 1, 128, 17.0, np.array([[0.5, 0.0], [1.0, 0.5]]), np.array([[0.4, 0.1], [0.6, 0.35]]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_table(Table({"network": "tiny"}, ("bn1", "bn2"), 2, [row]), f"{folder}/table.csv")
        ...     read_table(f"{folder}/table.csv").rows[0].identities("mAP")
        array([50. , 22.5])
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no text"
        raise InputError(f'the table "{path}" cannot be read ({reason}); {_WAY_OUT}') from error
    head, _, body = text.partition("\n")
    try:
        facts = json.loads(head.removeprefix("# "))
        slots, queries = [str(slot) for slot in facts["slots"]], int(facts["queries"])
        known = {str(key): str(value) for key, value in facts["facts"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f'the table "{path}" does not begin with its facts, slots and queries; {_WAY_OUT}') from error
    lines = csv.DictReader(io.StringIO(body))
    if tuple(lines.fieldnames or ()) != _COLUMNS:
        raise InputError(f'the table "{path}" lacks the columns {", ".join(_COLUMNS[:3])}, … in its second line; {_WAY_OUT}')
    rows = []
    for number, line in enumerate(lines, start=3):
        try:
            rows.append(_row(line, len(slots), queries))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f'the table "{path}" is damaged in line {number} ({shown(error)}); {_WAY_OUT}') from error
    if not rows or len({row.hits.shape for row in rows}) > 1:
        raise InputError(f'the table "{path}" holds no training, or trainings with other numbers of identities; {_WAY_OUT}')
    return Table(known, slots, queries, rows)


def _row(line: Mapping[str, Any], slots: int, queries: int) -> Row:
    """Return what a line says.

    Raises:
        ValueError, TypeError, KeyError: it is no line of a training.
    """
    bits = line["architecture"]
    if len(bits) != slots or set(bits) - {"0", "1"}:
        raise ValueError(f"architecture is {shown(bits)}, expected {slots} characters 0 or 1")
    hits = np.array([[int(digit) for digit in line[f"hits_{direction}"]] for direction in DIRECTIONS], float) / queries
    ap = np.array([_from_base_36(line[f"ap_{direction}"]) for direction in DIRECTIONS], float) / 1000
    means = 100 * np.concatenate([hits.mean(axis=1), ap.mean(axis=1)])
    for name, mean in zip(_MEANS, means):
        if not abs(float(line[name]) - mean) <= _TOLERANCE:
            raise ValueError(f"{name} is {line[name]}, its identities give {mean:.2f}")
    if hits.shape != ap.shape or hits.max() > 1 or ap.max() > 1:
        raise ValueError("the scores of identities are out of range")
    return Row(line["kind"], bits, int(line["seed"]), int(line["steps"]), float(line["seconds"]), hits, ap)


def _from_base_36(text: str) -> list[int]:
    return [36 * _VALUE[first] + _VALUE[second] for first, second in zip(text[::2], text[1::2])]
