"""Losses of the steps, without waiting for the device that computes them."""
from __future__ import annotations

__all__ = ["Readings"]

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torchreid_nas.distributed import average


class Readings:
    """Sums losses on their device, and returns the losses that have arrived from there.

    ``item`` waits until the GPU has caught up with the process that feeds the
    GPU, and the GPU then stands idle. Here every step sends a copy of its losses
    to the CPU. The copy is read once it has arrived: on a GPU a step or two
    later, on a CPU at once.

    Example:
        >>> readings = Readings()
        >>> readings.add({"ce": torch.tensor(2.0)})
        >>> readings.newest(), readings.newest()
        ({'ce': 2.0}, {})
        >>> readings.add({"ce": torch.tensor(4.0)})
        >>> readings.means()
        {'ce': 3.0}
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor | float, int]] = {}
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
        """Return the losses of the latest step that has arrived since the last call; empty where none has arrived."""
        latest: tuple[tuple[str, ...], Tensor] | None = None
        while self._sent and self._arrived(self._sent[0][2]):
            latest = self._sent.popleft()[:2]
        return dict(zip(latest[0], latest[1].tolist())) if latest else {}

    def means(self) -> dict[str, float]:
        """Return the mean of each loss over the steps that had it and over all processes; waits for the device."""
        means = torch.tensor([float(total) / count for total, count in self._sums.values()], dtype=torch.float64)
        average([means])
        return dict(zip(self._sums, means.tolist()))

    def state_dict(self) -> dict[str, list[Tensor | float]]:
        """Return the sums and counts by name."""
        return {name: [total, count] for name, (total, count) in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, list[Any]]) -> None:
        """Go on from the sums and counts of :meth:`state_dict`."""
        self._sums = {name: (total, count) for name, (total, count) in state.items()}

    @staticmethod
    def _arrived(event: torch.cuda.Event | None) -> bool:
        return event is None or event.query()
