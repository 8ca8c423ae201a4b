"""The table of what a run reached; tabulate is imported where it is used."""
from __future__ import annotations

__all__ = ["results_table"]

from collections.abc import Mapping, Sequence
from typing import Any

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.scores import ordered_scores, row_scores


def results_table(results: Mapping[str, Any]) -> str:
    """Return the results of all data sets and features as text: no column has figures of two protocols.

    Where a data set was tested under one protocol, its results are rows, and a
    line above the table names the protocol. Where there are several, as the
    settings of SYSU-MM01, every protocol is a column, and every metric a row.

    Args:
        results: the content of ``results.json``: ``{"results": [...]}``, each
            entry with ``dataset``, ``direction`` (``""`` for data of one modality, which then have no such
            column), ``feature``, ``ranks`` (ints),
            ``cmc`` and ``cmc_std`` (fractions at those ranks), other metrics of
            :data:`~torchreid_nas.metrics.SCORES` and their ``_std`` (fractions),
            ``num_valid_queries``, ``num_trials``;
            ``protocol`` and ``protocol_name``, where they are known;
            where one has ``variant`` (of an ablation), a first column names it.

    A metric has a column where an entry gives it; in the rows of other entries the column is empty.
    Metrics have two decimals, and ``± std`` where several trials were averaged.

    Raises:
        InputError: no entry, or one that lacks a key.
    """
    entries = results.get("results")
    if not entries:
        raise InputError('the results hold no entry under "results"; test at least one data set')
    try:
        return "\n\n".join(
            _by_row(group) if len(set(map(_name, group))) == 1 else _by_protocol(group) for group in _groups(entries)
        )
    except KeyError as error:
        raise InputError(f"an entry of the results lacks {error}; test again to write them anew") from error


def _name(entry: Mapping[str, Any]) -> str:
    """Return the name of an entry's protocol; ``""`` in results of earlier versions."""
    return str(entry.get("protocol_name", ""))


def _groups(entries: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return entries by the family of their protocols, so that protocols of one data set stand in one table."""
    from torchreid_nas.metrics.protocols import PROTOCOLS

    groups: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        name = _name(entry)
        groups.setdefault(PROTOCOLS[name].family if name in PROTOCOLS else name, []).append(entry)
    return list(groups.values())


def _by_row(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of entries of one protocol."""
    from tabulate import tabulate

    scores = ordered_scores(name for entry in entries for name in row_scores(entry))
    labels = _labels(entries)
    rows = [
        [*(str(entry.get(label, "")) for label in labels), *(texts.get(score.name, "") for score in scores), *_counts(entry)]
        for entry, texts in zip(entries, map(_texts, entries))
    ]
    counted = "queries" if any(entry["ranks"] for entry in entries) else "images"
    headers = [*map(_TITLES.__getitem__, labels), *(score.title for score in scores), counted, "trials"]
    align = ["left"] * len(labels) + ["right"] * (len(headers) - len(labels))
    # Numbers come formatted: tabulate would cut the zeros of 50.00.
    table = tabulate(rows, headers=headers, colalign=align, disable_numparse=True)
    said = list(dict.fromkeys(entry["protocol"] for entry in entries if entry.get("protocol")))
    return "\n".join([f"protocol: {' and '.join(said)}", table] if said else [table])


def _by_protocol(entries: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of entries of several protocols: a column for each."""
    from tabulate import tabulate

    # Data sets of the registry that stand for settings of one, such as sysu_mm01_indoor, share their rows.
    labels = [label for label in _labels(entries) if label != "dataset" or _repeats(entries)]
    columns = list(dict.fromkeys((_name(entry), entry["protocol"]) for entry in entries))
    cells: dict[tuple[str, ...], dict[str, dict[tuple[str, str], str]]] = {}
    titles: dict[str, str] = {}
    for entry in entries:
        values = {**_texts(entry), **dict(zip(("queries", "trials"), _counts(entry)))}
        titles |= {score.name: score.title for score in ordered_scores(row_scores(entry))}
        rows = cells.setdefault(tuple(str(entry.get(label, "")) for label in labels), {})
        for name, text in values.items():
            rows.setdefault(name, {})[_name(entry), entry["protocol"]] = text
    order = [score.name for score in ordered_scores(titles)] + ["queries", "trials"]
    lines = [
        # The labels stand once, in the first line of their rows.
        [*(key if not place else [""] * len(key)), titles.get(name, name), *(rows[name].get(column, "") for column in columns)]
        for key, rows in cells.items() for place, name in enumerate(one for one in order if one in rows)
    ]
    headers = [*map(_TITLES.__getitem__, labels), "", *(said.replace(", ", ",\n") for _, said in columns)]
    align = ["left"] * (len(labels) + 1) + ["right"] * len(columns)
    return tabulate(lines, headers=headers, colalign=align, disable_numparse=True)


_TITLES = {"variant": "variant", "dataset": "data set", "direction": "direction", "feature": "feature"}


def _labels(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that tell entries apart: data of one modality have no direction, entries of a run no variant."""
    return [label for label in _TITLES if label in ("dataset", "feature") or any(entry.get(label) for entry in entries)]


def _repeats(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the name of the data set is needed to tell entries of one protocol apart."""
    keys = [
        (entry.get("variant"), entry["direction"], entry["feature"], _name(entry), entry["protocol"]) for entry in entries
    ]
    return len(set(keys)) < len(keys)


def _texts(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics of an entry as the table shows them."""
    several = entry["num_trials"] > 1
    deviations = row_scores(entry, "_std") if several else {}
    return {
        name: f"{100 * value:.2f} ± {100 * deviations[name]:.2f}" if several else f"{100 * value:.2f}"
        for name, value in row_scores(entry).items()
    }


def _counts(entry: Mapping[str, Any]) -> list[str]:
    return [f"{entry['num_valid_queries']:,}", str(entry["num_trials"])]
