"""How alike the images of persons are, camera effects taken out: which person falls into two, and which two fall into one."""
from __future__ import annotations

__all__ = ["Likeness", "Pair", "Split"]

from dataclasses import dataclass

import numpy as np

# Persons with more images are judged by that many, the first of them.
_MOST_IMAGES = 200
# A person needs this many images to fall into two groups of at least two (ours).
_LEAST_IMAGES = 4
_LEAST_GROUP = 2
# Persons whose pairs are compared with all others at once.
_BLOCK = 1024
# A scale of likeness needs this many pairs of images (ours).
_FEW_PAIRS = 30


@dataclass(frozen=True)
class Split:
    """A person whose images fall into two groups.

    Attributes:
        person: index of the person.
        score: how unlike the groups are: 0 as images of one person, 1 as images of two.
        groups: indices of the images of each, the larger group first.
    """

    person: int
    score: float
    groups: tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Pair:
    """Two persons who look alike.

    Attributes:
        persons: their indices.
        score: how unlike their images are, on the scale of :class:`Split`.
    """

    persons: tuple[int, int]
    score: float


class Likeness:
    """Unlikeness of images and persons on a scale on which 0 is one person and 1 is two.

    Images of one camera look alike whoever is on them. Features are
    therefore centred and scaled by camera, and the cosine of two images is held
    against the usual cosines of one person and of two, of one camera or of two,
    whichever the images are of: ``(one - cosine) / (one - two)``, medians over
    the data set. Wrong labels hardly move medians. (Ours.)

    Args:
        features: (N, D) of the images.
        persons: (N,) index of the person of each image, 0 to P - 1.
        cameras: (N,) number of the camera.

    Example:
        >>> generator = np.random.default_rng(0)
        >>> people = generator.standard_normal((12, 16))
        >>> persons = np.repeat(np.arange(12), 6)
        >>> features = people[persons] + 0.3 * generator.standard_normal((72, 16))
        >>> persons[persons == 11] = 10
        >>> found = Likeness(features, persons, np.zeros(72, int))
        >>> split = max(found.splits(), key=lambda split: split.score)
        >>> split.person, sorted(map(len, split.groups)), split.score > 0.5
        (10, [6, 6], True)
    """

    def __init__(self, features: np.ndarray, persons: np.ndarray, cameras: np.ndarray) -> None:
        _, self.cameras = np.unique(cameras, return_inverse=True)
        self.persons = persons
        self.features = _centred(features.astype(np.float32), self.cameras)
        self.count = int(persons.max()) + 1 if len(persons) else 0
        # (cosine of one person, of two) for images of two cameras and of one camera.
        self.scales = self._scales()

    def splits(self) -> list[Split]:
        """Return for every person with enough images the groups that its images fall into, and how unlike these are."""
        found = []
        order = np.argsort(self.persons, kind="stable")
        edges = np.flatnonzero(np.diff(self.persons[order])) + 1
        for members in np.split(order, edges):
            members = members[:_MOST_IMAGES]
            if len(members) < _LEAST_IMAGES:
                continue
            unlike = self._unlikeness(members)
            second = _halves(unlike)
            if min(second.sum(), (~second).sum()) < _LEAST_GROUP:
                continue
            score = float(unlike[np.ix_(second, ~second)].mean())
            groups = sorted((members[~second], members[second]), key=len, reverse=True)
            found.append(Split(int(self.persons[members[0]]), score, (groups[0], groups[1])))
        return found

    def pairs(self, most: int) -> tuple[list[Pair], np.ndarray]:
        """Return the most alike pairs of persons, and the scores of a sample of all pairs.

        Args:
            most: pairs to return.
        """
        sums = np.zeros((int(self.cameras.max()) + 1, self.count, self.features.shape[1]), dtype=np.float32)
        np.add.at(sums, (self.cameras, self.persons), self.features)
        numbers = np.zeros(sums.shape[:2], dtype=np.float32)
        np.add.at(numbers, (self.cameras, self.persons), 1)
        whole, images = sums.sum(axis=0), numbers.sum(axis=0)
        best: list[tuple[float, int, int]] = []
        sample = []
        for start in range(0, self.count, _BLOCK):
            rows = slice(start, start + _BLOCK)
            same = sum(part[rows] @ part.T for part in sums)
            same_pairs = sum(number[rows, None] * number for number in numbers)
            other, other_pairs = whole[rows] @ whole.T - same, images[rows, None] * images - same_pairs
            unlike = np.zeros(same.shape, dtype=np.float32)
            for (one, two), total, pairs in zip(self.scales, (other, same), (other_pairs, same_pairs)):
                unlike += (one * pairs - total) / (one - two)
            with np.errstate(divide="ignore", invalid="ignore"):
                unlike /= images[rows, None] * images
            row, column = np.nonzero(np.triu(np.isfinite(unlike), start + 1))
            values = unlike[row, column]
            sample.append(values[:: max(len(values) // 100_000, 1)])
            for place in np.argsort(values)[:most]:
                best.append((float(values[place]), start + int(row[place]), int(column[place])))
        best = sorted(best)[:most]
        return [Pair((first, second), score) for score, first, second in best], np.concatenate(sample) if sample else np.empty(0)

    def _unlikeness(self, members: np.ndarray) -> np.ndarray:
        cosine = self.features[members] @ self.features[members].T
        same = (self.cameras[members, None] == self.cameras[members]).astype(int)
        scales = np.array(self.scales)
        return (scales[same, 0] - cosine) / (scales[same, 0] - scales[same, 1])

    def _scales(self) -> list[tuple[float, float]]:
        """Return the medians of the cosines of one person and of two, for images of two cameras and of one."""
        generator = np.random.default_rng(0)
        ones: list[list[float]] = [[], []]
        for person in generator.permutation(self.count)[:2000]:
            members = np.flatnonzero(self.persons == person)[:20]
            cosine = self.features[members] @ self.features[members].T
            same = self.cameras[members, None] == self.cameras[members]
            upper = np.triu(np.ones_like(same), 1).astype(bool)
            for relation in range(2):
                ones[relation] += cosine[upper & (same == bool(relation))].tolist()
        chosen = generator.permutation(len(self.persons))[:2000]
        cosine = self.features[chosen] @ self.features[chosen].T
        same = self.cameras[chosen, None] == self.cameras[chosen]
        different = self.persons[chosen, None] != self.persons[chosen]
        twos = [cosine[different & (same == bool(relation))] for relation in range(2)]
        every = [value for values in ones for value in values], np.concatenate(twos) if len(chosen) else np.zeros(0)
        scales = []
        for one, two in zip(ones, twos):
            enough = min(len(one), len(two)) >= _FEW_PAIRS
            medians = [float(np.median(values)) if len(values) else 0.0 for values in ((one, two) if enough else every)]
            # Features that tell nothing have no scale: a large one makes everybody alike.
            scales.append((medians[0], min(medians[1], medians[0] - 1e-3)))
        return scales


def _centred(features: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Return features of length 1 after each camera's mean is taken away, and its spread made 1."""
    features = features.copy()
    for camera in range(int(cameras.max()) + 1 if len(cameras) else 0):
        own = cameras == camera
        features[own] -= features[own].mean(axis=0)
        features[own] /= features[own].std(axis=0) + 1e-6
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _halves(unlike: np.ndarray) -> np.ndarray:
    """Return which images belong to the second of two groups: the sign of the first axis, then moved where it fits better."""
    centred = -(unlike - unlike.mean(axis=0) - unlike.mean(axis=1, keepdims=True) + unlike.mean())
    second = np.linalg.eigh(centred)[1][:, -1] > 0
    for _ in range(10):
        if second.all() or not second.any():
            break
        nearer = unlike[:, second].mean(axis=1) < unlike[:, ~second].mean(axis=1)
        if (nearer == second).all():
            break
        second = nearer
    return second
