"""A study as its file describes it: rows, columns, seeds, what is shown, and what the authors published beside it."""
from __future__ import annotations

__all__ = ["Column", "Published", "Row", "Shown", "Study", "find_study", "read_study", "shipped_studies"]

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from torchreid_nas.config import KEYS, flatten
from torchreid_nas.config.shipped import config_summary, shipped_files
from torchreid_nas.errors import InputError, nearest, shown
from torchreid_nas.metrics.scores import find_score

FIGURES = ("bars", "curve", "pareto")
_STUDY_KEYS = (
    "title", "paper", "note", "config", "set", "over", "seeds", "rows", "sweep", "columns", "table", "figure", "published",
    "small",
)
_COLUMN_KEYS = ("config", "set", "small")
_SMALL_KEYS = ("config", "set", "note")
_SMALL_COLUMN_KEYS = ("config", "set")
_TABLE_KEYS = ("datasets", "feature", "scores", "size")
_SWEEP_KEYS = ("key", "values")
_PUBLISHED_KEYS = ("source", "protocol", "generated", "figures")


@dataclass(frozen=True)
class Row:
    """One row of the table: what it changes, and which runs it averages for each seed.

    Attributes:
        name: as the table shows it.
        set: values by config key. ``model.architecture`` may also be ``architecture of ROW``, ``first-k of ROW`` or
            ``last-k of ROW``, with `` in COLUMN`` where the architecture of another column is meant.
        over: a key with the values whose runs are averaged for each seed: RegDB's splits, or random architectures.
    """

    name: str
    set: Mapping[str, Any]
    over: tuple[str, tuple[Any, ...]] | None = None


@dataclass(frozen=True)
class Column:
    """One column of runs: a data set, a backbone, a direction.

    Attributes:
        name: as the table shows it; ``""`` where the study has no columns.
        config: a shipped config or a file; ``""`` is the study's.
        set: values by config key.
    """

    name: str
    config: str = ""
    set: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """Which figures of the runs the table shows.

    Attributes:
        datasets: targets; empty for all.
        feature: ``""`` for the last feature of each target, the one that counts.
        scores: names of metrics.
        size: parameters and multiply-adds of the network at test time beside them.
    """

    datasets: tuple[str, ...] = ()
    feature: str = ""
    scores: tuple[str, ...] = ("rank1", "mAP")
    size: bool = False


@dataclass(frozen=True)
class Published:
    """What the authors published, in percent.

    Attributes:
        source: paper or repository.
        protocol: how the authors tested, as far as it is known.
        generated: whether the authors' images are generated.
        figures: by row and, within, by column or target: percent by metric.
    """

    source: str
    protocol: str
    generated: bool
    figures: Mapping[str, Mapping[str, Mapping[str, float]]]

    def of(self, row: str, column: str, dataset: str, score: str) -> float | None:
        """Return the figure of a cell in percent, None where none is published."""
        found = self.figures.get(row, {})
        return found.get(column, found.get(dataset, {})).get(score)


