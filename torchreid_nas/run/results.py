"""The entries of ``results.json``: what a protocol says of one data set and feature, of one run or of several."""
from __future__ import annotations

__all__ = ["average_rows", "result_row"]

import math
from collections.abc import Mapping, Sequence
from typing import Any

from yacs.config import CfgNode

from torchreid_nas.data import CrossModalityDataManager
from torchreid_nas.metrics import RankingResult

# Figures that compare with no others.
_RE_RANKED = ", re-ranked"
_TRAPEZOID = "mAP_trapezoid"


def result_row(
    cfg: CfgNode, data: CrossModalityDataManager, dataset: str, feature: str, mean: RankingResult,
    std: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the entry of one target and feature: mean and deviation over its galleries, as fractions.

    ``mAP_trapezoid`` is in it only where ``test.trapezoid_map`` asks for it.
    """
    ranks = list(cfg.test.ranks)
    scores: dict[str, float] = {}
    for name in ("mAP", *((_TRAPEZOID,) if cfg.test.trapezoid_map else ()), "mINP"):
        scores[name], scores[f"{name}_std"] = getattr(mean, name), std[name]
    return {
        "dataset": dataset,
        "direction": data.direction(dataset),
        "feature": feature,
        "ranks": ranks,
        "cmc": [float(mean.cmc[rank - 1]) for rank in ranks],
        "cmc_std": [float(std["cmc"][rank - 1]) for rank in ranks],
        **scores,
        "num_valid_queries": mean.num_valid_queries,
        "num_trials": len(data.test_galleries(dataset)),
        "protocol": _protocol(cfg, dataset),
    }


def _protocol(cfg: CfgNode, dataset: str) -> str:
    if dataset.startswith("sysu"):
        search = "indoor" if dataset.endswith("indoor") else "all"
        protocol = f"SYSU-MM01 {search}-search, {cfg.test.shot}-shot, {cfg.test.gallery_draw} galleries"
    else:
        protocol = f"RegDB split_id {cfg.data.split_id}" if dataset.startswith("regdb") else dataset
    return protocol + (_RE_RANKED if cfg.test.rerank else "")


def average_rows(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average the same row of several trials; the deviation is that between trials."""
    re_ranked = all(row["protocol"].endswith(_RE_RANKED) for row in rows)
    mean = {**rows[0], "num_trials": len(rows), "protocol": f"mean over trials{_RE_RANKED if re_ranked else ''}"}
    means, deviation = zip(*(_mean_std([row["cmc"][i] for row in rows]) for i in range(len(rows[0]["ranks"]))))
    mean["cmc"], mean["cmc_std"] = list(means), list(deviation)
    for key in ("mAP", _TRAPEZOID, "mINP"):
        # A trial that was tested before the trapezoid was asked for has none, so there is no mean over the trials.
        values = [row[key] for row in rows if key in row]
        if len(values) == len(rows):
            mean[key], mean[f"{key}_std"] = _mean_std(values)
        else:
            for absent in (key, f"{key}_std"):
                mean.pop(absent, None)
    return mean


def _mean_std(values: Sequence[float]) -> tuple[float, float]:
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
