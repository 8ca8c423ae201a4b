"""What every metric checks of the features and labels that it is given."""
from __future__ import annotations

__all__ = ["as_cameras", "as_features", "as_float", "as_labels", "as_tensor", "check_metric", "common_part"]

import warnings
from typing import Any

import numpy as np
import torch

from torchreid_nas.errors import InputError


def as_labels(name: str, labels: Any, count: int, what: str) -> np.ndarray:
    """Return ``labels`` as an integer array of shape (count,).

    Raises:
        InputError: another shape or no integers; the message names ``name`` and ``what`` they belong to.
    """
    array = labels.detach().cpu().numpy() if isinstance(labels, torch.Tensor) else np.asarray(labels)
    if array.shape != (count,) or not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"{name} has shape {array.shape} and dtype {array.dtype}, expected ({count},) integers; "
            f"pass one per each of the {count} {what}"
        )
    return array


def as_cameras(
    cameras: tuple[Any, Any] | None, counts: tuple[int, int], whats: tuple[str, str],
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the cameras of queries and gallery as :func:`as_labels` does, None where there are none."""
    if cameras is None:
        return None
    query, gallery = map(as_labels, ("q_camids", "g_camids"), cameras, counts, whats)
    return query, gallery


def as_float(features: torch.Tensor) -> torch.Tensor:
    """Return features as they are in float32 and float64, others in float32."""
    return features if features.dtype in (torch.float32, torch.float64) else features.float()


def as_features(query: Any, gallery: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features as tensors; NumPy arrays and memory maps are not copied.

    Raises:
        InputError: they are no numbers, or not (Q, D) and (G, D), or one of them is empty.
    """
    query, gallery = as_tensor("the query features are", query), as_tensor("the gallery features are", gallery)
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1] or not len(query) or not len(gallery):
        raise InputError(
            f"query and gallery features have shapes {tuple(query.shape)} and {tuple(gallery.shape)}, expected (Q, D) and "
            "(G, D) with the same D and at least one row each"
        )
    return query, gallery


# Share of the squared length that features have in common above which float32 keeps too few digits of their distances.
_PARALLEL = 0.9


def common_part(query: torch.Tensor, metric: str) -> torch.Tensor | None:
    """Return the mean of nearly parallel features, (D,), which is to be subtracted before Euclidean distances.

    A squared distance is computed as two squared lengths less twice a product.
    Of features that share most of their length these are large numbers whose
    difference is small, and float32 loses its digits. Less any common vector
    the distances are the same.

    Args:
        query: (Q, D) features.
        metric: ``"euclidean"``; for any other there is nothing to subtract.

    Returns:
        The mean, or None where the features are not nearly parallel.

    Example:
        >>> common_part(torch.tensor([[100.0, 1.0], [100.0, -1.0]]), "euclidean")
        tensor([100.,   0.])
        >>> common_part(torch.eye(2), "euclidean") is None
        True
    """
    if metric != "euclidean":
        return None
    query = as_float(query)
    mean = query.mean(dim=0)
    shared = mean.square().sum() / query.square().sum(dim=1).mean()
    return mean if shared > _PARALLEL else None


def check_metric(metric: str) -> None:
    """Refuse what is no distance of torchreid's."""
    if metric not in ("euclidean", "cosine"):
        raise InputError(f'metric is "{metric}", expected "euclidean" or "cosine"')


def as_tensor(what: str, values: Any) -> torch.Tensor:
    """Return numbers as a tensor; a NumPy array or memory map is not copied.

    Raises:
        InputError: they are no numbers; the message begins with ``what`` ("the features are").
    """
    if isinstance(values, torch.Tensor):
        return values
    array = np.asarray(values)
    # torch knows no negative strides.
    array = np.ascontiguousarray(array) if min(array.strides, default=0) < 0 else array
    try:
        with warnings.catch_warnings():
            # torch warns that writing through the tensor would fail for a read-only map; nothing here writes.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what} an array of dtype {array.dtype} that torch cannot read ({error}); pass a tensor or an array of float32"
        ) from error
