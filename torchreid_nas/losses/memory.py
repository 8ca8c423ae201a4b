"""The exemplar memory of ECN: one normalised feature per unlabelled target image."""
from __future__ import annotations

__all__ = ["ExemplarMemory"]

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchreid_nas.device import move
from torchreid_nas.errors import InputError
from torchreid_nas.losses.memory_shards import Shards

_NOT_FINITE = "a feature for the exemplar memory is not finite; lower train.lr or set train.amp none, the memory is unchanged"
_STORAGE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class ExemplarMemory(nn.Module):
    r"""Key memory of ECN: one entry per image.

    Zhong, Zheng, Luo, Li, Yang. "Invariance Matters: Exemplar Memory for Domain
    Adaptive Person Re-identification", CVPR 2019, Section 3.3. After the backward
    pass of a batch, :meth:`update` moves the entries of the batch's images towards
    the features f of these images (Eq. 2) and normalises the entries:

    .. math:: K[i] \leftarrow \frac{\alpha K[i] + (1 - \alpha) f_i}{\lVert \alpha K[i] + (1 - \alpha) f_i \rVert_2}

    The authors update inside ``backward``, image by image; a plain buffer with
    an explicit update gives the same numbers.

    Args:
        num_samples: N, number of entries.
        dim: D, length of a feature.
        dtype: of the stored entries. bfloat16 and float16 halve the memory (ours);
            updates are computed in float32 all the same.
        device: of the entries, default the CPU. ``.to(device)`` moves them.
        sharded: whether each of several processes holds a part of the entries. All processes then call all methods together
            and with the same arguments, those of the whole batch. ``state_dict`` has all entries on the process 0 and none
            on the others; ``load_state_dict`` takes all entries on every process.

    Attributes:
        features: (N, D) buffer, of a sharded memory this process's entries; zeros at first as in the paper, see
            :meth:`initialize`.
        shards: who holds which entries.

    Raises:
        InputError: a size is below 1, or the dtype is no floating-point type.

    >>> memory = ExemplarMemory(num_samples=2, dim=2)
    >>> memory.initialize(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    >>> memory.update(torch.tensor([[0.0, 1.0]]), torch.tensor([0]), momentum=0.5)
    >>> memory.features
    tensor([[0.7071, 0.7071],
            [0.0000, 1.0000]])
    """

    features: Tensor

    def __init__(
        self, num_samples: int, dim: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("num_samples", num_samples), ("dim", dim)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"the exemplar memory has {name} {value!r}, expected a whole number of at least 1")
        if dtype not in _STORAGE:
            names = ", ".join(str(known).removeprefix("torch.") for known in _STORAGE)
            raise InputError(f"the exemplar memory cannot store {dtype}, expected one of {names}")
        self.shards = Shards(num_samples, sharded)
        self.register_buffer("features", torch.zeros(self.shards.length, dim, dtype=dtype, device=device))
        self._skipped: Tensor | None = None

    @property
    def num_samples(self) -> int:
        """Number of entries, of all processes."""
        return self.shards.total

    @property
    def dim(self) -> int:
        """Length of a feature."""
        return self.features.shape[1]

    @torch.no_grad()
    def initialize(self, features: Tensor) -> None:
        """Fill all entries with ``features``, L2-normalised on the way (ours; the paper starts from zeros).

        Args:
            features: (N, D), any floating dtype.

        Raises:
            InputError: the shape is another one, or a feature is not finite; the memory is then unchanged.
        """
        if features.shape != (self.num_samples, self.dim):
            raise InputError(
                f"features is {tuple(features.shape)}, expected {(self.num_samples, self.dim)}, one row per entry"
            )
        self._refuse_nonfinite(features)
        self.features.copy_(F.normalize(_at_least_single(self.shards.own(features))))

    @torch.no_grad()
    def update(self, features: Tensor, indices: Tensor, momentum: float) -> None:
        """Move the entries of a batch towards the features of the batch; call it after ``backward``.

        An index that occurs several times is updated once per occurrence, in
        the order of the batch, as the authors' loop does.

        Args:
            features: (B, D), any floating dtype.
            indices: (B,) entries, int64. Indices on the CPU spare the GPU a synchronisation.
            momentum: α, the share of an entry that is kept, at least 0 and below 1. 0 overwrites.

        Raises:
            InputError: shapes do not fit, an index or the momentum is out of range, or
                a feature is not finite; the memory is then unchanged. On a GPU
                the update does not wait for the check of the features: features that
                are not finite leave the memory unchanged, and
                :meth:`refuse_skipped` raises the error.
        """
        self.check_batch(features, indices)
        if not 0 <= momentum < 1:
            raise InputError(f"momentum is {momentum}, expected at least 0 and below 1")
        finite = None
        if self._waits_for_nothing:
            finite = torch.isfinite(features).all()
            self._skipped = ~finite if self._skipped is None else self._skipped | ~finite
        else:
            self._refuse_nonfinite(features)
        features, indices = self.shards.own_batch(_at_least_single(features.detach()), indices.cpu())
        for rows, entries in _rounds(indices):
            entries = move(entries, self.features.device)
            new = features if rows is None else features.index_select(0, move(rows, features.device))
            new = (1 - momentum) * new
            old = self.features.index_select(0, entries)
            if momentum:
                new.add_(old, alpha=momentum)
            new = F.normalize(new).to(self.features.dtype)
            self.features[entries] = new if finite is None else torch.where(finite, new, old)

    def rows(self, chosen: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the ``chosen`` (B, K) entries, int64, as (B, K, D) in ``dtype``."""
        return self.shards.rows(self.features, chosen, dtype)

    def refuse_skipped(self) -> None:
        """Raise InputError where a GPU left an update out because a feature was not finite; waits for the GPU."""
        skipped, self._skipped = self._skipped, None
        if skipped is not None and bool(skipped):
            raise InputError(_NOT_FINITE)

    @property
    def _waits_for_nothing(self) -> bool:
        return self.features.is_cuda

    def check_batch(self, features: Tensor, indices: Tensor) -> None:
        """Raise InputError where the shapes or indices of a batch do not fit the memory.

        Args:
            features: (B, D).
            indices: (B,) entries, int64.
        """
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise InputError(
                f"features is {tuple(features.shape)}, expected (batch, {self.dim}) for this exemplar memory"
            )
        if indices.shape != features.shape[:1] or indices.dtype != torch.int64 or not len(indices):
            raise InputError(
                f"indices is {tuple(indices.shape)} {indices.dtype}, expected ({max(len(features), 1)},) torch.int64, "
                "one entry of the exemplar memory per feature"
            )
        low, high = (int(value) for value in torch.aminmax(indices))
        if low < 0 or high >= self.num_samples:
            raise InputError(
                f"the index {low if low < 0 else high} is outside the exemplar memory, which has entries 0 to "
                f"{self.num_samples - 1}; number the target images from 0"
            )

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}features"] = self.shards.collect(destination[f"{prefix}features"])

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        name = f"{prefix}features"
        if len(state_dict.get(name, ())) == self.num_samples:
            state_dict = {**state_dict, name: self.shards.own(state_dict[name])}
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """Return the sizes and the dtype, for ``repr``."""
        shard = "" if self.shards.whole else f", entries {self.shards.first} to {self.shards.first + self.shards.length - 1} here"
        return f"{self.num_samples}, {self.dim}, dtype={self.features.dtype}{shard}"

    @staticmethod
    def _refuse_nonfinite(features: Tensor) -> None:
        # One entry of NaN would spoil every later softmax. The sum is fast, and finite only if all features are finite.
        if not torch.isfinite(features.sum()) and not torch.isfinite(features).all():
            raise InputError(_NOT_FINITE)


def _at_least_single(features: Tensor) -> Tensor:
    return features if features.dtype == torch.float64 else features.float()


def _rounds(indices: Tensor) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Part a batch into rounds that hold an entry once: the rows of the batch (None for all) and their entries.

    The n-th round holds the indices that occur for the n-th time. NumPy starts faster than torch on so few numbers.
    """
    order = np.argsort(indices.numpy(), kind="stable")
    ordered = indices.numpy()[order]
    if (ordered[1:] != ordered[:-1]).all():
        yield None, indices
        return
    occurrence = np.empty_like(order)
    occurrence[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    for number in range(occurrence.max() + 1):
        rows = torch.from_numpy(np.flatnonzero(occurrence == number))
        yield rows, indices[rows]
