"""What a network holds and costs: parameters, multiply-adds, latency.

What one forward pass in eval mode executes is counted. Classifiers, which
inference does not call, do not count.
"""
from __future__ import annotations

__all__ = ["COST_KINDS", "check_kind", "measure_cost", "model_size"]

import statistics
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.layers import modality_context

COST_KINDS = {"macs": "multiply-adds", "parameters": "parameters", "latency": "milliseconds"}
"""The kinds of cost and their units."""

_WARM_UP = 3


def model_size(model: nn.Module, height: int, width: int) -> tuple[int, int, int]:
    """Return the parameters, the parameters that are used at test time, and the multiply-adds of one image.

    Args:
        model: any network; the mode of the model stays.
        height: of the image.
        width: of the image.

    Example:
        >>> model_size(nn.Conv2d(3, 2, 1, bias=False), height=4, width=2)
        (6, 6, 48)
    """
    in_all = sum(p.numel() for p in model.parameters())
    was_training = model.training
    image = torch.zeros(1, 3, height, width, device=next(model.parameters()).device)
    with torch.no_grad(), modality_context("visible"):
        macs = _multiply_adds(model.eval(), image)
    model.train(was_training)
    # Training alone uses the classifiers and the layers before them, such as ECN's embedding.
    training_only = sum(
        p.numel() for name, p in model.named_parameters()
        if "classifier" in name.split(".") or "_branch." in name or name.startswith(("feat.", "feat_bn."))
    )
    return in_all, in_all - training_only, macs


@torch.no_grad()
def measure_cost(module: nn.Module, x: torch.Tensor, kind: str, repeats: int = 20) -> float:
    """Return the cost of ``module``, which is in eval mode, on ``x``.

    Args:
        module: any module of one tensor.
        x: (1, C, H, W), on the module's device.
        kind: ``"macs"``, multiply-adds of convolutions and linear layers;
            ``"parameters"``, of the layers that the pass executes, each once;
            ``"latency"``, milliseconds on the device of the module with the
            threads that torch has now: the median of ``repeats`` passes after
            three passes that do not count.
        repeats: passes that a latency is measured by.

    Raises:
        InputError: the kind is unknown, or the module is in train mode, in
            which the pass would move statistics.

    Example:
        >>> measure_cost(nn.Conv2d(3, 2, 1, bias=False).eval(), torch.zeros(1, 3, 4, 2), "macs")
        48.0
    """
    check_kind(kind)
    if any(layer.training for layer in module.modules()):
        raise InputError(f"the cost is a cost of inference; call {type(module).__name__}.eval() before measure_cost")
    if kind == "latency":
        return _latency(module, x, repeats)
    if kind == "macs":
        return float(_multiply_adds(module, x))
    layers: set[nn.Module] = set()
    hooks = [
        layer.register_forward_hook(lambda layer, *_: layers.add(layer))
        for layer in module.modules() if not any(layer.children())
    ]
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return float(sum(parameter.numel() for layer in layers for parameter in layer.parameters()))


def _multiply_adds(module: nn.Module, x: torch.Tensor) -> int:
    """Return the multiply-adds of one pass by torch's own counter, which counts a multiply-add as two operations."""
    with FlopCounterMode(display=False) as counter:
        module(x)
    return int(counter.get_total_flops()) // 2


def check_kind(kind: str) -> None:
    """Raise InputError unless ``kind`` is one of :data:`COST_KINDS`."""
    if kind not in COST_KINDS:
        raise InputError(
            f'the cost "{kind}" is unknown, expected one of {", ".join(COST_KINDS)}{nearest(kind, COST_KINDS)}'
        )


def _latency(module: nn.Module, x: torch.Tensor, repeats: int) -> float:
    seconds = []
    for _ in range(_WARM_UP + repeats):
        start = time.perf_counter()
        module(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[_WARM_UP:])
