"""Near-copies among many images: hashes that differ in few bits, then small pictures that hardly differ."""
from __future__ import annotations

__all__ = ["close_hashes", "near_copies"]

from collections.abc import Iterator

import numpy as np

# Hashes of 64 bits that differ in fewer bits than there are bands of 8 bits agree in at least one band.
_BANDS = 8
_DISTANCE = _BANDS - 1
# Pairs of thumbs whose grey values, each with its mean taken away, differ by less on average are near-copies (ours). On
# generated persons of 64 x 32 pixels, JPEG, rescaling and a change of light make up to 4.6, and two images at least 13.
_DIFFERENCE = 6.0
# Thumbs with less contrast show nothing to compare.
_CONTRAST = 4.0
# Comparisons that are made at once: 32 MiB of hashes.
_AT_ONCE = 2**22
# Close hashes that are kept of one hash and band, spread evenly: a thousand frames of an empty scene are half a million pairs.
_MATES = 64
_BITS = np.array([bin(number).count("1") for number in range(2**16)], dtype=np.uint8)


def close_hashes(hashes: np.ndarray, most: int = _DISTANCE) -> np.ndarray:
    """Return the pairs of 64-bit hashes that differ in at most ``most`` bits.

    Each hash is cut into 8 bands of 8 bits. Hashes that differ in 7 bits or fewer agree in one band, so that only
    hashes with an equal band are compared, in blocks of NumPy. Of a hash with more than 64 close ones in a band, 64 are kept.

    Args:
        hashes: (N,) uint64.
        most: bits, at most 7.

    Returns:
        (P, 2) int64, the smaller index first, each pair once, in ascending order.

    Example:
        >>> close_hashes(np.array([0, 7, 2**64 - 1], dtype=np.uint64)).tolist()
        [[0, 1]]
    """
    if not 0 <= most <= _DISTANCE:
        raise ValueError(f"most is {most}, expected 0 to {_DISTANCE}")
    hashes = np.ascontiguousarray(hashes, dtype="<u8")
    bands = hashes.view("u1").reshape(len(hashes), _BANDS)
    pairs = np.empty((0, 2), dtype=np.int64)
    for band in range(_BANDS):
        order = np.argsort(bands[:, band], kind="stable")
        edges = np.flatnonzero(np.diff(bands[order, band])) + 1
        found = [pairs]
        for members in np.split(order, edges):
            if len(members) > 1:
                found += _pairs_within(hashes, members, most)
        pairs = np.unique(np.concatenate(found), axis=0)
    return pairs


def near_copies(hashes: np.ndarray, thumbs: np.ndarray) -> np.ndarray:
    """Return the pairs of images that show the same picture, but for size, compression and brightness.

    Args:
        hashes: (N,) uint64, see :func:`close_hashes`.
        thumbs: (N, height, width) uint8.

    Returns:
        (P, 2) int64, as :func:`close_hashes`.

    Example:
        >>> thumb = np.arange(512, dtype=np.uint8).reshape(1, 32, 16) // 2
        >>> near_copies(np.zeros(2, np.uint64), np.concatenate([thumb, thumb + 1])).tolist()
        [[0, 1]]
    """
    pairs = close_hashes(hashes)
    alike = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), 4096):
        first, second = (_centred(thumbs[pairs[start:start + 4096, side]]) for side in range(2))
        contrast = np.minimum(first.std(axis=1), second.std(axis=1))
        difference = np.abs(first - second).mean(axis=1)
        alike[start:start + 4096] = (difference < _DIFFERENCE) & (contrast > _CONTRAST)
    return pairs[alike]


def _centred(thumbs: np.ndarray) -> np.ndarray:
    flat = thumbs.reshape(len(thumbs), -1).astype(np.float32)
    return flat - flat.mean(axis=1, keepdims=True)


def _pairs_within(hashes: np.ndarray, members: np.ndarray, most: int) -> Iterator[np.ndarray]:
    """Yield the close pairs of images that share a band."""
    own = hashes[members]
    rows_at_once = max(_AT_ONCE // len(members), 1)
    for start in range(0, len(members), rows_at_once):
        distance = _popcount(own[start:start + rows_at_once, None] ^ own[None, start:])
        rows, columns = np.nonzero(np.triu(distance <= most, 1))
        keep = _spread(rows, _MATES)
        first, second = members[start + rows[keep]], members[start + columns[keep]]
        yield np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1).astype(np.int64)


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    """Return a mask of ascending row numbers that keeps at most so many of each row, spread evenly.

    >>> _spread(np.array([0, 3, 3, 3, 3]), 2).tolist()
    [True, True, False, True, False]
    """
    _, first, count = np.unique(rows, return_index=True, return_counts=True)
    rank, own = np.arange(len(rows)) - np.repeat(first, count), np.repeat(count, count)
    return rank * most // own != (rank - 1) * most // own


def _popcount(values: np.ndarray) -> np.ndarray:
    """Return the number of bits that are set, of uint64 values."""
    if hasattr(np, "bitwise_count"):  # NumPy 2
        return np.bitwise_count(values)
    return _BITS[values.view("<u2").reshape(*values.shape, 4)].sum(axis=-1, dtype=np.uint8)