@dataclass(frozen=True)
class Study:
    """A grid of runs.

    Attributes:
        name: of the file, without its suffix.
        title: one line.
        paper: whose study it is.
        note: what a reader must know of the table.
        config: the config of columns that name none.
        set: values by config key, for all runs.
        seeds: values of ``train.seed``.
        rows: in the order of the table.
        columns: in the order of the table; one without a name where the study has no columns.
        shown: see :class:`Shown`.
        figure: ``"bars"``, ``"curve"`` over :attr:`sweep`, or ``"pareto"`` over the multiply-adds.
        sweep: the key whose values are the rows, ``""`` where the rows are others.
        published: see :class:`Published`; None where nothing is published.
    """

    name: str
    title: str
    paper: str
    note: str
    config: str
    set: Mapping[str, Any]
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    shown: Shown = Shown()
    figure: str = "bars"
    sweep: str = ""
    published: Published | None = None

    def part(self, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> Study:
        """Return the study with some of its rows and columns alone.

        Args:
            rows: names; empty for all.
            columns: names; empty for all.

        Raises:
            InputError: the study has no row or column of a name.

        Example:
            >>> [row.name for row in read_study("c3mmd_terms").part(["both", "none"]).rows]
            ['none', 'both']
        """
        for what, names, own in (("row", rows, self.rows), ("column", columns, self.columns)):
            known = [one.name for one in own]
            for name in names:
                if name not in known:
                    raise InputError(
                        f'the study "{self.name}" has no {what} "{shown(name)}", expected {"; ".join(known)}'
                        f"{nearest(name, known)}"
                    )
        return replace(
            self, rows=tuple(row for row in self.rows if not rows or row.name in rows),
            columns=tuple(column for column in self.columns if not columns or column.name in columns),
        )


def shipped_studies() -> dict[str, Path]:
    """Return the files of the shipped studies by name.

    Example:
        >>> shipped_studies()["ecn_k"].name
        'ecn_k.yaml'
    """
    return shipped_files("studies")


def find_study(name: str | os.PathLike[str]) -> Path:
    """Return the file of a study.

    Args:
        name: the path of a YAML file, or the name of a shipped study.

    Raises:
        InputError: there is neither; the nearest name is given.

    Example:
        >>> find_study("ecn_k") == shipped_studies()["ecn_k"]
        True
    """
    path = Path(name)
    if os.path.isfile(path):  # noqa: PTH113  # Path raises for names that no file system takes
        return path
    known = shipped_studies()
    stem = path.stem if path.suffix in (".yaml", ".yml") else path.name
    if path.name == str(path) and stem in known:
        return known[stem]
    raise InputError(
        f'the study "{shown(name)}" is neither a file nor the name of a shipped study; `torchreid-nas study list` lists the '
        f"names{nearest(stem, known)}"
    )


def read_study(name: str | os.PathLike[str], small: bool = False) -> Study:
    """Return the study of a file, checked.

    Args:
        name: see :func:`find_study`.
        small: the small form of the study, on generated images.

    Raises:
        InputError: there is no such study, the file is no YAML, a key is unknown, a value is of another kind, or a small
            form is asked for and there is none.

    Example:
        >>> [row.name for row in read_study("c3mmd_terms").rows]
        ['none', 'correlation', 'MMD', 'both']
    """
    path = find_study(name)
    content = _mapping(_read(path), _STUDY_KEYS, f'the study "{path}"')
    origin = f'the study "{path}"'
    common = _settings(content.get("set"), f"{origin}, set")
    own = _mapping(content.get("small"), _SMALL_KEYS, f"{origin}, small")
    if small:
        if not own:
            raise InputError(f"{origin} has no small form; give it a section small, or leave --small out")
        common = {**common, **_settings(own.get("set"), f"{origin}, small.set")}
    notes = [str(part.get("note", "")).strip() for part in (content, own if small else {})]
    config = (str(own.get("config", "")) if small else "") or str(content.get("config", ""))
    columns = _columns(content.get("columns"), small, origin)
    if not config and not all(column.config for column in columns):
        raise InputError(f"{origin} names no config; give it config NAME, or one to every column")
    sweep = _mapping(content.get("sweep"), _SWEEP_KEYS, f"{origin}, sweep")
    over = _over(content.get("over"), f"{origin}, over")
    rows = [*_rows(content.get("rows"), over, origin), *_swept(sweep, over, origin)]
    if not rows:
        raise InputError(f"{origin} has no rows; give it rows, or a sweep with key and values")
    figure = str(content.get("figure", "curve" if sweep else "bars"))
    if figure not in FIGURES:
        raise InputError(
            f'{origin} sets figure to "{shown(figure)}", expected one of {", ".join(FIGURES)}{nearest(figure, FIGURES)}'
        )
    if figure == "curve" and not sweep:
        raise InputError(f"{origin} sets figure to curve and has no sweep to draw it over; give it a sweep, or figure bars")
    return Study(
        path.stem, str(content.get("title") or config_summary(path) or path.stem), str(content.get("paper", "")),
        " ".join(filter(None, notes)), config, common, _seeds(content.get("seeds", [1, 2, 3]), origin), tuple(rows),
        columns, _shown(content.get("table"), origin), figure, str(sweep.get("key", "")),
        _published(content.get("published"), [row.name for row in rows], origin),
    )


def _read(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f'the study "{path}" cannot be read ({error.strerror}); name another file') from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f'the study "{path}"{where} is not valid YAML; mend the file') from error


def _mapping(content: Any, known: Sequence[str], origin: str) -> dict[str, Any]:
    """Return a section of the file, whose keys are all known; empty where there is none."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{origin} is {shown(repr(content), 80)}, expected keys of {', '.join(known)}")
    for key in content:
        if key not in known:
            raise InputError(
                f'{origin} has the unknown key "{shown(key)}", expected one of {", ".join(known)}{nearest(str(key), known)}'
            )
    return content


def _settings(content: Any, origin: str) -> dict[str, Any]:
    """Return values by config key, the keys known; the values are checked with the config that they change."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{origin} is {shown(repr(content), 80)}, expected config keys such as train.lr: 0.02")
    settings = {str(name): value for name, value in flatten(content)}
    for name in settings:
        if name not in KEYS:
            raise InputError(f'{origin} has the unknown key "{shown(name)}"{nearest(name, KEYS)}')
    return settings


