"""k-reciprocal encoding: every image as a sparse vector over the images that it is a mutual neighbour of."""
from __future__ import annotations

__all__ = ["encode", "nearest"]

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_array

from torchreid_nas.metrics.places import in_row_pieces

_PIECE_ELEMENTS = 2**24  # of the largest array in the search for reciprocal sets

Pairs = Callable[[np.ndarray, np.ndarray], np.ndarray]


def nearest(block: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``count`` smallest entries of each row, ascending, and their columns, (R, count) int32.

    On the CPU ties keep the order of the columns, and NumPy's vectorised
    partition finds the last of the values, so that the rest is a comparison.
    """
    if block.device.type != "cpu":
        found = block.topk(count, dim=1, largest=False, sorted=True)
        return found.values.cpu().numpy(), found.indices.int().cpu().numpy()
    values = block.numpy()
    bounds = np.empty((len(values), 1), values.dtype)

    def bound(rows: slice) -> None:
        bounds[rows] = np.partition(values[rows], count - 1, axis=1)[:, count - 1, None]

    in_row_pieces(bound, values)
    # More than ``count`` in a row whose last is tied.
    rows, columns = np.divmod(np.flatnonzero(values <= bounds), values.shape[1])
    smallest = values[rows, columns]
    starts = np.searchsorted(rows, np.arange(len(values)))
    chosen = np.lexsort((smallest, rows))[starts[:, None] + np.arange(count)]
    return smallest[chosen], columns[chosen].astype(np.int32)


def encode(neighbours: np.ndarray, distances: np.ndarray, pairs: Pairs, k1: int, k2: int) -> csr_array:
    """Return the vectors V of all images (Zhong et al., CVPR 2017, equations 4 to 7 and 11).

    Args:
        neighbours: (N, K) int32, the nearest of each image, itself among them,
            ascending; K = max(k1 + 1, k2), or N where there are fewer.
        distances: (N, K) float32 of these.
        pairs: gives further distances, from images to images, both index arrays of one shape.
        k1: neighbours that reciprocal sets are sought among.
        k2: neighbours that a vector is averaged over; 1 leaves it as it is.

    Returns:
        (N, N) float32 in compressed rows, each with the sum 1. An image with so many duplicates that it is
        not among its own neighbours may be nobody's mutual neighbour: its row is empty before the averaging.
    """
    # NumPy rounds a half to the even number, and torchreid with it.
    half = int(np.around(k1 / 2)) + 1
    lists, halves = neighbours[:, : k1 + 1], neighbours[:, :half]
    whole_sets, half_sets = _reciprocal(lists), _reciprocal(halves)
    sizes, columns = [], []
    for rows in _pieces(len(lists), lists.shape[1] ** 2 * half):
        found, kept = _expand(lists[rows], whole_sets[rows], halves, half_sets)
        sizes.append(kept.sum(axis=1))
        columns.append(found[kept])
    counts, indices = np.concatenate(sizes), np.concatenate(columns)
    starts = np.concatenate([[0], counts.cumsum()])
    owners = np.repeat(np.arange(len(lists)), counts)
    weights = np.exp(-_look_up(neighbours, distances, pairs, owners, indices))
    weights /= np.bincount(owners, weights, minlength=len(lists))[owners]
    vectors = csr_array((weights.astype(np.float32), indices, starts), shape=(len(lists), len(lists)))
    if k2 == 1:
        return vectors
    averaged = neighbours[:, :k2]
    share = np.full(averaged.size, 1 / averaged.shape[1], dtype=np.float32)
    starts = np.arange(0, averaged.size + 1, averaged.shape[1])
    means = csr_array((share, averaged.ravel(), starts), shape=vectors.shape)
    return means @ vectors


def _reciprocal(lists: np.ndarray) -> np.ndarray:
    """Return which entries of the lists have the list's owner in their own, (N, K) bool."""
    mutual = np.empty(lists.shape, dtype=bool)
    for rows in _pieces(len(lists), lists.shape[1] ** 2):
        owners = np.arange(rows.start, rows.stop, dtype=lists.dtype)
        mutual[rows] = (lists[lists[rows]] == owners[:, None, None]).any(axis=2)
    return mutual


def _expand(
    lists: np.ndarray, mutual: np.ndarray, halves: np.ndarray, half_sets: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Join to each set those of its members, of half the length, that lie in it for more than two thirds.

    Returns:
        (R, K + K H) images, ascending in each row, and which of them to keep, each once.
    """
    members, member_sets = halves[lists], half_sets[lists] & mutual[:, :, None]
    own = np.where(mutual, lists, -1)
    within = (members[..., None] == own[:, None, None, :]).any(axis=3) & member_sets
    # In whole numbers: 2 / 3 is none in floating point.
    joined = 3 * within.sum(axis=2) > 2 * member_sets.sum(axis=2)
    added = np.where(member_sets & joined[:, :, None], members, -1).reshape(len(lists), -1)
    found = np.sort(np.concatenate([own, added], axis=1), axis=1)
    kept = found >= 0
    kept[:, 1:] &= found[:, 1:] != found[:, :-1]
    return found, kept


def _look_up(
    neighbours: np.ndarray, distances: np.ndarray, pairs: Pairs, owners: np.ndarray, images: np.ndarray,
) -> np.ndarray:
    """Return the distances of owners to images: most are in the lists, the others are asked for."""
    found = np.empty(len(owners), dtype=np.float32)
    for part in _pieces(len(owners), neighbours.shape[1]):
        listed = neighbours[owners[part]] == images[part, None]
        found[part] = distances[owners[part], listed.argmax(axis=1)]
        missing = np.flatnonzero(~listed.any(axis=1)) + part.start
        found[missing] = pairs(owners[missing], images[missing])
    return found


def _pieces(count: int, elements: int) -> list[slice]:
    step = max(1, _PIECE_ELEMENTS // elements)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]
