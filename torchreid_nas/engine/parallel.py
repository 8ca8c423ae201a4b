"""The losses of one training step on several processes, by torch's DistributedDataParallel."""
from __future__ import annotations

__all__ = ["ParallelLosses", "as_one_process"]

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from torchreid_nas.distributed import processes
from torchreid_nas.layers import synchronized_norms, whole_dropout

Losses = dict[str, torch.Tensor]


@contextlib.contextmanager
def as_one_process(model: nn.Module, sync_bn: bool = True) -> Iterator[None]:
    """Inside the block let the layers of a network compute what one process with the whole batch computes.

    Args:
        model: the network that is trained.
        sync_bn: whether BatchNorms take their statistics over the batch of all processes.

    Example:
        >>> with as_one_process(nn.BatchNorm1d(1)):
        ...     pass
    """
    with synchronized_norms(model, sync_bn), whole_dropout(model):
        yield


class _Calls(nn.Module):
    """Holds the weights and calls a function that reads them: engines ask more of a network than its ``forward``."""

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        super().__init__()
        self.weights = nn.ParameterList(weights)
        # Torch warns where the search for unused weights finds none, by a message that Python cannot silence.
        self.unused = nn.Parameter(next(iter(self.weights), torch.zeros(())).new_zeros(()))

    def forward(self, function: Callable[..., Losses], *args: Any) -> Losses:
        return function(*args)


class ParallelLosses:
    """Computes losses so that the backward pass gives every process the mean gradient of all processes.

    In a single process the losses are those of the function, and nothing else happens.

    Args:
        weights: parameters that are trained, the same tensors on all processes in the same order. All processes start with the
            values of the process 0. The logits of an architecture do not belong here: their steps average by themselves.

    Example:
        >>> weight = nn.Parameter(torch.ones(1))
        >>> losses = ParallelLosses([weight])
        >>> losses(lambda batch: {"ce": weight * batch}, torch.tensor([2.0]))
        {'ce': tensor([2.], grad_fn=<MulBackward0>)}
    """

    def __init__(self, weights: Iterable[nn.Parameter]) -> None:
        self._parallel: DistributedDataParallel | None = None
        calls = _Calls(weights)
        if processes() > 1 and len(calls.weights):
            # A step may leave weights out, as a path of a search does.
            self._parallel = DistributedDataParallel(calls, find_unused_parameters=True)

    def __call__(self, function: Callable[..., Losses], data: Mapping[str, Any], steps: bool = True) -> Losses:
        """Return the losses of a batch.

        Args:
            function: from a batch to its losses by name.
            data: this process's share of the batch.
            steps: whether the optimiser steps after this batch. Until then the gradients stay in their process.
        """
        if self._parallel is None:
            return function(data)
        with contextlib.nullcontext() if steps else self._parallel.no_sync():
            found: Losses = self._parallel(function, data)
            return found
