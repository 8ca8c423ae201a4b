"""Ranked lists from a store: candidates by its engine, distances from its features, and only pairs that count."""
from __future__ import annotations

__all__ = ["Answer", "StoreRanking"]

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from torchreid_nas.features.feature_set import FeatureSet
from torchreid_nas.features.matching import candidate_distances, unit
from torchreid_nas.features.pairs import Images, image_key
from torchreid_nas.index.engines import Engine, exact_candidates
from torchreid_nas.index.store import Columns, Record, Store

# Queries whose candidates are in memory at once.
_QUERIES = 256
# Records that are read beyond the length of the lists, for images that are the query itself.
_SPARE = 2


@dataclass
class Answer:
    """The ranked lists of queries.

    Attributes:
        lists: distance and record of each image, nearest first, of each query.
        positives: of each query, how many images of its person count.
        counted: of each query, how many images count.
        same_images: pairs of one image.
        same_cameras: other pairs of one person by one camera.
    """

    lists: list[list[tuple[float, Record]]] = field(default_factory=list)
    positives: list[int] = field(default_factory=list)
    counted: list[int] = field(default_factory=list)
    same_images: int = 0
    same_cameras: int = 0


class StoreRanking:
    """Ranks what a store holds; valid until the store changes.

    Args:
        store: of features and records.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @cached_property
    def columns(self) -> Columns:
        """What decides whether a row counts."""
        return self.store.columns()

    @cached_property
    def engine(self) -> Engine | None:
        """The engine of the store; None where there is none."""
        file = self.store.engine_file
        return None if file is None else Engine.load(self.store.meta["engine"], file)

    def search(self, queries: FeatureSet, top: int, metric: str) -> Answer:
        """Return the ``top`` nearest images of every query that count."""
        answer = Answer()
        for block in queries.blocks(_QUERIES):
            lists, itself = self._lists(block, top, metric)
            same_images = np.array(list(map(len, itself)))
            persons, same_cameras = self._persons(block, itself)
            answer.lists += lists
            answer.positives += persons.tolist()
            answer.counted += (self.columns.size - same_cameras - same_images).tolist()
            answer.same_images += int(same_images.sum())
            answer.same_cameras += int(same_cameras.sum())
        return answer

    def _candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        store, columns = self.store, self.columns
        if self.engine is None or count >= columns.size:
            return exact_candidates(store.vectors(), columns.alive, queries, min(count, columns.size))
        found = self.engine.candidates(queries, count)
        indexed = int(store.meta["indexed"])
        if indexed < store.rows:
            found = np.concatenate([found, exact_candidates(store.vectors(), columns.alive, queries, count, indexed)], axis=1)
        return found

    def _lists(
        self, queries: FeatureSet, top: int, metric: str,
    ) -> tuple[list[list[tuple[float, Record]]], list[set[int]]]:
        """Return the lists of a block of queries, and of each query the rows that are its own image."""
        features = unit(queries.features)
        images = Images.of(queries)
        lists: list[list[tuple[float, Record]]] = [[] for _ in range(len(queries))]
        itself = [set(rows) for rows in self.store.rows_of_files(queries.files)]
        waiting, count = np.arange(len(queries)), max(10 * top, 100)
        # What does not count may fill the candidates; then more are taken.
        while len(waiting):
            count = min(count, self.columns.size)
            rows = self._candidates(features[waiting].float().numpy(), count)
            distances = candidate_distances(features[waiting], self.store.vectors(), rows, metric)
            counts = self._counted(queries, waiting, rows)
            distances[~counts] = np.inf
            order = np.lexsort((rows, distances))
            rows, distances = np.take_along_axis(rows, order, 1), np.take_along_axis(distances, order, 1)
            records = self.store.records(np.unique(rows[:, :top + _SPARE]))
            short = []
            for place, query in enumerate(waiting.tolist()):
                found = int(counts[place].sum())
                kept, links = self._without_itself(
                    images.keys[query], rows[place, :found], distances[place, :found], top, records,
                )
                lists[query] = kept
                itself[query].update(links)
                if len(kept) < top and count < self.columns.size:
                    short.append(query)
            waiting, count = np.array(short, dtype=np.int64), count * 8
        return lists, itself

    def _without_itself(
        self, key: Hashable, rows: np.ndarray, distances: np.ndarray, top: int, records: dict[int, Record],
    ) -> tuple[list[tuple[float, Record]], list[int]]:
        """Return the first ``top`` rows that are not the query's own image, and those before them that are."""
        kept: list[tuple[float, Record]] = []
        known: dict[str, Hashable] = {}
        same: list[int] = []
        for place, (row, distance) in enumerate(zip(rows.tolist(), distances.tolist())):
            if len(kept) == top:
                break
            if row not in records:
                records.update(self.store.records(rows[place:place + top + _SPARE]))
            if key is not None and key == image_key(records[row].file, known):
                same.append(row)
            else:
                kept.append((distance, records[row]))
        return kept, same

    def _counted(self, queries: FeatureSet, chosen: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return for each candidate whether it is there and is not the query's person by the query's camera."""
        columns = self.columns
        own = np.array([columns.numbers.get(queries.labels[query], -2) for query in chosen], dtype=np.int64)[:, None]
        cameras = queries.camids[chosen][:, None]
        same = (columns.labels[rows] == own) & (columns.camids[rows] == cameras) & (cameras != -1)
        return (rows >= 0) & columns.alive[rows] & ~same

    def _persons(self, queries: FeatureSet, itself: Sequence[set[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Return of each query how many images of its person count, and how many its camera took, itself left out."""
        columns = self.columns
        persons, cameras = np.zeros((2, len(queries)), dtype=np.int64)
        of_label: dict[str, np.ndarray] = {}
        for place, (label, camid) in enumerate(zip(queries.labels, queries.camids.tolist())):
            if label not in columns.numbers:
                continue
            if label not in of_label:
                of_label[label] = np.flatnonzero(columns.labels == columns.numbers[label])
            others = of_label[label][~np.isin(of_label[label], list(itself[place]))]
            cameras[place] = (columns.camids[others] == camid).sum() if camid != -1 else 0
            persons[place] = len(others) - cameras[place]
        return persons, cameras
