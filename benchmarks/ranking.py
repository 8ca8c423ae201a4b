#!/usr/bin/env python
"""Ranking and scoring: ours against the evaluators of the field, turn by turn, at the sizes of the real test sets.

    python benchmarks/ranking.py [--repetitions 10]

What it compares with:

- authors: the evaluation code that the cross-modality papers share, a sort of everything, then Python for each query
  and, for average precision, for each gallery image; SYSU-MM01 with the distances of each trial computed anew.
- NumPy loop: the same with a loop over queries only, as a careful author writes it.
- torchreid, Python: ``evaluate_rank(use_cython=False)``.
- torchreid, Cython: where torchreid is installed with it (its GitHub layout; PyPI's has none).

The slow ones run on a part of the queries, named in the table, and their time is scaled to all.
"""
from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable

import numpy as np
import torch
from harness import arguments, copy_bandwidth, machine, peak_memory, take_turns
from results import Report

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Cython evaluation")
    import torchreid

from torchreid_nas.metrics import average_results, evaluate_rank, evaluate_regdb, evaluate_sysu_mm01

_TRIALS = 10
_SMALL = ((30, 300), (100, 1000), (300, 3000))  # queries and gallery images, from which on ours is never to be slower
_MEMORY = 1.5 * 2**30

Score = Callable[[slice], tuple[np.ndarray, float]]


@dataclasses.dataclass(frozen=True)
class Rival:
    """An evaluator to compare with.

    Args:
        score: gives CMC and mAP of a slice of the queries.
        queries: how many of them it is timed on.
        target: how many times faster ours is to be; 0 for no target.
    """

    score: Score
    queries: int
    target: float = 0


def main() -> None:
    options = arguments(__doc__).parse_args()
    rows = []
    bandwidth = copy_bandwidth()
    for case in (_sysu, _regdb, _market, *(functools.partial(_small, size=size) for size in _SMALL)):
        rows += _compare(*case(np.random.default_rng(0)), options.repetitions, bandwidth)
    headers = [
        "test set", "evaluator", "queries timed", "ms, all queries", "ours is faster by", "target", "peak memory, MiB",
    ]
    with Report(machine(), options.json) as report:
        report.table(rows, headers)
        report.text(
            f"The limit is one reading of the distances at the measured copy bandwidth, {bandwidth / 1e9:.1f} GB/s. Ours sorts "
            "every row, which alone takes most of its time. Memory is what torch allocates beyond the inputs, to which ours "
            "adds a NumPy array as large as a block (16 MiB)."
        )


def _compare(
    name: str, ours: Score, rivals: dict[str, Rival], size: tuple[int, int], read: int, repetitions: int, bandwidth: float,
) -> list[list[str]]:
    num_queries = size[0]
    everything = slice(0, num_queries)
    for label, rival in rivals.items():
        part = slice(0, rival.queries)
        for found, expected in zip(ours(part), rival.score(part)):
            if not np.allclose(found, expected, rtol=0, atol=1e-6):
                raise SystemExit(f"{name}: ours and {label} disagree ({found} and {expected})")
    steps = {label: (lambda rival=rival: rival.score(slice(0, rival.queries))) for label, rival in rivals.items()}
    turns = take_turns({"ours": lambda: ours(everything), **steps}, repetitions, warmup=1)
    peak = peak_memory(lambda: ours(everything))
    seconds, limit = turns.median("ours"), read / bandwidth
    verdict = "" if peak > _MEMORY else ", memory at most 1.5 GB: reached"
    rows = [[
        f"{name}, {size[0]:,} × {size[1]:,}", "ours", f"{num_queries:,}", f"{1000 * seconds:.1f}", "",
        f"limit {1000 * limit:.1f} ms, fraction reached {limit / seconds:.2f}{verdict}", f"{peak / 2**20:.0f}",
    ]]
    for label, rival in rivals.items():
        scale = num_queries / rival.queries
        faster = scale * turns.speedup("ours", label)
        target = f"{rival.target:g} ×: {'reached' if faster >= rival.target else 'missed'}" if rival.target else ""
        rows.append([
            "", label, f"{rival.queries:,}", f"{1000 * scale * turns.median(label):,.0f}", f"{faster:.1f} ×", target, "",
        ])
    return rows


# -- test sets -----------------------------------------------------------------


