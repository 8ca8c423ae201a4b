#!/usr/bin/env python
"""Galleries on disk: recall and queries per second of each engine against exact search, and what adding costs.

    python benchmarks/index.py [--images 1000000] [--dim 512] [--engine ivfpq]

The features are simulated, for no public set has a million labelled images: 20 images of each person, whose cosine
similarity is 0.67 on average, around centres that vary in 64 directions. The queries are further images of persons in
the gallery, without labels. Recall@10 is the share of the ten nearest images that a search finds.
"""
from __future__ import annotations

import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from harness import arguments, machine
from results import Report

from torchreid_nas.features import FeatureSet
from torchreid_nas.index import GalleryIndex

_IMAGES, _LATENT, _NOISE, _QUERIES, _TOP = 20, 64, 0.7, 256, 10
_BLOCK = 2**14


class People:
    """Simulated features, the same for the same seed."""

    def __init__(self, persons: int, dim: int) -> None:
        generator = np.random.default_rng(0)
        latent = generator.normal(size=(persons, _LATENT)).astype(np.float32)
        self.centres = latent @ (generator.normal(size=(_LATENT, dim)).astype(np.float32) / np.sqrt(_LATENT))

    def images(self, first: int, count: int, seed: int) -> FeatureSet:
        """Return images by their numbers; the persons take turns."""
        numbers = np.arange(first, first + count)
        noise = np.random.default_rng((seed, first)).normal(size=(count, self.centres.shape[1])).astype(np.float32)
        features = self.centres[numbers % len(self.centres)] + _NOISE * noise
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        return FeatureSet(
            torch.from_numpy(features), tuple(f"image {number}" for number in numbers), ("",) * count, np.full(count, -1),
            "simulated",
        )


def main() -> None:
    options = arguments(__doc__, repetitions=5, images=1_000_000, dim=512, engine="ivfpq").parse_args()
    with Report(machine(), options.json) as report, tempfile.TemporaryDirectory() as folder:
        people = People(max(1, options.images // _IMAGES), options.dim)
        queries = people.images(0, _QUERIES, seed=1)
        index = GalleryIndex.create(Path(folder) / "index", queries)
        start = time.perf_counter()
        index.add(people.images(first, min(_BLOCK, options.images - first), seed=0) for first in range(0, options.images, _BLOCK))
        adding = time.perf_counter() - start
        exact, exact_time = _answers(index, queries, options.repetitions)
        # As `torchreid-nas index build --engine` has it from the start; so the features are simulated once.
        index.store.set(engine=options.engine)
        start = time.perf_counter()
        index.merge()
        building = time.perf_counter() - start
        found, fast_time = _answers(index, queries, options.repetitions)
        recall = np.mean([len(set(a) & set(b)) / _TOP for a, b in zip(found, exact)])
        report.text(
            f"{options.images:,} simulated features of length {options.dim}, {_QUERIES} queries at once, the median of "
            f"{options.repetitions} calls each; {index.info()['bytes'] / 2**30:.2f} GiB on disk, the process held at most "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB of memory, mapped files counted."
        )
        report.table(
            [
                ["exact", "1.000", f"{_QUERIES / exact_time:,.0f}", "1.0", f"{adding:,.0f}"],
                [options.engine, f"{recall:.3f}", f"{_QUERIES / fast_time:,.0f}", f"{exact_time / fast_time:.1f}",
                 f"{adding + building:,.0f}"],
            ],
            ["engine", f"recall@{_TOP}", "queries per second", "times exact", "seconds to build"],
        )


def _answers(index: GalleryIndex, queries: FeatureSet, repetitions: int) -> tuple[list[list[str]], float]:
    """Return the ranked lists and the median of the seconds that they took; the first call reads files and is not counted."""
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        matches = index.search(queries, _TOP)
        times.append(time.perf_counter() - start)
    return matches.paths, float(np.median(times[1:]))


if __name__ == "__main__":
    main()
