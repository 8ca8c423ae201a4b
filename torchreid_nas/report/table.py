"""The table of what a run reached; tabulate is imported where it is used."""
from __future__ import annotations

__all__ = ["results_table"]

from collections.abc import Mapping, Sequence
from typing import Any

from torchreid_nas.errors import InputError


def results_table(results: Mapping[str, Any]) -> str:
    """Return the table of a run: one row per data set and feature, scores in percent.

    Args:
        results: the content of ``results.json``: ``{"results": [...]}``, each
            entry with ``dataset``, ``direction``, ``feature``, ``ranks`` (ints),
            ``cmc`` and ``cmc_std`` (fractions at those ranks), ``mAP``,
            ``mINP`` and their ``_std`` (fractions), ``num_valid_queries``, ``num_trials``;
            where one has ``mAP_trapezoid`` and its ``_std``, there is a column for it;
            where one has ``variant`` (of an ablation), a first column names it.

    Scores have two decimals, and ``± std`` where several trials were averaged.
    A rank or trapezoid mAP that an entry does not give stays empty in its row.

    Raises:
        InputError: no entry, or one that lacks a key.
    """
    from tabulate import tabulate

    entries = results.get("results")
    if not entries:
        raise InputError('the results hold no entry under "results"; test at least one data set')
    try:
        ranks = sorted({rank for entry in entries for rank in entry["ranks"]})
        trapezoid = any("mAP_trapezoid" in entry for entry in entries)
        names = ("mAP", "mAP_trapezoid", "mINP") if trapezoid else ("mAP", "mINP")
        rows = [_table_row(entry, ranks, names) for entry in entries]
    except KeyError as error:
        raise InputError(f"an entry of the results lacks {error}; test again to write them anew") from error
    scores = [*(f"Rank-{rank}" for rank in ranks), *(name.replace("_trapezoid", " (trapezoid)") for name in names)]
    labels = ["data set", "direction", "feature"]
    if any("variant" in entry for entry in entries):
        labels.insert(0, "variant")
        rows = [[entry.get("variant", ""), *row] for entry, row in zip(entries, rows)]
    headers = [*labels, *scores, "queries", "trials"]
    align = ["left"] * len(labels) + ["right"] * (len(headers) - len(labels))
    # Numbers come formatted: tabulate would cut the zeros of 50.00.
    return tabulate(rows, headers=headers, colalign=align, disable_numparse=True)


def _table_row(entry: Mapping[str, Any], ranks: Sequence[int], names: Sequence[str]) -> list[str]:
    several = entry["num_trials"] > 1

    def percent(value: float, std: float) -> str:
        return f"{100 * value:.2f} ± {100 * std:.2f}" if several else f"{100 * value:.2f}"

    stds = entry["cmc_std"] if several else [0.0] * len(entry["cmc"])
    at = {rank: percent(value, std) for rank, value, std in zip(entry["ranks"], entry["cmc"], stds)}
    scores = [
        "" if name == "mAP_trapezoid" and name not in entry
        else percent(entry[name], entry[f"{name}_std"] if several else 0.0)
        for name in names
    ]
    return [
        entry["dataset"], entry["direction"], entry["feature"], *(at.get(rank, "") for rank in ranks), *scores,
        f"{entry['num_valid_queries']:,}", str(entry["num_trials"]),
    ]
