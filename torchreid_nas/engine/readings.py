"""Losses of the steps, without waiting for the device that computes them."""
from __future__ import annotations

__all__ = ["Readings"]

from collections import deque
from collections.abc import Mapping

import torch
from torch import Tensor


class Readings:
    """Sums losses on their device, and hands over those that have come from there.

    Reading a loss (``item``) waits until a GPU has caught up with the process
    that feeds it, and the GPU then stands idle until it is fed again. Here a
    copy is sent along with every step, and looked at once it has arrived, a
    step or two later; on a CPU that is at once.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, int]] = {}
        self._sent: deque[tuple[tuple[str, ...], Tensor, torch.cuda.Event | None]] = deque()

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take the scalar losses of a step, by name."""
        values = {name: value.detach() for name, value in values.items()}
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value, count + 1
        together = torch.stack(list(values.values()))
        event = None
        if together.is_cuda:
            together = together.to("cpu", non_blocking=True)
            event = torch.cuda.Event()
            event.record()
        self._sent.append((tuple(values), together, event))

    def newest(self) -> dict[str, float]:
        """Return the losses of the latest step that has arrived since the last call; empty where none has."""
        names, values = (), None
        while self._sent and self._arrived(self._sent[0][2]):
            names, values, _ = self._sent.popleft()
        return dict(zip(names, values.tolist())) if names else {}

    def means(self) -> dict[str, float]:
        """Return the mean of each loss over the steps that had it; waits for the device."""
        return {name: total.item() / count for name, (total, count) in self._sums.items()}

    @staticmethod
    def _arrived(event: torch.cuda.Event | None) -> bool:
        return event is None or event.query()
