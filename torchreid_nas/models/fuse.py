"""Fewer passes over memory: convolutions that rectify and add as they write, sums of products in one go.

At test time small networks are limited by memory: a ReLU reads and writes a
whole map only to clear its signs, the sum at the end of a residual block reads
two. oneDNN, the library behind PyTorch's convolutions on CPUs, does both while
the values are in registers. PyTorch itself goes that way through its compiler
only; here a network is rewritten for it at once and without one. Gates, of
CDNet as of OSNet, pool and weigh maps: means over a map are taken by average
pooling, several times faster on channels-last maps than the reduction behind
``mean`` (bfloat16: five times), sums of products by ``addcmul``.

The rewriting is torch.fx's, from the outside in: a network whose checks look at
sizes (CDNet's do) cannot be traced whole, its stages and blocks can.
"""
from __future__ import annotations

__all__ = ["FusedConv2d", "can_fuse", "fuse_layers", "mean_of_map"]

import copy
import operator

import torch
from torch import fx, nn
from torch.nn import functional as F

_RELUS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"})
_SUMS = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
_PRODUCTS = frozenset({operator.mul, torch.mul, "mul"})
_SUMS_IN_PLACE = frozenset({operator.iadd, "add_"})
# Between a network and its rewritten form, relative to the largest feature.
_TOLERANCE = 1e-3


