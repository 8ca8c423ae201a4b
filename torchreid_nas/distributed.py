"""Several processes that train one network: the one place that calls ``torch.distributed``.

The rule of gradients: ``DistributedDataParallel`` averages the gradients of the
processes. A loss is therefore one of two kinds, and both give the gradient of one
process that has the whole batch:

- the mean over the process's own images, where all processes have equally many;
- the loss of the whole batch, which every process computes from the gathered
  features. The backward pass of :func:`gather` gives each process its own rows,
  times the number of processes.

Without a process group every function returns its argument and costs one look-up.
"""
from __future__ import annotations

__all__ = [
    "agree", "all_gather_object", "all_max", "all_sum", "average", "barrier", "broadcast_object", "collect", "gather",
    "gather_batch", "is_main", "process_group", "processes", "rank",
]

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from torchreid_nas.errors import InputError

_Value = TypeVar("_Value")


def processes() -> int:
    """Return the number of processes that train together, 1 without a process group.

    >>> processes()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0.

    >>> rank()
    0
    """
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main() -> bool:
    """Return whether this process writes and prints: the process 0.

    >>> is_main()
    True
    """
    return rank() == 0


@contextlib.contextmanager
def process_group(device: torch.device | str) -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` has started, and part from them at the end of the block.

    ``torchrun`` sets ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK``. Tensors on a CPU travel by gloo, tensors on a GPU by
    nccl. The function joins nothing where there is one process, or where a group exists already.

    Args:
        device: where the training computes. ``"cuda"`` becomes the GPU with the number ``LOCAL_RANK``.

    Yields:
        The device of this process.

    Raises:
        InputError: this machine has fewer GPUs than processes, or this torch cannot join processes.

    >>> with process_group("cpu") as device:
    ...     device, processes()
    (device(type='cpu'), 1)
    """
    device = torch.device(device)
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted == 1 or processes() > 1:
        yield device
        return
    if not dist.is_available():
        raise InputError(
            f"torchrun has started {wanted} processes, but torch {torch.__version__} is built without torch.distributed; "
            "install another torch, or start one process"
        )
    backend = "gloo"
    if device.type == "cuda":
        device, backend = _own_gpu(device), "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    dist.init_process_group(backend)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def _own_gpu(device: torch.device) -> torch.device:
    here, found = int(os.environ.get("LOCAL_WORLD_SIZE", "1")), torch.cuda.device_count()
    if device.index is not None or here > found:
        raise InputError(
            f"torchrun has started {here} processes on this machine for the device {device}, and each process needs a GPU of "
            f"its own, of which there are {found}; set the device cuda and --nproc_per_node at most {max(found, 1)}, or the "
            "device cpu"
        )
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def gather(x: Tensor, lengths: Sequence[int] | None = None) -> Tensor:
    """Return the rows of all processes, in the order of their ranks; the same on every process.

    The backward pass gives this process the gradient of its own rows times the number of processes: every process computes
    the same loss from the gathered rows, so that no gradient needs to travel (see the rule of gradients above).

    Args:
        x: (n, …), of any dtype.
        lengths: n of each process, where the processes have different n.

    Returns:
        (sum of n, …).

    >>> gather(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    count = processes()
    if count == 1:
        return x
    apply: Callable[..., Tensor] = _Gather.apply
    return apply(x, [len(x)] * count if lengths is None else list(lengths))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: list[int]) -> Tensor:
        own = rank()
        ctx.first, ctx.length = sum(lengths[:own]), lengths[own]
        longest = max(lengths)
        sent = x.contiguous()
        if len(x) < longest:
            sent = torch.cat((sent, sent.new_zeros(longest - len(x), *x.shape[1:])))
        # gloo has no boolean numbers.
        boolean = sent.dtype == torch.bool
        sent = sent.to(torch.uint8) if boolean else sent
        received = [torch.empty_like(sent) for _ in lengths]
        dist.all_gather(received, sent)
        whole = torch.cat([part[:length] for part, length in zip(received, lengths)])
        return whole.bool() if boolean else whole

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.narrow(0, ctx.first, ctx.length) * processes(), None


def gather_batch(x: Tensor, parts: Sequence[int]) -> Tensor:
    """Return the whole batch in the order in which one process has the batch: part by part, and in each part rank by rank.

    The processes have ``[V₀; I₀]``, ``[V₁; I₁]``, …, and the whole batch is ``[V₀; V₁; …; I₀; I₁; …]``.

    Args:
        x: (n, …), one row per image of this process.
        parts: images of each part, which add up to n and are the same for all processes: visible and infrared, or of CAJ
            visible, visible and infrared.

    Returns:
        (n times the number of processes, …). Gradients are those of :func:`gather`.

    >>> gather_batch(torch.tensor([1, 2, 3, 4]), (2, 2))
    tensor([1, 2, 3, 4])
    """
    count = processes()
    if count == 1:
        return x
    ranks = gather(x).unflatten(0, (count, len(x)))
    return torch.cat([part.flatten(0, 1) for part in ranks.split(list(parts), dim=1)])


def all_sum(x: Tensor) -> Tensor:
    """Return the sum of ``x`` over all processes.

    The backward pass adds up the gradients of all processes. The average of the gradients of the weights over the processes
    is then the gradient of the mean of the losses of the processes, whether these are the same or not.

    >>> all_sum(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    if processes() == 1:
        return x
    apply: Callable[..., Tensor] = _AllSum.apply
    return apply(x)


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        whole = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole)
        return whole

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return all_sum(grad)


def all_max(x: Tensor) -> Tensor:
    """Return the largest value of ``x`` over all processes, element by element, without a gradient.

    >>> all_max(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """
    if processes() == 1:
        return x
    largest = x.detach().clone(memory_format=torch.contiguous_format)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return largest


def collect(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the rows of all processes on the process 0, and no rows on the others: one process holds them once.

    Args:
        x: (n, …), on the CPU.
        lengths: n of each process.

    Returns:
        (sum of n, …) on the process 0, (0, …) on the others.

    >>> collect(torch.tensor([1.0, 2.0]), [2])
    tensor([1., 2.])
    """
    if processes() == 1:
        return x
    x = x.contiguous()
    if not is_main():
        dist.send(x, dst=0)
        return x[:0].clone()
    whole = x.new_empty(sum(lengths), *x.shape[1:])
    own, *others = whole.split(list(lengths))
    own.copy_(x)
    for number, part in enumerate(others, start=1):
        dist.recv(part, src=number)
    return whole


@torch.no_grad()
def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in place; one message carries all the tensors.

    Args:
        tensors: of one dtype on one device, as the gradients of the architecture's logits.

    >>> gradient = torch.tensor([1.0])
    >>> average([gradient])
    >>> gradient
    tensor([1.])
    """
    count, tensors = processes(), list(tensors)
    if count == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(flat)
    flat /= count
    for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(mean.view_as(tensor))


def agree(x: Tensor, what: str) -> None:
    """Make sure that ``x`` is the same on all processes, to the bit.

    Args:
        x: any tensor.
        what: what the tensor is, in the plural, for the message.

    Raises:
        InputError: a process has another value than the process 0; the error is raised on all processes.

    >>> agree(torch.zeros(2), "the logits")
    """
    if processes() == 1:
        return
    value = x.detach().cpu().contiguous()
    digest = hashlib.sha256(value.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
    found = all_gather_object((tuple(value.shape), str(value.dtype), digest))
    others = [str(number) for number, own in enumerate(found) if own != found[0]]
    if others:
        raise InputError(
            f"{what} of the process {', '.join(others)} differ from those of the process 0, so that the processes do not train "
            "one network any more; start all processes with one config on machines of one kind, and resume from the last "
            "checkpoint"
        )


def all_gather_object(value: _Value) -> list[_Value]:
    """Return the ``value`` of each process, in the order of ranks; values are pickled.

    >>> all_gather_object("mine")
    ['mine']
    """
    count = processes()
    if count == 1:
        return [value]
    found: list[Any] = [None] * count
    dist.all_gather_object(found, value)
    return found


def broadcast_object(value: _Value) -> _Value:
    """Return the ``value`` of the process 0 on every process; the value is pickled.

    >>> broadcast_object("mine")
    'mine'
    """
    if processes() == 1:
        return value
    held: list[Any] = [value]
    dist.broadcast_object_list(held, src=0)
    found: _Value = held[0]
    return found


def barrier() -> None:
    """Wait for all processes.

    >>> barrier()
    """
    if processes() > 1:
        # A sum on the CPU: dist.barrier of nccl chooses a GPU by itself.
        dist.all_reduce(torch.zeros(1))
