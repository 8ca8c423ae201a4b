"""What finds the candidates of a query among millions of features: exactly, or by the indexes of FAISS."""
from __future__ import annotations

__all__ = ["ENGINES", "LEAST", "Engine", "check_engine", "exact_candidates"]

import os
from pathlib import Path
from typing import Any

import numpy as np

from torchreid_nas.errors import InputError, nearest

ENGINES = ("exact", "ivfpq", "hnsw")
LEAST = 10_000
"""Images below which an index is searched exactly whatever its engine: that takes milliseconds."""
_BLOCK = 2**16
# Features that the quantisers of IVF-PQ learn from, per list; FAISS's own most.
_PER_LIST = 256
_EFFORT = {"ivfpq": 32, "hnsw": 128}


def check_engine(kind: str) -> None:
    """Raise InputError where ``kind`` is no engine, or is one of FAISS and FAISS is missing."""
    if kind not in ENGINES:
        raise InputError(f'the engine is "{kind}", expected {", ".join(ENGINES)}{nearest(kind, ENGINES)}')
    if kind != "exact":
        _faiss()


def exact_candidates(vectors: np.ndarray, alive: np.ndarray, queries: np.ndarray, count: int, first: int = 0) -> np.ndarray:
    """Return the rows of the ``count`` features of largest inner product with each query.

    FAISS computes the products where it is installed, and NumPy elsewhere.

    Args:
        vectors: (N, D) float32, mapped; a block at a time is read.
        alive: (N,) of bool; other rows are left out.
        queries: (Q, D) float32.
        count: rows per query.
        first: row to begin with.

    Returns:
        (Q, count) int64, in no order; -1 where there are fewer rows.

    Example:
        >>> features = np.eye(3, dtype=np.float32)
        >>> exact_candidates(features, np.array([True, False, True]), features[:1], 2).tolist()
        [[0, 2]]
    """
    best = np.full((len(queries), 0), -np.inf, dtype=np.float32)
    found = np.full((len(queries), 0), -1, dtype=np.int64)
    for start in range(first, len(vectors), _BLOCK):
        rows = start + np.flatnonzero(alive[start:start + _BLOCK])
        if not len(rows):
            continue
        whole = len(rows) == min(_BLOCK, len(vectors) - start)
        block = np.asarray(vectors[start:start + _BLOCK] if whole else vectors[rows])
        products, places = _largest(queries, block, min(count, len(rows)))
        best = np.concatenate([best, products], axis=1)
        found = np.concatenate([found, rows[places]], axis=1)
        if best.shape[1] > count:
            kept = np.argpartition(-best, count - 1, axis=1)[:, :count]
            best, found = np.take_along_axis(best, kept, 1), np.take_along_axis(found, kept, 1)
    missing = np.full((len(queries), count - found.shape[1]), -1, dtype=np.int64)
    return np.concatenate([found, missing], axis=1)


class Engine:
    """An index of FAISS over inner products, whose ids are the rows of a store.

    ``ivfpq`` divides the features into lists and keeps each as half a byte per part (PQ fast scan); ``hnsw`` links each
    to its neighbours and keeps a byte per value. Both are candidates only: distances are computed again from the features.

    Args:
        kind: ``"ivfpq"`` or ``"hnsw"``.
        index: of FAISS.

    Raises:
        InputError: FAISS is missing.
    """

    def __init__(self, kind: str, index: Any) -> None:
        self.kind, self.index = kind, index

    @classmethod
    def build(cls, kind: str, vectors: np.ndarray, alive: np.ndarray, seed: int = 0) -> Engine:
        """Build the index of the rows that are there."""
        faiss = _faiss()
        rows, dim = np.flatnonzero(alive), vectors.shape[1]
        if kind == "hnsw":
            # A byte per value: the candidates are ranked again by their features.
            index = faiss.IndexIDMap(faiss.index_factory(dim, "HNSW32_SQ8", faiss.METRIC_INNER_PRODUCT))
        else:
            lists = _lists(len(rows))
            parts = next(parts for parts in range(min(256, max(1, dim // 2)), 0, -1) if dim % parts == 0)
            index = faiss.index_factory(dim, f"IVF{lists},PQ{parts}x4fs", faiss.METRIC_INNER_PRODUCT)
        sample = np.sort(np.random.default_rng(seed).permutation(rows)[:_sample_size(kind, len(rows))])
        index.train(np.ascontiguousarray(vectors[sample]))
        engine = cls(kind, index)
        engine.add(vectors, rows)
        return engine

    @classmethod
    def load(cls, kind: str, path: str | os.PathLike[str]) -> Engine:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: the file is damaged.
        """
        try:
            return cls(kind, _faiss().read_index(os.fspath(path)))
        except RuntimeError as error:  # FAISS says it in many lines
            raise InputError(
                f'"{path}" is damaged; build it again: torchreid-nas index merge "{Path(path).parent}"'
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index."""
        _faiss().write_index(self.index, os.fspath(path))

    def add(self, vectors: np.ndarray, rows: np.ndarray) -> None:
        """Add rows."""
        for start in range(0, len(rows), _BLOCK):
            part = rows[start:start + _BLOCK]
            self.index.add_with_ids(np.ascontiguousarray(vectors[part]), part.astype(np.int64))

    def forget(self, rows: np.ndarray) -> bool:
        """Take rows out, and return whether the engine can; the links of HNSW cannot be mended."""
        if self.kind == "ivfpq":
            self.index.remove_ids(rows.astype(np.int64))
        return self.kind == "ivfpq"

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Return about the ``count`` rows nearest to each query, (Q, count) int64; -1 where there are fewer."""
        faiss = _faiss()
        if self.kind == "hnsw":
            faiss.downcast_index(self.index.index).hnsw.efSearch = max(_EFFORT["hnsw"], count)
        else:
            faiss.extract_index_ivf(self.index).nprobe = _EFFORT["ivfpq"]
        _, rows = self.index.search(queries, count)
        return np.asarray(rows, dtype=np.int64)


def _sample_size(kind: str, rows: int) -> int:
    return min(rows, 2**16 if kind == "hnsw" else _PER_LIST * _lists(rows), 2**18)


def _lists(rows: int) -> int:
    """Return the number of lists of IVF: a power of 2 near 4 √N, with at least 39 features a list, FAISS's least to learn one."""
    return int(2 ** min(np.log2(4 * np.sqrt(rows)).round(), np.log2(rows / 39) // 1))


def _largest(queries: np.ndarray, block: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest inner products of each query, (Q, count), and their places in the block."""
    try:
        import faiss
    except ImportError:
        products = queries @ block.T
        places = np.argpartition(-products, count - 1, axis=1)[:, :count]
        return np.take_along_axis(products, places, 1), places
    products, places = faiss.knn(queries, block, count, metric=faiss.METRIC_INNER_PRODUCT)
    return products, places


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            'this engine needs FAISS, which is not installed; pip install "torchreid-nas[search]", or take the engine exact'
        ) from error
    return faiss
