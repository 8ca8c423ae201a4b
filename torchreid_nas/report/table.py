"""The table of what a run reached; tabulate is imported where it is used."""
from __future__ import annotations

__all__ = ["results_table"]

from collections.abc import Mapping, Sequence
from typing import Any

from torchreid_nas.errors import InputError
from torchreid_nas.metrics.scores import Score, ordered_scores, row_scores


def results_table(results: Mapping[str, Any]) -> str:
    """Return the table of a run: one row per data set and feature, scores in percent.

    Args:
        results: the content of ``results.json``: ``{"results": [...]}``, each
            entry with ``dataset``, ``direction`` (``""`` for data of one modality, which then have no such
            column), ``feature``, ``ranks`` (ints),
            ``cmc`` and ``cmc_std`` (fractions at those ranks), other metrics of
            :data:`~torchreid_nas.metrics.SCORES` and their ``_std`` (fractions),
            ``num_valid_queries``, ``num_trials``;
            where one has ``variant`` (of an ablation), a first column names it.

    A metric has a column where an entry gives it; in the rows of other entries the column is empty.
    Metrics have two decimals, and ``± std`` where several trials were averaged.

    Raises:
        InputError: no entry, or one that lacks a key.
    """
    from tabulate import tabulate

    entries = results.get("results")
    if not entries:
        raise InputError('the results hold no entry under "results"; test at least one data set')
    try:
        scores = ordered_scores(name for entry in entries for name in row_scores(entry))
        rows = [_table_row(entry, scores) for entry in entries]
    except KeyError as error:
        raise InputError(f"an entry of the results lacks {error}; test again to write them anew") from error
    labels = ["data set", "direction", "feature"]
    if not any(entry["direction"] for entry in entries):
        # Data of one modality have no direction.
        labels.remove("direction")
        rows = [[row[0], *row[2:]] for row in rows]
    if any("variant" in entry for entry in entries):
        labels.insert(0, "variant")
        rows = [[entry.get("variant", ""), *row] for entry, row in zip(entries, rows)]
    headers = [*labels, *(score.title for score in scores), "queries", "trials"]
    align = ["left"] * len(labels) + ["right"] * (len(headers) - len(labels))
    # Numbers come formatted: tabulate would cut the zeros of 50.00.
    return tabulate(rows, headers=headers, colalign=align, disable_numparse=True)


def _table_row(entry: Mapping[str, Any], scores: Sequence[Score]) -> list[str]:
    several = entry["num_trials"] > 1
    values, deviations = row_scores(entry), row_scores(entry, "_std") if several else {}
    texts = {name: f"{100 * value:.2f}" for name, value in values.items()}
    if several:
        texts = {name: f"{text} ± {100 * deviations[name]:.2f}" for name, text in texts.items()}
    return [
        entry["dataset"], entry["direction"], entry["feature"], *(texts.get(score.name, "") for score in scores),
        f"{entry['num_valid_queries']:,}", str(entry["num_trials"]),
    ]
