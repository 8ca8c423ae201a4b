"""What a test leaves beside its figures: the scores of every query, the features, and a certificate."""
from __future__ import annotations

__all__ = ["keep_evidence"]

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torchreid_nas.engine import RetrievalEngine
from torchreid_nas.engine.scoring import ProtocolTest
from torchreid_nas.evidence.certificate import certify, digest_of_galleries, digest_of_items, relative
from torchreid_nas.evidence.feature_store import save_test_features, size_of
from torchreid_nas.evidence.store import StoredTest, save_scores
from torchreid_nas.files import load_checkpoint, write_json
from torchreid_nas.metrics.scores import row_scores
from torchreid_nas.run.provenance import provenance
from torchreid_nas.run.setup import RunSetup

logger = logging.getLogger(__name__)

_MOST_FEATURES = 2**30
"""Bytes of features that a run keeps at most."""


def keep_evidence(setup: RunSetup, engine: RetrievalEngine, results: Mapping[str, Any], trains: bool) -> None:
    """Write ``scores.npz``, ``test_features.npz`` and ``certificate.json``, once ``results.json`` is written.

    Args:
        setup: of the run.
        engine: after its test.
        results: the content of ``results.json``.
        trains: whether the weights were trained in this run.

    Raises:
        InputError: a file cannot be written.
    """
    folder, root = setup.folder, setup.cfg.data.root
    stored = []
    for row, result in zip(results["results"], engine.tested):
        transposed = result.test.protocol.transposed
        query = engine.datamanager.test_dataset[result.dataset]["gallery" if transposed else "query"]
        stored.append(StoredTest(
            row["dataset"], row["feature"], row["protocol"], [trial.only(row_scores(row)) for trial in result.queries],
            [relative(item[0], root) for item in query], *_labels(query), drawn_queries=transposed,
        ))
    save_scores(folder.scores, stored)
    files = {"config": folder.config, "weights": setup.weights(trains), "results": folder.results, "scores": folder.scores}
    if _keeps_features(setup, engine):
        save_test_features(folder.test_features, engine.scored)
        files["features"] = folder.test_features
    else:
        folder.test_features.unlink(missing_ok=True)
    initial = {"initial": results["initial"]} if "initial" in results else {}
    write_json(folder.certificate, certify(
        folder.path, _tests(setup, engine, results["results"]), files,
        {**_weights(setup, trains), **initial, **provenance(setup.cfg)},
    ))


def _labels(items: Sequence[Sequence[Any]]) -> tuple[Any, Any]:
    import numpy as np

    return np.array([item[1] for item in items], dtype=np.int64), np.array([item[2] for item in items], dtype=np.int64)


def _keeps_features(setup: RunSetup, engine: RetrievalEngine) -> bool:
    # A classification has no features to keep.
    if not engine.keeps_features or not engine.scored:
        return False
    size = size_of(engine.scored)
    if size > _MOST_FEATURES:
        logger.info(f"the features of the test are {size / 2**30:.1f} GiB and are not kept; `verify --full` computes them again")
    return size <= _MOST_FEATURES


def _tests(setup: RunSetup, engine: RetrievalEngine, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how every target was tested under each protocol, and the digests of its lists of images."""
    tests = {(row["dataset"], row["protocol"]): (row, result.test) for row, result in zip(rows, engine.tested)}
    return [_test(setup, engine, row, test) for row, test in tests.values()]


def _test(setup: RunSetup, engine: RetrievalEngine, row: Mapping[str, Any], test: ProtocolTest) -> dict[str, Any]:
    cfg, items = setup.cfg, engine.datamanager.test_dataset[row["dataset"]]
    return {
        "dataset": row["dataset"],
        "protocol": test.protocol.name,
        "setting": row["protocol"],
        "direction": row["direction"],
        "distance": cfg.test.dist_metric,
        "normalized_features": cfg.test.normalize_feature,
        "re_ranked": cfg.test.rerank,
        "flipped": cfg.test.flip,
        "precision": cfg.test.precision,
        "size": [cfg.data.height, cfg.data.width],
        "query": digest_of_items(items["query"], cfg.data.root),
        "gallery": digest_of_items(items["gallery"], cfg.data.root),
        "galleries": digest_of_galleries(test.galleries),
    }


def _weights(setup: RunSetup, trains: bool) -> dict[str, Any]:
    """Return which weights were tested and how their epoch was chosen."""
    cfg = setup.cfg
    own = cfg.model.load_weights == "" or trains
    content = load_checkpoint(setup.weights(trains))
    weights = {"from": cfg.model.load_weights, "epoch_chosen_by": "not known", "averaged": "not known"}
    if own:
        chosen = "held-out training identities" if cfg.train.holdout else "the last epoch"
        weights = {"from": "this run", "epoch_chosen_by": chosen, "averaged": cfg.train.ema}
    return {"weights": {**weights, "epoch": content.get("epoch") if isinstance(content, Mapping) else None}}