class FusedConv2d(nn.Module):
    """A convolution, the sum of its output with another map, and ReLU in one pass: ReLU(W * x + b + other).

    Args:
        conv: whose weight and bias it shares.

    Shapes: x (N, C_in, H, W) and ``other``, if any, of the output's shape and
    dtype -> (N, C_out, H', W'), float32 or bfloat16, on CPUs.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._geometry = conv.padding, conv.stride, conv.dilation, conv.groups

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        pointwise = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return pointwise(x, self.weight, self.bias, *self._geometry, "relu", [], "")
        return pointwise.binary(x, other, self.weight, self.bias, *self._geometry, "add", 1.0, "relu", [], None)


def mean_of_map(x: torch.Tensor, keepdim: bool = True) -> torch.Tensor:
    """Return the mean over height and width: (N, C, H, W) -> (N, C, 1, 1), or (N, C)."""
    pooled = F.avg_pool2d(x, x.shape[2:])
    return pooled if keepdim else pooled.flatten(1)


def can_fuse(device: torch.device | str) -> bool:
    """Return whether this PyTorch has fused convolutions for the device: with oneDNN, on CPUs."""
    available = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return torch.device(device).type == "cpu" and available


def fuse_layers(network: nn.Module, size: tuple[int, int] = (256, 128)) -> nn.Module:
    """Return an eval copy of ``network`` with fewer passes over memory: see the module's words.

    Convolutions take in the ReLU, or the sum and the ReLU, behind them where
    that is exact up to rounding: one operation alone reads the convolution's
    output, either ReLU or a sum right behind it that ReLU alone reads. The copy
    is compared with the original; one that answers otherwise (code that tracing
    has misread) is thrown away, and the copy returned is a plain one. So is
    that of a network that answers NaN: oneDNN's ReLU makes it 0, which would
    hide that the weights are damaged.

    Args:
        network: maps images (B, 3, H, W) to features (B, D), float32, on the CPU.
        size: height and width of the noise to compare on.
    """
    network = copy.deepcopy(network).eval()
    fused = _rewrite(copy.deepcopy(network))
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    return fused if _agree(fused, network, images) else network


def _rewrite(module: nn.Module) -> nn.Module:
    """Return the module with all that can be fused, the module itself where it cannot be traced whole."""
    if next(module.children(), None) is None:
        return module
    try:
        traced = fx.symbolic_trace(module)
    except Exception:  # noqa: BLE001 — any code may meet a placeholder where it expects a tensor, and fail in any way
        for name, child in module.named_children():
            setattr(module, name, _rewrite(child))
        return module
    changes = _fuse_convolutions(traced) + _fuse_products(traced) + _pool_by_window(traced)
    if not changes:
        return module
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _fuse_convolutions(traced: fx.GraphModule) -> int:
    """Fuse convolutions with what follows, in place; returns how many."""
    fused = 0
    for node in list(traced.graph.nodes):
        if not (_is(traced, node, nn.ReLU, _RELUS) and node.args):
            continue
        conv, other, total = _source(traced, node.args[0]), None, None
        if conv is not None and _is(traced, conv, None, _SUMS):
            total = conv
            conv, other = _summands(traced, total)
        if conv is None or not _is_plain_conv(traced, conv):
            continue
        name = f"fused_{fused}"
        traced.add_submodule(name, FusedConv2d(traced.get_submodule(conv.target)))
        # Early, where the inputs are what they were, whatever changes in place later.
        with traced.graph.inserting_before(total or conv):
            inputs = (conv.args[0],) if other is None else (conv.args[0], other)
            node.replace_all_uses_with(traced.graph.call_module(name, inputs))
        fused += 1
        # Not fx's elimination of dead code: it would take what is called for its effect in place for dead, too.
        last, dead = conv.prev, node
        while dead is not last:
            before = dead.prev
            if not dead.users and (dead in (node, total, conv) or _is(traced, dead, nn.Identity)):
                traced.graph.erase_node(dead)
            dead = before
    return fused


def _fuse_products(traced: fx.GraphModule) -> int:
    """Compute sums whose second summand is a product just made, the first being one too, by addcmul; returns how many."""
    fused, products = 0, set()
    for node in list(traced.graph.nodes):
        if _is(traced, node, None, _PRODUCTS) and all(isinstance(factor, fx.Node) for factor in node.args):
            products.add(node)
        elif _is(traced, node, None, _SUMS - _SUMS_IN_PLACE) and len(node.args) == 2 and not node.kwargs:
            first, product = node.args
            if first not in products or product not in products or node.prev is not product or len(product.users) > 1:
                continue
            with traced.graph.inserting_before(node):
                total = traced.graph.call_function(torch.addcmul, (first, *product.args))
            node.replace_all_uses_with(total)
            traced.graph.erase_node(node)
            traced.graph.erase_node(product)
            products.add(total)
            fused += 1
    return fused


def _pool_by_window(traced: fx.GraphModule) -> int:
    """Take means over height and width by average pooling; returns how many."""
    pooled = 0
    for node in list(traced.graph.nodes):
        keepdim = _keeps(traced, node)
        if keepdim is not None:
            with traced.graph.inserting_before(node):
                node.replace_all_uses_with(traced.graph.call_function(mean_of_map, (node.args[0], keepdim)))
            traced.graph.erase_node(node)
            pooled += 1
    return pooled


def _keeps(traced: fx.GraphModule, node: fx.Node) -> bool | None:
    """Return whether a mean over height and width keeps both as 1; None for what is no such mean."""
    if _is(traced, node, nn.AdaptiveAvgPool2d):
        return True if traced.get_submodule(node.target).output_size in (1, (1, 1), [1, 1]) else None
    if not _is(traced, node, None, frozenset({torch.mean, "mean"})):
        return None
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if dims not in ((2, 3), [2, 3], (-2, -1), [-2, -1]) or set(node.kwargs) - {"dim", "keepdim"}:
        return None
    return bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False))


def _summands(traced: fx.GraphModule, total: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """Return the convolution right before a sum and the sum's other operand, or (None, None)."""
    operands = total.args if len(total.args) == 2 and not total.kwargs else ()
    if len(operands) != 2 or not all(isinstance(operand, fx.Node) for operand in operands) or operands[0] is operands[1]:
        return None, None
    changed = operands[0] if total.target in _SUMS_IN_PLACE else None
    if changed is not None and (len(changed.users) > 1 or changed.op == "placeholder"):
        return None, None
    before = total.prev
    while _is(traced, before, nn.Identity):
        before = before.prev
    for operand, other in (operands, operands[::-1]):
        # Only right before the sum: moved over other operations it might find its input changed in place.
        if _source(traced, operand) is before and _is_plain_conv(traced, before):
            return before, other
    return None, None


def _source(traced: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return what the value comes from, through identities, or None where anyone else reads it on the way."""
    while isinstance(node, fx.Node) and len(node.users) == 1:
        if not _is(traced, node, nn.Identity):
            return node
        node = node.args[0]
    return None


def _is_plain_conv(traced: fx.GraphModule, node: fx.Node) -> bool:
    if not _is(traced, node, nn.Conv2d):
        return False
    conv = traced.get_submodule(node.target)
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str) and len(node.args) == 1


def _is(traced: fx.GraphModule, node: fx.Node, kind: type | None, functions: frozenset = frozenset()) -> bool:
    """Return whether the node calls a layer of exactly this kind, without hooks, or one of the functions or methods."""
    if node.op == "call_module":
        module = traced.get_submodule(node.target)
        return type(module) is kind and not module._forward_hooks and not module._forward_pre_hooks
    return node.op in ("call_function", "call_method") and node.target in functions


@torch.no_grad()
def _agree(network: nn.Module, reference: nn.Module, images: torch.Tensor) -> bool:
    try:
        features, expected = network(images), reference(images)
        return bool((features - expected).abs().max() <= _TOLERANCE * expected.abs().max())
    except (RuntimeError, TypeError):
        return False