def _sysu(rng: np.random.Generator):
    """3,803 queries, ten galleries of 301 out of a pool of 6,775: 96 identities under four visible cameras."""
    pool_pids, pool_camids = _labels(rng, 6775, 96, [0, 1, 3, 4])
    q_pids, q_camids = _labels(rng, 3803, 96, [2, 5])
    query, pool = _features(rng, q_pids, pool_pids, 2048)
    galleries = [_one_per_camera(rng, pool_pids, pool_camids)[:301] for _ in range(_TRIALS)]
    # One extraction and one matrix of distances serve all trials, laid out as the engine does it.
    distmat = _distances(pool, query).numpy().T
    by_trial = np.ascontiguousarray(distmat)

    def ours(rows: slice) -> tuple[np.ndarray, float]:
        trials = [
            evaluate_sysu_mm01(
                distmat.T[chosen].T[rows], q_pids[rows], pool_pids[chosen], q_camids[rows], pool_camids[chosen]
            ) for chosen in galleries
        ]
        mean, _ = average_results(trials)
        return mean.cmc, mean.mAP

    def loop(evaluate: Callable) -> Score:
        def score(rows: slice) -> tuple[np.ndarray, float]:
            trials = []
            for chosen in galleries:
                distances = by_trial[rows][:, chosen]
                trials.append(
                    evaluate(distances, q_pids[rows], pool_pids[chosen], q_camids[rows], pool_camids[chosen])
                )
            return np.mean([cmc for cmc, _ in trials], axis=0), float(np.mean([mean_ap for _, mean_ap in trials]))

        return score

    rivals = {"authors": Rival(loop(_authors_sysu), 200, 70), "NumPy loop": Rival(loop(_loop_sysu), 1000)}
    return f"SYSU-MM01, {_TRIALS} trials", ours, rivals, (3803, 301), 4 * 3803 * 301 * _TRIALS


def _regdb(rng: np.random.Generator):
    """2,060 queries by 2,060: 206 identities with ten images each."""
    pids = np.repeat(np.arange(206), 10)
    distmat = _distances(*_features(rng, pids, pids, 2048)).numpy()
    order = rng.permutation(2060)
    distmat, q_pids = distmat[order], pids[order]

    def ours(rows: slice) -> tuple[np.ndarray, float]:
        result = evaluate_regdb(distmat[rows], q_pids[rows], pids)
        return result.cmc, result.mAP

    rivals = {
        "authors": Rival(lambda rows: _authors_regdb(distmat[rows], q_pids[rows], pids), 100, 150),
        "NumPy loop": Rival(lambda rows: _loop_regdb(distmat[rows], q_pids[rows], pids), 1000),
    }
    return "RegDB", ours, rivals, distmat.shape, distmat.nbytes


def _market(rng: np.random.Generator):
    """3,368 queries by 15,913: 750 identities and distractors under six cameras."""
    g_pids, g_camids = _labels(rng, 15913, 750, range(6))
    g_pids[:2798] = -1
    q_pids, q_camids = _labels(rng, 3368, 750, range(6))
    distmat = _distances(*_features(rng, q_pids, g_pids, 512)).numpy()

    def by(evaluate: Callable, **kwargs: bool) -> Score:
        return lambda rows: evaluate(distmat[rows], q_pids[rows], g_pids, q_camids[rows], g_camids, 50, **kwargs)

    rivals = {"torchreid, Python": Rival(by(torchreid.metrics.evaluate_rank, use_cython=False), 20, 300)}
    if getattr(torchreid.metrics.rank, "IS_CYTHON_AVAI", False):
        rivals["torchreid, Cython"] = Rival(by(torchreid.metrics.evaluate_rank), 3368, 5)
    return "Market-1501", by(evaluate_rank), rivals, distmat.shape, distmat.nbytes


