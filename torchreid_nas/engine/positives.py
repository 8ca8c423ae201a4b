"""ECN++'s positive prediction beside a training: a graph network that learns on the source which neighbours are positives."""
from __future__ import annotations

__all__ = ["SourcePositives"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from torchreid_nas.device import move
from torchreid_nas.losses import ExemplarMemory, InvarianceLoss, PositivePrediction


class SourcePositives:
    """The labelled source's own memory, and the network that is trained on it (Zhong et al., TPAMI 2021).

    The features of the source are taken as they are, before dropout: the
    network's loss does not reach the backbone. A source image's own slot is a
    candidate, as it is on the target. Optimiser and rate are ours.

    Args:
        loader: of the source's training images.
        dim: length of the features.
        num_candidates: nearest slots that the network decides on.
        threshold: probability from which a candidate is a positive.
        lr: learning rate of its Adam.
        device: where memory and network live.
    """

    def __init__(
        self, loader: DataLoader, dim: int, num_candidates: int, threshold: float, lr: float, device: torch.device,
    ) -> None:
        items = loader.dataset.data
        self._slots = {item[0]: slot for slot, item in enumerate(items)}
        self._pids = torch.tensor([item[1] for item in items], device=device)
        self.memory = ExemplarMemory(len(items), dim, device=device)
        self._search = InvarianceLoss(self.memory, num_neighbours=0)
        self.network = PositivePrediction(dim, num_candidates, threshold=threshold).to(device)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=lr)
        self._seen: tuple[Tensor, Tensor] | None = None

    def slots(self, paths: Sequence[str]) -> Tensor:
        """Return the slots of images by their paths."""
        return torch.tensor([self._slots[path] for path in paths])

    def see(self, features: Tensor, slots: Tensor) -> None:
        """Keep the normalised features of a source batch, (B, D), for :meth:`step`."""
        self._seen = features, slots

    def step(self, momentum: float) -> Tensor | None:
        """Train the network on the batch last seen, then move the source's memory; returns the network's loss.

        While the momentum is 0, in the first epoch, slots are still empty and nothing is trained.
        """
        features, slots = self._seen
        loss = None
        if momentum:
            count = min(self.network.num_candidates, self.memory.num_samples)
            nearest = self._search.nearest(features, count)
            positive = self._pids[nearest] == self._pids[move(slots, nearest.device)][:, None]
            self._optimizer.zero_grad(set_to_none=True)
            loss = self.network.loss(features, self.memory.features[nearest], positive)
            loss.backward()
            self._optimizer.step()
        self.memory.update(features, slots, momentum)
        return loss if loss is None else loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Memory, network and optimiser."""
        return {
            "memory": self.memory.state_dict(), "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.memory.load_state_dict(state["memory"])
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
