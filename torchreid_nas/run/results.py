"""The entries of ``results.json``: what a protocol says of one data set and feature, of one run or of several."""
from __future__ import annotations

__all__ = ["average_rows", "result_row"]

import math
from collections.abc import Sequence
from typing import Any

from yacs.config import CfgNode

from torchreid_nas.config.key import value_of
from torchreid_nas.data.manager import ReIDDataManager
from torchreid_nas.engine.scoring import ProtocolResult
from torchreid_nas.metrics import PROTOCOLS
from torchreid_nas.metrics.scores import SCORES

# What figures compare with no others after, by the config key that asks for it.
_MARKS = {"test.flip": ", flipped", "test.rerank": ", re-ranked"}


def result_row(cfg: CfgNode, data: ReIDDataManager, result: ProtocolResult) -> dict[str, Any]:
    """Return the entry of one target, protocol and feature: mean and deviation over its galleries, as fractions.

    ``protocol`` says in words how the target was tested, ``protocol_name`` is the name for ``test.protocol``. A metric that
    a config key asks for (``mAP_trapezoid``) is in the entry only where the key is set. A classification has accuracies and
    no ranks.
    """
    dataset, protocol, mean, std = result.dataset, result.test.protocol, result.mean, result.std
    ranks = list(cfg.test.ranks) if len(mean.cmc) else []
    scores: dict[str, float] = {}
    for score in SCORES.values():
        if score.name in mean.scores and (not score.key or value_of(cfg, score.key)):
            scores[score.name], scores[f"{score.name}_std"] = score.value(mean), std[score.name]
    return {
        "dataset": dataset,
        "direction": data.direction(dataset),
        "feature": result.feature,
        "ranks": ranks,
        "cmc": [float(mean.cmc[rank - 1]) for rank in ranks],
        "cmc_std": [float(std["cmc"][rank - 1]) for rank in ranks],
        **scores,
        "num_valid_queries": mean.num_valid_queries,
        "num_trials": len(result.trials),
        "protocol": data.setting(dataset, protocol) + "".join(mark for key, mark in _MARKS.items() if value_of(cfg, key)),
        "protocol_name": protocol.name,
        "flipped": cfg.test.flip,
    }


def average_rows(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average the same row of several trials; the deviation is that between trials."""
    marks = "".join(mark for mark in _MARKS.values() if all(mark in row["protocol"] for row in rows))
    # The first protocol of a data set needs no name here: its figures are what the name of the data set stands for.
    name = rows[0].get("protocol_name", "")
    other = f" {PROTOCOLS[name].label}" if name in PROTOCOLS and PROTOCOLS[name].family != name else ""
    mean = {**rows[0], "num_trials": len(rows), "protocol": f"mean over trials{other}{marks}"}
    ranks = [_mean_std([row["cmc"][i] for row in rows]) for i in range(len(rows[0]["ranks"]))]
    mean["cmc"], mean["cmc_std"] = [value for value, _ in ranks], [deviation for _, deviation in ranks]
    for key in (score.name for score in SCORES.values() if not score.rank and score.name in rows[0]):
        # A trial that was tested before a metric was asked for lacks the metric: then there is no mean over the trials.
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