def _small(rng: np.random.Generator, size: tuple[int, int]):
    """A test set of Market-1501's kind, ten images of an identity in the gallery, as of a user's own images."""
    num_queries, num_gallery = size
    q_pids, q_camids = _labels(rng, num_queries, num_gallery // 10, range(6))
    g_pids, g_camids = _labels(rng, num_gallery, num_gallery // 10, range(6))
    distmat = rng.random(size, dtype=np.float32)

    def by(evaluate: Callable, **kwargs: bool) -> Score:
        return lambda rows: evaluate(distmat[rows], q_pids[rows], g_pids, q_camids[rows], g_camids, 50, **kwargs)

    rivals = {"torchreid, Python": Rival(by(torchreid.metrics.evaluate_rank, use_cython=False), num_queries, 1)}
    if getattr(torchreid.metrics.rank, "IS_CYTHON_AVAI", False):
        rivals["torchreid, Cython"] = Rival(by(torchreid.metrics.evaluate_rank), num_queries, 1)
    return "a small test set", by(evaluate_rank), rivals, distmat.shape, distmat.nbytes


def _one_per_camera(rng: np.random.Generator, pids: np.ndarray, camids: np.ndarray) -> np.ndarray:
    """A position for each identity under each camera, in random order."""
    shuffled = rng.permutation(len(pids))
    _, first = np.unique(np.stack([pids, camids])[:, shuffled], axis=1, return_index=True)
    return rng.permutation(shuffled[first])


def _labels(rng: np.random.Generator, count: int, identities: int, cameras) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(identities, size=count), rng.choice(list(cameras), size=count)


def _features(rng: np.random.Generator, q_pids: np.ndarray, g_pids: np.ndarray, dim: int) -> list[torch.Tensor]:
    """Unit features about a centre per identity, far enough from it that rankings are neither perfect nor chance."""
    centres = rng.standard_normal((g_pids.max() + 1, dim), dtype=np.float32)
    features = []
    for pids in (q_pids, g_pids):
        noise = rng.standard_normal((len(pids), dim), dtype=np.float32)
        features.append(torch.nn.functional.normalize(torch.from_numpy(0.25 * centres[pids] + noise)))
    return features


def _distances(query: torch.Tensor, gallery: torch.Tensor) -> torch.Tensor:
    return torchreid.metrics.compute_distance_matrix(query, gallery)


# -- plain implementations -----------------------------------------------------


def _average_precision(hits: np.ndarray) -> float:
    """Precision at every place, in Python, kept where there is a hit."""
    precisions = [count / (place + 1.0) for place, count in enumerate(hits.cumsum())]
    return (np.asarray(precisions) * hits).sum() / hits.sum()


def _authors_sysu(
    distmat: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray, q_camids: np.ndarray, g_camids: np.ndarray,
) -> tuple[np.ndarray, float]:
    order = np.argsort(distmat, axis=1, kind="stable")
    ranked = g_pids[order]
    cmcs, precisions = [], []
    for query, (pid, camid) in enumerate(zip(q_pids, q_camids)):
        keep = ~((camid == 2) & (g_camids[order[query]] == 1))
        hits = (ranked[query][keep] == pid).astype(np.int32)
        if not hits.any():
            continue
        seen = ranked[query][keep]
        firsts = np.sort(np.unique(seen, return_index=True)[1])
        first = (seen[firsts] == pid).astype(np.int32).cumsum().clip(max=1)[:20]
        cmcs.append(np.pad(first, (0, 20 - len(first)), mode="edge"))
        precisions.append(_average_precision(hits))
    return np.mean(cmcs, axis=0), float(np.mean(precisions))


def _authors_regdb(distmat: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray) -> tuple[np.ndarray, float]:
    order = np.argsort(distmat, axis=1, kind="stable")
    matches = (g_pids[order] == q_pids[:, None]).astype(np.int32)
    cmcs, precisions = [], []
    for hits in matches:
        if not hits.any():
            continue
        cmcs.append(hits.cumsum().clip(max=1)[:20])
        precisions.append(_average_precision(hits))
    return np.mean(cmcs, axis=0), float(np.mean(precisions))


def _loop_sysu(
    distmat: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray, q_camids: np.ndarray, g_camids: np.ndarray,
) -> tuple[np.ndarray, float]:
    hits, precisions = np.zeros(20), []
    for row, pid, camid in zip(distmat, q_pids, q_camids):
        order = np.argsort(row, kind="stable")
        if camid == 2:
            order = order[g_camids[order] != 1]
        ranked = g_pids[order]
        places = np.flatnonzero(ranked == pid)
        if len(places) == 0:
            continue
        precisions.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))
        hits[len(np.unique(ranked[:places[0]])):] += 1
    return hits / len(precisions), float(np.mean(precisions))


def _loop_regdb(distmat: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray) -> tuple[np.ndarray, float]:
    hits, precisions = np.zeros(20), []
    for row, pid in zip(distmat, q_pids):
        places = np.flatnonzero(g_pids[np.argsort(row, kind="stable")] == pid)
        precisions.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))
        hits[places[0]:] += 1
    return hits / len(precisions), float(np.mean(precisions))


if __name__ == "__main__":
    main()
