"""The exemplar memory of ECN: one normalised feature per unlabelled target image."""
from __future__ import annotations

__all__ = ["ExemplarMemory"]

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from torchreid_nas.device import move
from torchreid_nas.errors import InputError

_NOT_FINITE = "a feature for the exemplar memory is not finite; lower train.lr or turn train.amp off, the memory is unchanged"
_STORAGE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class ExemplarMemory(nn.Module):
    r"""Key memory of ECN (Zhong et al., "Invariance Matters", CVPR 2019, Section 3.3): one slot per image.

    After the backward pass of a batch, :meth:`update` moves the slots of its
    images towards their features f (Eq. 2) and normalises them:

    .. math:: K[i] \leftarrow \frac{\alpha K[i] + (1 - \alpha) f_i}{\lVert \alpha K[i] + (1 - \alpha) f_i \rVert_2}

    The authors update inside ``backward``, image by image; a plain buffer with
    an explicit update gives the same numbers.

    Args:
        num_samples: N, number of slots.
        dim: D, length of a feature.
        dtype: of the stored slots. bfloat16 or float16 halve the memory (ours);
            updates are computed in float32 all the same.
        device: where the slots live; default the CPU, ``.to(device)`` moves them.

    Attributes:
        features: (N, D) buffer, zeros at first as in the paper; see :meth:`initialize`.

    Raises:
        InputError: a size below 1, or a dtype that is no floating point.
    """

    features: Tensor

    def __init__(
        self, num_samples: int, dim: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("num_samples", num_samples), ("dim", dim)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"the exemplar memory has {name} {value!r}, expected a whole number of at least 1")
        if dtype not in _STORAGE:
            names = ", ".join(str(known).removeprefix("torch.") for known in _STORAGE)
            raise InputError(f"the exemplar memory cannot store {dtype}, expected one of {names}")
        self.register_buffer("features", torch.zeros(num_samples, dim, dtype=dtype, device=device))
        self._skipped: Tensor | None = None

    @property
    def num_samples(self) -> int:
        """Number of slots."""
        return self.features.shape[0]

    @property
    def dim(self) -> int:
        """Length of a feature."""
        return self.features.shape[1]

    @torch.no_grad()
    def initialize(self, features: Tensor) -> None:
        """Fill all slots with ``features``, (N, D), L2-normalised on the way (ours; the paper starts from zeros).

        Raises:
            InputError: another shape, or a feature that is not finite; the memory is then unchanged.
        """
        if features.shape != self.features.shape:
            raise InputError(
                f"the features to start the memory from are {tuple(features.shape)}, expected {tuple(self.features.shape)}"
            )
        self._refuse_nonfinite(features)
        self.features.copy_(F.normalize(_at_least_single(features)))

    @torch.no_grad()
    def update(self, features: Tensor, indices: Tensor, momentum: float) -> None:
        """Move the slots of a batch towards its features; call it after ``backward``.

        An index that occurs several times is updated once per occurrence, in
        the order of the batch, as the authors' loop does.

        Args:
            features: (B, D), any floating dtype.
            indices: (B,) slots, int64. On the CPU they spare the GPU a synchronisation.
            momentum: α, what is kept of a slot; at least 0 and below 1. 0 overwrites.

        Raises:
            InputError: shapes, an index out of range, a momentum out of range or
                a feature that is not finite; the memory is then unchanged. Whether
                features on a GPU are finite is not waited for: an update by
                features that are not leaves the memory unchanged, and
                :meth:`refuse_skipped` raises the error.
        """
        self.check_batch(features, indices)
        if not 0 <= momentum < 1:
            raise InputError(f"the momentum of the exemplar memory is {momentum}, expected at least 0 and below 1")
        finite = None
        if self._waits_for_nothing:
            finite = torch.isfinite(features).all()
            self._skipped = ~finite if self._skipped is None else self._skipped | ~finite
        else:
            self._refuse_nonfinite(features)
        features = _at_least_single(features.detach())
        for rows, slots in _rounds(indices.cpu()):
            slots = move(slots, self.features.device)
            new = features if rows is None else features.index_select(0, move(rows, features.device))
            new = (1 - momentum) * new
            old = self.features.index_select(0, slots) if momentum or finite is not None else None
            if momentum:
                new.add_(old, alpha=momentum)
            new = F.normalize(new).to(self.features.dtype)
            self.features[slots] = new if finite is None else torch.where(finite, new, old)

    def refuse_skipped(self) -> None:
        """Raise InputError where an update was left out on a GPU because of a feature that was not finite; waits for it."""
        skipped, self._skipped = self._skipped, None
        if skipped is not None and bool(skipped):
            raise InputError(_NOT_FINITE)

    @property
    def _waits_for_nothing(self) -> bool:
        return self.features.is_cuda

    def check_batch(self, features: Tensor, indices: Tensor) -> None:
        """Raise InputError where a batch does not fit the memory in shape or index."""
        if features.ndim != 2 or features.shape[1] != self.dim:
            raise InputError(
                f"the features are {tuple(features.shape)}, expected (batch, {self.dim}) for this exemplar memory"
            )
        if indices.shape != features.shape[:1] or indices.dtype != torch.int64 or not len(indices):
            raise InputError(
                f"the indices of the exemplar memory are {tuple(indices.shape)} {indices.dtype}, expected "
                f"({max(len(features), 1)},) torch.int64, one slot per feature"
            )
        low, high = (int(value) for value in torch.aminmax(indices))
        if low < 0 or high >= self.num_samples:
            raise InputError(
                f"the index {low if low < 0 else high} is outside the exemplar memory, which has slots 0 to "
                f"{self.num_samples - 1}; number the target images from 0"
            )

    def extra_repr(self) -> str:
        return f"{self.num_samples}, {self.dim}, dtype={self.features.dtype}"

    @staticmethod
    def _refuse_nonfinite(features: Tensor) -> None:
        # A single slot of NaN would spoil every softmax from then on. The sum is finite only if all are, and quickly had.
        if not torch.isfinite(features.sum()) and not torch.isfinite(features).all():
            raise InputError(_NOT_FINITE)


def _at_least_single(features: Tensor) -> Tensor:
    return features if features.dtype == torch.float64 else features.float()


def _rounds(indices: Tensor) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Part a batch into rounds without a slot twice: the places in the batch (None for all) and their slots.

    The n-th round has what occurs for the n-th time. In NumPy, which starts faster than torch on so few numbers.
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
