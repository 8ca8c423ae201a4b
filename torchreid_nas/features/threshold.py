"""Which distance still means the same person: ROC over the pairs of labelled images, and a chosen false-accept rate."""
from __future__ import annotations

__all__ = ["OperatingPoint", "ROC", "compute_roc"]

from dataclasses import dataclass

import numpy as np

from torchreid_nas.errors import InputError
from torchreid_nas.features import matching
from torchreid_nas.features.feature_set import FeatureSet
from torchreid_nas.features.labels import NO_LABEL
from torchreid_nas.features.matching import pairwise_distances, unit
from torchreid_nas.features.pairs import Images, counted_pairs

# A power of two: distances times it are exact, so that counts at the grid's points are exact too.
_STEPS = 2**19
_LAST = 2 * _STEPS


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does on the validation pairs.

    Attributes:
        distance: pairs at most that far apart are accepted.
        far: share of the impostor pairs (different persons) accepted.
        tar: share of the genuine pairs (same person) accepted.
        false_accepts: the number behind ``far``.
    """

    distance: float
    far: float
    tar: float
    false_accepts: int


@dataclass(frozen=True, eq=False)
class ROC:
    """Genuine and impostor pairs by distance, counted on a grid of 2⁻¹⁹ over [0, 2] (exact at its points).

    Attributes:
        genuine: (2²⁰ + 1,) int64; entry b counts the pairs with a distance in
            ((b − 1) / 2¹⁹, b / 2¹⁹].
        impostor: the same of pairs of different persons.
        metric: of the distances.
    """

    genuine: np.ndarray
    impostor: np.ndarray
    metric: str

    @property
    def num_genuine(self) -> int:
        """Pairs of the same person."""
        return int(self.genuine.sum())

    @property
    def num_impostor(self) -> int:
        """Pairs of different persons."""
        return int(self.impostor.sum())

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return distances, FAR and TAR wherever one of the rates changes, ascending."""
        places = np.flatnonzero(self.genuine + self.impostor)
        far = self.impostor.cumsum()[places] / self.num_impostor
        return places / _STEPS, far, self.genuine.cumsum()[places] / self.num_genuine

    def at_far(self, far: float) -> OperatingPoint:
        """Return the loosest threshold whose false-accept rate is at most ``far``.

        With fewer than 1 / ``far`` impostor pairs this threshold lies just below the nearest of them.

        Raises:
            InputError: ``far`` outside of (0, 1), or an impostor pair at distance 0 that it does not allow.
        """
        if not 0 < far < 1:
            raise InputError(f"the false-accept rate (far) is {far}, expected between 0 and 1, for example 0.01")
        # Without the tiny amount, 0.01 of 100 pairs could come out as 0.
        allowed = int(far * self.num_impostor + 1e-9)
        place = int(np.searchsorted(self.impostor.cumsum(), allowed, side="right")) - 1
        if place < 1:
            raise InputError(
                f"no threshold reaches far={far:g}: {self.impostor[:2].sum()} of {self.num_impostor} pairs of "
                "different persons have distance 0, which are copies of one image under two labels, or a model that "
                "sees no difference; check the labels and the model"
            )
        return self._point(place / _STEPS, place)

    def at_distance(self, distance: float) -> OperatingPoint:
        """Return what the threshold ``distance`` does, rounded down to the grid."""
        return self._point(distance, int(min(max(np.floor(distance * _STEPS), -1), _LAST)))

    def equal_error(self) -> tuple[float, float]:
        """Return the equal error rate, the least of max(FAR, 1 − TAR), and its distance."""
        distances, far, tar = self.curve()
        worst = np.maximum(far, 1 - tar)
        return float(worst.min()), float(distances[worst.argmin()])

    def _point(self, distance: float, place: int) -> OperatingPoint:
        accepted, genuine = (int(counts[:place + 1].sum()) for counts in (self.impostor, self.genuine))
        return OperatingPoint(distance, accepted / self.num_impostor, genuine / self.num_genuine, accepted)


def compute_roc(queries: FeatureSet, gallery: FeatureSet | None = None, metric: str = "euclidean") -> ROC:
    """Count the distances of all pairs of labelled images.

    Pairs are each query with each gallery image, or, without ``gallery``, each
    two images of ``queries`` once. Left out are images without identity, and
    the pairs that do not count (:func:`torchreid_nas.features.pairs.counted_pairs`):
    frames of one scene would flatter the threshold. Pairs of different persons
    count whatever their cameras.

    Args:
        queries: features with labels; for two modalities those of one.
        gallery: likewise; for two modalities those of the other.
        metric: see :func:`torchreid_nas.features.matching.pairwise_distances`.

    Raises:
        InputError: there is no pair of the same person, or none of different persons.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
        >>> names = ("a0", "a1", "b0", "b1")
        >>> roc = compute_roc(FeatureSet(features, names, ("a", "a", "b", "b"), np.full(4, -1)))
        >>> roc.num_genuine, roc.num_impostor, roc.at_far(0.25).tar
        (2, 4, 1.0)
    """
    within = gallery is None
    left = _labelled(queries)
    right = left if gallery is None else _labelled(gallery)
    features, images = [unit(part.features) for part in (left, right)], [Images.of(part) for part in (left, right)]
    counts = np.zeros((2, _LAST + 1), dtype=np.int64)
    rows = max(1, matching.BLOCK_ENTRIES // max(1, len(right)))
    for start in range(0, len(left), rows):
        span = slice(start, start + rows)
        distances = pairwise_distances(features[0][span], features[1], metric).numpy()
        _, same, counted = counted_pairs(images[0][span], images[1])
        if within:
            counted &= np.arange(len(left))[span, None] < np.arange(len(right))
        places = np.ceil(distances * _STEPS).astype(np.int64)
        for row, mask in enumerate((same & counted, ~same & counted)):
            counts[row] += np.bincount(places[mask], minlength=_LAST + 1)
    roc = ROC(counts[0], counts[1], metric)
    if not roc.num_genuine or not roc.num_impostor:
        raise InputError(_too_little(roc, len(left), len(right), len({*left.labels, *right.labels})))
    return roc


def _labelled(part: FeatureSet) -> FeatureSet:
    return part.take([index for index, label in enumerate(part.labels) if label != NO_LABEL])


def _too_little(roc: ROC, num_left: int, num_right: int, num_identities: int) -> str:
    what = "of different persons" if roc.num_genuine else "of the same person (from two cameras where these are known)"
    return (
        f"the validation images have no pair {what}: {num_left} × {num_right} labelled images of {num_identities} "
        "identities; give a folder with a sub-folder per person, or names as in Market-1501 (0002_c1s1_000451_03.jpg), "
        "with several images of several persons"
    )
