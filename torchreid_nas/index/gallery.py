"""A gallery on disk: added to, removed from, and searched by features."""
from __future__ import annotations

__all__ = ["Calibration", "GalleryIndex"]

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchreid_nas.errors import InputError
from torchreid_nas.features.feature_set import FeatureSet
from torchreid_nas.features.images import split_name
from torchreid_nas.features.matching import Matches, unit
from torchreid_nas.index.engines import LEAST, Engine, check_engine
from torchreid_nas.index.ranking import StoreRanking
from torchreid_nas.index.store import Record, Store

_ROWS = 2**14


@dataclass(frozen=True)
class Calibration:
    """From which distance on the answer is "nobody".

    Attributes:
        distance: Euclidean; nearer images are accepted.
        far: share of the strangers' images that were accepted: the false-accept rate of an answer.
        queries: strangers' images.
        persons: strangers.
        images: size of the gallery at that time. A larger gallery accepts more.
    """

    distance: float
    far: float
    queries: int
    persons: int
    images: int


class GalleryIndex:
    """Features of a gallery on disk, with path, identity, camera, modality and time of each image.

    Every change is on the disk when its method returns; a crash at any moment leaves what was acknowledged. Features are
    float32 of length 1 and are read by need, so that a gallery may be larger than the memory. An engine of FAISS finds
    candidates; distances are computed from the features themselves, and pairs that do not count
    (:func:`torchreid_nas.features.pairs.counted_pairs`) are left out, as ``torchreid-nas match`` does. All of it is ours.

    Args:
        path: the folder.

    Raises:
        InputError: there is no index, or a damaged one.

    Example:
        >>> import tempfile, torch
        >>> part = FeatureSet(torch.eye(3), ("a.jpg", "b.jpg", "c.jpg"), ("7", "7", "8"), np.array([0, 1, 0]))
        >>> index = GalleryIndex.create(Path(tempfile.mkdtemp()) / "gallery", part)
        >>> index.add([part])
        3
        >>> index.search(part.take([2]), top=2).labels
        [['7', '7']]
        >>> index.remove("7"), len(index)
        (2, 1)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.store = Store(path)
        self._ranking = StoreRanking(self.store)

    @classmethod
    def create(cls, path: str | os.PathLike[str], like: FeatureSet, engine: str = "exact") -> GalleryIndex:
        """Make an empty index for features of the model that made ``like``.

        Args:
            path: the folder, new or empty.
            like: features of the model.
            engine: ``"exact"``, ``"ivfpq"`` or ``"hnsw"``; the last two need FAISS.

        Raises:
            InputError: the folder is not empty or cannot be written, the engine is unknown, or FAISS is missing.
        """
        check_engine(engine)
        Store.create(path, {
            "dim": like.features.shape[1], "model": like.model, "fingerprint": like.fingerprint, "engine": engine,
            "calibration": None,
        })
        return cls(path)

    @staticmethod
    def is_index(path: str | os.PathLike[str]) -> bool:
        """Return whether a folder holds an index."""
        return Store.is_store(path)

    @property
    def path(self) -> Path:
        """The folder."""
        return self.store.path

    @property
    def calibration(self) -> Calibration | None:
        """From which distance on the answer is "nobody"; None where that was not measured."""
        value = self.store.meta["calibration"]
        return None if value is None else Calibration(**value)

    def __len__(self) -> int:
        return self._ranking.columns.size

    # -- changes ------------------------------------------------------------------

    def add(self, blocks: Iterable[FeatureSet], acknowledge: Callable[[int], None] = lambda added: None) -> int:
        """Add features block by block and return how many were added.

        Args:
            blocks: features of the index's model.
            acknowledge: called with the number of features that are on the disk, each time there are more.

        Raises:
            InputError: features of another model, or the folder cannot be written.
        """
        waiting: list[FeatureSet] = []
        added = 0
        with self.store.writing():
            for block in blocks:
                self.check_model(block, "the images")
                waiting.append(block)
                if sum(map(len, waiting)) >= _ROWS:
                    added += self._append(waiting)
                    acknowledge(added)
            if waiting:
                added += self._append(waiting)
                acknowledge(added)
            self._renew_engine()
        return added

    def remove(self, label: str) -> int:
        """Remove all images of an identity and return how many there were; no feature of theirs stays in the folder.

        Raises:
            InputError: nobody has this label, or the folder cannot be written.
        """
        with self.store.writing():
            rows = self.store.rows_of(label) if label else []
            if not rows:
                raise InputError(
                    f'the index "{self.path}" holds no images of "{label}"; give a label as the images have it'
                )
            engine, indexed = self._ranking.engine, int(self.store.meta["indexed"])
            self.store.remove(rows)
            if engine is not None and engine.forget(np.array(rows)):
                self._keep_engine(engine, indexed)
            self._ranking = StoreRanking(self.store)
            self._renew_engine()
        return len(rows)

    def merge(self, others: Sequence[str | os.PathLike[str]] = ()) -> int:
        """Add what other indexes hold, write the features without gaps, build the engine anew; return how many were added.

        Raises:
            InputError: an index is of another model, or the folder cannot be written.
        """
        sources = [GalleryIndex(other) for other in others]
        for source in sources:
            if source.path.resolve() == self.path.resolve():
                raise InputError(f'the index "{self.path}" cannot be merged with itself; name another one')
            if self._model() != source._model():
                raise InputError(
                    f'the index "{source.path}" is of the model "{source.store.meta["model"]}", expected that of "{self.path}", '
                    f'"{self.store.meta["model"]}"; extract its images again'
                )
        with self.store.writing():
            # All or none: a merge that was killed and is repeated adds nothing twice.
            added = self.store.append(block for source in sources for block in source._blocks())
            self.store.compact()
            self._ranking = StoreRanking(self.store)
            self._renew_engine()
        return added

    def calibrate(self, strangers: FeatureSet, far: float) -> Calibration:
        """Choose the distance from which on the answer is "nobody", and keep it.

        The false-accept rate is that of an answer: the share of images of persons who are not in the gallery whose
        nearest image is accepted. It belongs to this gallery: with more images more strangers find somebody alike.

        Args:
            strangers: images of persons who are not in the gallery.
            far: the rate, in (0, 1).

        Raises:
            InputError: ``far`` is outside of (0, 1), the index is empty, or it holds persons of these labels.
        """
        if not 0 < far < 1:
            raise InputError(f"the false-accept rate (far) is {far}, expected between 0 and 1, for example 0.01")
        known = sorted(strangers.known_identities() & set(self._ranking.columns.numbers))
        if known:
            raise InputError(
                f'the index "{self.path}" holds images of "{known[0]}", who is among the strangers; give images of persons '
                "who are not in it"
            )
        found = self.search(strangers, 1).distances
        distances = np.sort([row[0] for row in found])
        allowed = int(far * len(distances) + 1e-9)
        # Just below the nearest stranger that must not be accepted.
        threshold = float(np.nextafter(distances[allowed], 0.0)) if allowed < len(distances) else 2.0
        chosen = Calibration(
            threshold, float((distances <= threshold).mean()), len(distances), len(strangers.known_identities()), len(self),
        )
        with self.store.writing():
            self.store.set(calibration=asdict(chosen))
        return chosen

    # -- answers ------------------------------------------------------------------

    def search(self, queries: FeatureSet, top: int = 10, metric: str = "euclidean") -> Matches:
        """Return the ``top`` nearest images of every query that count.

        Args:
            queries: features of the index's model.
            top: length of the lists.
            metric: see :func:`torchreid_nas.features.matching.pairwise_distances`.

        Raises:
            InputError: features of another model, an empty index, or ``top`` below 1.
        """
        if top < 1:
            raise InputError(f"the length of the ranked lists (top) is {top}, expected at least 1")
        self.check_model(queries, "the queries")
        if not len(self):
            raise InputError(f'the index "{self.path}" is empty; add images first: torchreid-nas index add')
        answer = self._ranking.search(queries, top, metric)
        modalities = set(self.store.counts()["modality"])
        records = [[record for _, record in row] for row in answer.lists]
        return Matches(
            queries, [[record.path for record in row] for row in records], [[record.label for record in row] for row in records],
            [[distance for distance, _ in row] for row in answer.lists], metric, len(self),
            frozenset(self._ranking.columns.numbers), tuple(answer.positives), tuple(answer.counted),
            (answer.same_images, answer.same_cameras), modalities.pop() if len(modalities) == 1 else "",
        )

    def info(self) -> dict[str, Any]:
        """Return counts, model, engine, size and calibration."""
        store, counts = self.store, self.store.counts()
        return {
            **counts, "dim": store.dim, "model": store.meta["model"], "engine": store.meta["engine"],
            "indexed": int(store.meta["indexed"]) if store.engine_file else 0, "removed": store.rows - counts["images"],
            "bytes": sum(path.stat().st_size for path in self.path.iterdir() if path.is_file()),
            "calibration": store.meta["calibration"],
        }

    def check_model(self, features: FeatureSet, what: str) -> None:
        """Raise InputError where features are not of the index's model."""
        meta = self.store.meta
        same = features.fingerprint == meta["fingerprint"] if features.fingerprint and meta["fingerprint"] else (
            features.model == meta["model"]
        )
        if not same or features.features.shape[1] != self.store.dim:
            raise InputError(
                f'{what} have features of the model "{features.model}" (length {features.features.shape[1]}), and the index '
                f'"{self.path}" holds those of "{meta["model"]}" (length {self.store.dim}); extract them with that model'
            )

    # -- inside -------------------------------------------------------------------

    def _model(self) -> tuple[str, int]:
        return self.store.meta["fingerprint"] or self.store.meta["model"], self.store.dim

    def _blocks(self) -> Iterator[tuple[np.ndarray, list[Record]]]:
        """Yield the features and records of the images that are there."""
        vectors, rows = self.store.vectors(), np.flatnonzero(self._ranking.columns.alive)
        for start in range(0, len(rows), _ROWS):
            part = rows[start:start + _ROWS]
            records = self.store.records(part)
            yield vectors[part], [records[int(row)] for row in part]

    def _append(self, waiting: list[FeatureSet]) -> int:
        whole = FeatureSet.concatenate(waiting)
        modalities = [part.modality for part in waiting for _ in range(len(part))]
        times: dict[str, float | None] = {}
        records = [
            Record(path, label, int(camid), modality, _changed_at(file, times), file)
            for path, label, camid, modality, file in zip(whole.paths, whole.labels, whole.camids, modalities, whole.files)
        ]
        self.store.append([(unit(whole.features).float().numpy(), records)])
        waiting.clear()
        self._ranking = StoreRanking(self.store)
        return len(records)

    def _renew_engine(self) -> None:
        """Bring the engine's file to what the store holds, where the gallery is large enough for one."""
        kind, store = self.store.meta["engine"], self.store
        alive = self._ranking.columns.alive
        if kind == "exact" or alive.sum() < LEAST or store.engine_file and store.meta["indexed"] == store.rows:
            return
        vectors, file = store.vectors(), store.engine_file
        if file is None:
            engine = Engine.build(kind, vectors, alive)
        else:
            engine, indexed = Engine.load(kind, file), int(store.meta["indexed"])
            engine.add(vectors, indexed + np.flatnonzero(alive[indexed:]))
        self._keep_engine(engine, store.rows)
        self._ranking = StoreRanking(store)

    def _keep_engine(self, engine: Engine, indexed: int) -> None:
        name = f"engine-{time.time_ns()}.faiss"
        engine.save(self.path / name)
        self.store.set_engine(name, indexed)


def _changed_at(file: str, known: dict[str, float | None]) -> float | None:
    """Return when the file of an image was last changed, in seconds since 1970."""
    if not file:
        return None
    name = str(split_name(file)[0])
    if name not in known:
        try:
            known[name] = Path(name).stat().st_mtime
        except (OSError, ValueError):
            known[name] = None
    return known[name]
