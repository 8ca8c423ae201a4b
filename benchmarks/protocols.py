"""Protocol speed: ours against a plain NumPy loop over queries, at the sizes of the real test sets.

Both run in this process, turn by turn, on the same random distances; the
table gives medians and their ratio. Results of the two are compared first.

    python benchmarks/protocols.py [--repeats 5]      (the package installed, or PYTHONPATH=.)
"""
from __future__ import annotations

import argparse
import statistics
import time
from typing import Callable

import numpy as np

from torchreid_nas.metrics import evaluate_regdb, evaluate_sysu_mm01


def loop_sysu(distmat: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray, q_camids: np.ndarray, g_camids: np.ndarray):
    """CMC and mAP of SYSU-MM01, one query at a time."""
    hits, precisions = np.zeros(20), []
    for row, pid, camid in zip(distmat, q_pids, q_camids):
        order = np.argsort(row, kind="stable")
        if camid == 2:
            order = order[g_camids[order] != 1]
        pids = g_pids[order]
        places = np.flatnonzero(pids == pid)
        if len(places) == 0:
            continue
        precisions.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))
        hits[len(np.unique(pids[:places[0]])):] += 1
    return hits / len(precisions), np.mean(precisions)


def loop_regdb(distmat: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray):
    """CMC and mAP of RegDB, one query at a time."""
    hits, precisions = np.zeros(20), []
    for row, pid in zip(distmat, q_pids):
        places = np.flatnonzero(g_pids[np.argsort(row, kind="stable")] == pid)
        precisions.append(np.mean(np.arange(1, len(places) + 1) / (places + 1)))
        hits[places[0]:] += 1
    return hits / len(precisions), np.mean(precisions)


def sysu_case(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """3,803 queries by a gallery of 301: 96 identities in up to four visible cameras."""
    pairs = [(pid, camid) for pid in range(96) for camid in (0, 1, 3, 4)]
    g_pids, g_camids = np.array(pairs)[np.sort(rng.permutation(len(pairs))[:301])].T
    q_pids, q_camids = rng.integers(96, size=3803), rng.choice([2, 5], size=3803)
    return _distances(rng, q_pids, g_pids), q_pids, g_pids, q_camids, g_camids


def regdb_case(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """2,060 queries by 2,060: 206 identities with ten images each."""
    pids = np.repeat(np.arange(206), 10)
    return _distances(rng, pids, pids), pids, pids


def _distances(rng: np.random.Generator, q_pids: np.ndarray, g_pids: np.ndarray) -> np.ndarray:
    distances = rng.standard_normal((len(q_pids), len(g_pids))).astype(np.float32)
    return distances - 1.5 * (q_pids[:, None] == g_pids).astype(np.float32)


def compare(name: str, ours: Callable, loop: Callable, case: tuple[np.ndarray, ...], repeats: int) -> str:
    """Check that both agree, time them in turns, and return one line of the table."""
    result, (cmc, mean_ap) = ours(*case), loop(*case)
    if not (np.allclose(result.cmc, cmc, rtol=0, atol=1e-12) and abs(result.mAP - mean_ap) < 1e-12):
        raise SystemExit(f"{name}: the two disagree (mAP {result.mAP} and {mean_ap})")
    seconds: dict[Callable, list[float]] = {ours: [], loop: []}
    for _ in range(repeats):
        for function, taken in seconds.items():
            start = time.perf_counter()
            function(*case)
            taken.append(time.perf_counter() - start)
    fast, slow = (1000 * statistics.median(taken) for taken in seconds.values())
    size = " x ".join(map(str, case[0].shape))
    return f"{name:<12}{size:>14}{fast:>12.1f}{slow:>12.1f}{slow / fast:>10.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each (default: %(default)s)")
    repeats = parser.parse_args().repeats
    print(f"{'protocol':<12}{'size':>14}{'ours, ms':>12}{'loop, ms':>12}{'ratio':>10}")
    print(compare("SYSU-MM01", evaluate_sysu_mm01, loop_sysu, sysu_case(np.random.default_rng(0)), repeats))
    print(compare("RegDB", evaluate_regdb, loop_regdb, regdb_case(np.random.default_rng(0)), repeats))


if __name__ == "__main__":
    main()