def _columns(content: Any, small: bool, origin: str) -> tuple[Column, ...]:
    if content is None:
        return (Column(""),)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{origin} sets columns to {shown(repr(content), 80)}, expected names with config and set")
    columns = []
    for name, given in content.items():
        where = f'{origin}, column "{shown(name)}"'
        own = _mapping(given, _COLUMN_KEYS, where)
        little = _mapping(own.get("small"), _SMALL_COLUMN_KEYS, f"{where}, small") if small else {}
        columns.append(Column(
            str(name), str(little.get("config", "" if small else own.get("config", ""))),
            {**_settings(own.get("set"), f"{where}, set"), **_settings(little.get("set"), f"{where}, small.set")},
        ))
    return tuple(columns)


def _over(content: Any, origin: str) -> tuple[str, tuple[Any, ...]] | None:
    if content is None:
        return None
    ((key, values), *more) = _settings(content, origin).items() or [("", None)]
    if more or not isinstance(values, list) or not values:
        raise InputError(f"{origin} is {shown(repr(content), 80)}, expected one config key with a list of values")
    return key, tuple(values)


def _rows(content: Any, over: tuple[str, tuple[Any, ...]] | None, origin: str) -> list[Row]:
    if content is None:
        return []
    if not isinstance(content, dict):
        raise InputError(f"{origin} sets rows to {shown(repr(content), 80)}, expected names with config keys")
    rows = []
    for name, given in content.items():
        where = f'{origin}, row "{shown(name)}"'
        if given is not None and not isinstance(given, dict):
            raise InputError(f"{where} is {shown(repr(given), 80)}, expected config keys such as train.lr: 0.02")
        settings = dict(given or {})
        own = _over(settings.pop("over", None), f"{where}, over")
        rows.append(Row(str(name), _settings(settings, where), own or over))
    return rows


def _swept(sweep: Mapping[str, Any], over: tuple[str, tuple[Any, ...]] | None, origin: str) -> list[Row]:
    if not sweep:
        return []
    key, values = sweep.get("key"), sweep.get("values")
    if key not in KEYS:
        raise InputError(f'{origin}, sweep has the unknown config key "{shown(key)}"{nearest(str(key), KEYS)}')
    if not isinstance(values, list) or len(values) < 2 or not all(type(value) in (int, float) for value in values):
        raise InputError(f"{origin}, sweep has the values {shown(repr(values), 80)}, expected a list of at least two numbers")
    return [Row(f"{value:g}", {key: value}, over) for value in values]


def _seeds(content: Any, origin: str) -> tuple[int, ...]:
    seeds = content if isinstance(content, list) else [content]
    if not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise InputError(f"{origin} sets seeds to {shown(repr(content), 80)}, expected different whole numbers such as [1, 2, 3]")
    return tuple(seeds)


def _shown(content: Any, origin: str) -> Shown:
    table = _mapping(content, _TABLE_KEYS, f"{origin}, table")
    scores = tuple(map(str, table.get("scores", ("rank1", "mAP"))))
    for name in scores:
        find_score(name)
    datasets = tuple(map(str, table.get("datasets", ())))
    return Shown(datasets, str(table.get("feature", "")), scores, bool(table.get("size", False)))


def _published(content: Any, rows: Sequence[str], origin: str) -> Published | None:
    own = _mapping(content, _PUBLISHED_KEYS, f"{origin}, published")
    if not own:
        return None
    if not own.get("source"):
        raise InputError(f"{origin}, published names no source; say where its figures come from")
    figures = own.get("figures") or {}
    try:
        read = {
            str(row): {
                str(place): {find_score(str(name)).name: float(value) for name, value in scores.items()}
                for place, scores in places.items()
            }
            for row, places in figures.items()
        }
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"{origin}, published.figures is not row: {{column or data set: {{metric: percent}}}}; mend the file"
        ) from error
    for row in read:
        if row not in rows:
            raise InputError(
                f'{origin}, published.figures names the row "{row}", expected one of {", ".join(rows)}{nearest(row, rows)}'
            )
    return Published(str(own["source"]), str(own.get("protocol", "")), bool(own.get("generated", False)), read)
