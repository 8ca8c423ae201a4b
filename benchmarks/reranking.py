#!/usr/bin/env python
"""k-reciprocal re-ranking: ours against ``torchreid.utils.re_ranking``, turn by turn.

    python benchmarks/reranking.py                          # two sizes, in the time of a benchmark
    python benchmarks/reranking.py --market --repetitions 1 # Market-1501's size too: minutes, and about 10 GB
    python benchmarks/reranking.py --ours 11659 82161       # ours alone, MSMT17's size: time and peak memory of the process

torchreid takes three matrices of distances, ours the same ("from distances") or the features, which is compared with
torchreid's time and that of the three products it needs before. k1 = 20, k2 = 6, λ = 0.3.
"""
from __future__ import annotations

import resource
import statistics
import time
import warnings

import numpy as np
import torch
from harness import arguments, machine, matmul_rate, take_turns
from results import Report

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="Cython evaluation")
    import torchreid

from torchreid_nas.metrics import re_rank_features, re_ranking

_SIZES = ((350, 1650), (700, 3300))
_MARKET = (3368, 15913)
_TARGET = 5


def main() -> None:
    parser = arguments(__doc__, dim=2048)
    parser.add_argument("--market", action="store_true", help="measure Market-1501's size too")
    parser.add_argument("--ours", type=int, nargs=2, metavar=("QUERIES", "GALLERY"), help="measure ours alone")
    options = parser.parse_args()
    if options.ours:
        with Report(machine(), options.json) as report:
            report.table(*_alone(*options.ours, options.dim))
        return
    rate = matmul_rate(torch.float32)
    sizes = _SIZES + ((_MARKET,) if options.market else ())
    rows, seconds = [], []
    for size in sizes:
        added, torchreids = _compare(*size, options.dim, options.repetitions, rate)
        rows += added
        seconds.append(torchreids)
    headers = ["queries × gallery", "re-ranking", "s", "ours is faster by", f"target {_TARGET} ×", "limit, s (fraction reached)"]
    growth = np.log(seconds[1] / seconds[0]) / np.log(sum(sizes[1]) / sum(sizes[0]))
    with Report(machine(), options.json) as report:
        report.table(rows, headers)
        report.text(
            f"The limit is the product of all features with all, at the measured {rate / 1e9:,.0f} GFLOP/s. From the first size "
            f"to the second torchreid's time grew with the {growth:.1f}th power of the number of images; its matrices alone take "
            f"{4 * 4 * sum(_MARKET)**2 / 2**30:.1f} GiB at Market-1501's size, ours {_blocks(*_MARKET):.2f} GiB beside the "
            "result."
        )


def _compare(num_queries: int, num_gallery: int, dim: int, repetitions: int, rate: float) -> tuple[list[list[str]], float]:
    query, gallery = _features(num_queries, num_gallery, dim)
    pairs = (query, gallery), (query, query), (gallery, gallery)
    products = lambda: [torchreid.metrics.compute_distance_matrix(*pair).numpy() for pair in pairs]
    distances = products()
    # At the largest size one run of torchreid's is long enough; the two agree at the others.
    expected = torchreid.utils.re_ranking(*distances) if (num_queries, num_gallery) in _SIZES else None
    for found in () if expected is None else (re_ranking(*distances), re_rank_features(query, gallery)):
        # An equal pair of distances, or one equal to rounding, may be ordered either way and moves single entries.
        if np.quantile(abs(found - expected), 0.9999) > 1e-5:
            raise SystemExit(f"ours and torchreid disagree by up to {abs(found - expected).max()}")
    turns = take_turns(
        {
            "torchreid": lambda: torchreid.utils.re_ranking(*distances),
            "torchreid's distances": products,
            "ours, from distances": lambda: re_ranking(*distances),
            "ours, from features": lambda: re_rank_features(query, gallery),
        }, repetitions, warmup=1 if repetitions > 1 else 0,
    )
    rows = []
    limit = 2 * dim * (num_queries + num_gallery) ** 2 / rate
    for name in turns.seconds:
        seconds, ours, features = turns.median(name), name.startswith("ours"), name.endswith("features")
        # Turn by turn what torchreid takes for the same work, the distances included where ours computes them too.
        theirs = [a + features * b for a, b in zip(turns.seconds["torchreid"], turns.seconds["torchreid's distances"])]
        faster = statistics.median(other / own for other, own in zip(theirs, turns.seconds[name]))
        # The target is of Market-1501's size; the products, the same in both, weigh more where little is re-ranked.
        judged = ours and (not features or (num_queries, num_gallery) == _MARKET)
        rows.append([
            f"{num_queries:,} × {num_gallery:,}", name, f"{seconds:.2f}", f"{faster:.1f} ×" if ours else "",
            ("reached" if faster >= _TARGET else "missed") if judged else "",
            f"{limit:.2f} ({limit / seconds:.2f})" if features else "",
        ])
    return rows, turns.median("torchreid")


def _alone(num_queries: int, num_gallery: int, dim: int) -> tuple[list[list[str]], list[str]]:
    query, gallery = _features(num_queries, num_gallery, dim)
    before = _peak()
    start = time.perf_counter()
    found = re_rank_features(query, gallery)
    seconds = time.perf_counter() - start
    row = [f"{num_queries:,} × {num_gallery:,}", str(dim), f"{seconds:.1f}"]
    row += [f"{memory:.1f}" for memory in (before, _peak(), found.nbytes / 2**30)]
    headers = ["queries × gallery", "dim", "s", "peak of the process before, GiB", "after, GiB", "of it the result, GiB"]
    return [row], headers


def _features(num_queries: int, num_gallery: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit features about one centre per identity; an identity has 25 images."""
    generator = torch.Generator().manual_seed(0)
    count = num_queries + num_gallery
    centres = torch.randn(max(2, count // 25), dim, generator=generator)
    features = torch.randn(count, dim, generator=generator).mul_(2)
    for piece in torch.arange(count).split(4096):
        features[piece] += centres[torch.randint(len(centres), (len(piece),), generator=generator)]
        features[piece] = torch.nn.functional.normalize(features[piece])
    return features[:num_queries], features[num_queries:]


def _blocks(num_queries: int, num_gallery: int) -> float:
    """GiB of the lists of neighbours and of one block of distances with its partition."""
    from torchreid_nas.metrics import reranking

    return (4 * 21 * (num_queries + num_gallery) + 2 * reranking.BLOCK_BYTES) / 2**30


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
