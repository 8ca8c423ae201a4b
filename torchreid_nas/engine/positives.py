"""ECN++'s positive prediction during a training: a graph network learns on the source which neighbours are positives."""
from __future__ import annotations

__all__ = ["SourcePositives"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torchreid_nas.device import move
from torchreid_nas.distributed import average, gather, rank
from torchreid_nas.losses import ExemplarMemory, InvarianceLoss, PositivePrediction


class SourcePositives:
    """A memory of the labelled source, and the graph network that is trained on the memory (Zhong et al., TPAMI 2021).

    The features of the source are taken before dropout and without their
    graph: the loss of the graph network does not reach the backbone. The own
    entry of a source image is a candidate, as on the target. Optimiser and
    learning rate are ours.

    Args:
        items: training images of the source as torchreid's data sets list them: path, identity, camera, ….
        dim: length of the features.
        num_candidates: nearest entries that the network judges.
        threshold: probability from which a candidate is a positive.
        lr: learning rate of the network's Adam.
        device: where memory and network live.
    """

    def __init__(
        self, items: Sequence[Sequence[Any]], dim: int, num_candidates: int, threshold: float, lr: float,
        device: torch.device,
    ) -> None:
        self._entries = {item[0]: entry for entry, item in enumerate(items)}
        self._pids = torch.tensor([item[1] for item in items], device=device)
        self.memory = ExemplarMemory(len(items), dim, device=device, sharded=True)
        self._search = InvarianceLoss(self.memory, num_neighbours=0)
        self.network = PositivePrediction(dim, num_candidates, threshold=threshold).to(device)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=lr)
        self._seen: tuple[Tensor, Tensor] | None = None

    def entries(self, paths: Sequence[str]) -> Tensor:
        """Return the entries of images by their paths, (B,) int64."""
        return torch.tensor([self._entries[path] for path in paths])

    def see(self, features: Tensor, entries: Tensor) -> None:
        """Keep the normalised features of a source batch, (B, D), and the entries of its images for :meth:`step`.

        Of several processes each gives its share of the batch.
        """
        self._seen = features, entries

    def step(self, momentum: float) -> Tensor | None:
        """Train the network on the batch of :meth:`see`, then update the memory of the source; returns the network's loss.

        While the momentum is 0, in the first epoch, entries are still empty and nothing is trained.
        """
        assert self._seen is not None, "see comes before step"
        features, entries = (gather(part) for part in self._seen)
        loss = None
        if momentum:
            count = min(self.network.num_candidates, self.memory.num_samples)
            nearest = self._search.nearest(features, count)
            candidates = self.memory.rows(nearest, features.dtype)
            # The memory is asked for the whole batch, and the network learns from each process's own images.
            own = slice(rank() * len(self._seen[0]), (rank() + 1) * len(self._seen[0]))
            positive = self._pids[nearest[own]] == self._pids[move(entries[own], nearest.device)][:, None]
            self._optimizer.zero_grad(set_to_none=True)
            loss = self.network.loss(features[own], candidates[own], positive)
            loss.backward()
            average(parameter.grad for parameter in self.network.parameters() if parameter.grad is not None)
            self._optimizer.step()
        self.memory.update(features, entries, momentum)
        return loss if loss is None else loss.detach()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of memory, network and optimiser."""
        return {
            "memory": self.memory.state_dict(), "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.memory.load_state_dict(state["memory"])
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
