"""Fewer passes over memory: convolutions that rectify and add as they write, weights laid out once, sums of products in one go.

At test time small networks are limited by memory: a ReLU reads and writes a
whole map only to clear its signs, the sum at the end of a residual block reads
two. oneDNN, the library behind PyTorch's convolutions on CPUs, does both while
the values are in registers. PyTorch itself goes that way through its compiler
only; here a network is rewritten for it at once and without one. It also lays the
weights out anew at every call, which takes as long as the convolutions of several
images; here they are laid out at the first. Gates, of
CDNet as of OSNet, pool and weigh maps: means over a map are taken by average
pooling, several times faster on channels-last maps than the reduction behind
``mean`` (bfloat16: five times), sums of products by ``addcmul``.

The rewriting is torch.fx's, from the outside in: a network whose checks look at
sizes (CDNet's do) cannot be traced whole, its stages and blocks can.
"""
from __future__ import annotations

__all__ = ["FusedConv2d", "PackedConv2d", "can_fuse", "fuse_layers", "mean_of_map"]

import copy
import operator
from typing import Any, ClassVar

import torch
from torch import fx, nn
from torch.nn import functional as F

_RELUS = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"})
_SUMS = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
_PRODUCTS = frozenset({operator.mul, torch.mul, "mul"})
_SUMS_IN_PLACE = frozenset({operator.iadd, "add_"})
# Between a network and its rewritten form, relative to the largest feature.
_TOLERANCE = 1e-3


class PackedConv2d(nn.Module):
    """A convolution that keeps its weight in the layout that oneDNN computes with, from the first call on.

    The layout is chosen for the shape of the first images; those of other shapes
    are computed with it as well. It is no part of the state: copies, and a module
    whose weight was moved, cast or loaded, make their own. Change the weight in no other way.

    Args:
        conv: whose weight and bias it shares.

    Shapes: x (N, C_in, H, W) -> (N, C_out, H', W'), float32 or bfloat16, on CPUs. No gradients.
    """

    activation: ClassVar[str] = "none"

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._geometry = conv.padding, conv.stride, conv.dilation, conv.groups
        self._packed: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._packed_for(x), self.bias, *self._geometry, self.activation, [], "",
        )

    def _packed_for(self, x: torch.Tensor) -> torch.Tensor:
        if self._packed is None:
            weight = self.weight.detach().to_mkldnn()
            self._packed = torch._C._nn.mkldnn_reorder_conv2d_weight(weight, *self._geometry, list(x.shape))
        return self._packed

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def _apply(self, *args: Any, **options: Any) -> PackedConv2d:
        self._packed = None
        return super()._apply(*args, **options)

    def _load_from_state_dict(self, *args: Any) -> None:
        self._packed = None
        super()._load_from_state_dict(*args)


class FusedConv2d(PackedConv2d):
    """A convolution, the sum of its output with another map, and ReLU in one pass: ReLU(W * x + b + other).

    Args:
        conv: whose weight and bias it shares.
        in_place: whether the sum may take the place of ``other``, which saves a
            third of the pass. Nobody may read ``other`` afterwards, and ``x`` may not be it.

    Shapes: as :class:`PackedConv2d`; ``other``, if any, of the output's shape and dtype.
    """

    activation = "relu"

    def __init__(self, conv: nn.Conv2d, in_place: bool = False) -> None:
        super().__init__(conv)
        self.in_place = in_place

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        if other is None:
            return super().forward(x)
        weights = self._packed_for(x), self.bias, *self._geometry, "add", 1.0, "relu", [], None
        if self.in_place:
            return torch.ops.mkldnn._convolution_pointwise_.binary(other, x, *weights)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, other, *weights)


def mean_of_map(x: torch.Tensor, keepdim: bool = True) -> torch.Tensor:
    """Return the mean over height and width: (N, C, H, W) -> (N, C, 1, 1), or (N, C)."""
    pooled = F.avg_pool2d(x, x.shape[2:])
    return pooled if keepdim else pooled.flatten(1)


def can_fuse(device: torch.device | str, dtype: torch.dtype = torch.float32) -> bool:
    """Return whether this PyTorch has fused convolutions for the device and dtype: with oneDNN, on CPUs."""
    if torch.device(device).type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    return dtype == torch.float32 or dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def fuse_layers(network: nn.Module, size: tuple[int, int] = (256, 128)) -> nn.Module:
    """Return an eval copy of ``network`` with fewer passes over memory: see the module's words.

    Convolutions take in the ReLU, or the sum and the ReLU, behind them where
    that is exact up to rounding: one operation alone reads the convolution's
    output, either ReLU or a sum right behind it that ReLU alone reads. The sum
    goes in place of the other summand where that is a map of the network's own
    that nothing reads any more. All other plain convolutions keep their weights
    laid out. The copy is compared with the original; one that answers otherwise
    (code that tracing has misread) is thrown away, and the copy returned is a
    plain one. So is that of a network that answers NaN: oneDNN's ReLU makes it 0, which would
    hide that the weights are damaged.

    Args:
        network: maps images (B, 3, H, W) to features (B, D), float32, on the CPU.
        size: height and width of the noise to compare on.
    """
    network = copy.deepcopy(network).eval()
    fused = _pack(_rewrite(copy.deepcopy(network)))
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


def _pack(module: nn.Module) -> nn.Module:
    """Return the module with its plain convolutions as PackedConv2d, those in it in place."""
    if _is_plain_layer(module):
        return PackedConv2d(module)
    for name, child in module.named_children():
        setattr(module, name, _pack(child))
    return module


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
        in_place = other is not None and _is_done_with(traced, other, conv, total)
        traced.add_submodule(name, FusedConv2d(traced.get_submodule(conv.target), in_place))
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


def _is_done_with(traced: fx.GraphModule, other: fx.Node, conv: fx.Node, total: fx.Node) -> bool:
    """Return whether ``other`` is a convolution's output that nobody but the sum reads from ``conv`` on, not even ``conv``."""
    while _is(traced, other, nn.Identity):
        other = other.args[0]
    if not _is_convolution(traced, other):
        return False
    place = {node: number for number, node in enumerate(traced.graph.nodes)}
    names = [other]  # of one and the same map
    for name in names:
        for reader in name.users:
            if _is(traced, reader, nn.Identity):
                names.append(reader)
            # Convolutions read and are done; what else may keep a view, or return the map.
            elif reader is not total and not (_is_convolution(traced, reader) and place[reader] < place[conv]):
                return False
    return True


def _source(traced: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return what the value comes from, through identities, or None where anyone else reads it on the way."""
    while isinstance(node, fx.Node) and len(node.users) == 1:
        if not _is(traced, node, nn.Identity):
            return node
        node = node.args[0]
    return None


def _is_plain_conv(traced: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and _is_plain_layer(traced.get_submodule(node.target)) and len(node.args) == 1


def _is_convolution(traced: fx.GraphModule, node: fx.Node) -> bool:
    return _is(traced, node, nn.Conv2d) or _is(traced, node, FusedConv2d)


def _is_plain_layer(module: nn.Module) -> bool:
    """Return whether it is a convolution, of exactly that class and without hooks, that oneDNN can take over."""
    return _is_exactly(module, nn.Conv2d) and module.padding_mode == "zeros" and not isinstance(module.padding, str)


def _is_exactly(module: nn.Module, kind: type | None) -> bool:
    return type(module) is kind and not module._forward_hooks and not module._forward_pre_hooks


def _is(traced: fx.GraphModule, node: fx.Node, kind: type | None, functions: frozenset = frozenset()) -> bool:
    """Return whether the node calls a layer of exactly this kind, without hooks, or one of the functions or methods."""
    if node.op == "call_module":
        return _is_exactly(traced.get_submodule(node.target), kind)
    return node.op in ("call_function", "call_method") and node.target in functions


@torch.no_grad()
def _agree(network: nn.Module, reference: nn.Module, images: torch.Tensor) -> bool:
    try:
        features, expected = network(images), reference(images)
        return bool((features - expected).abs().max() <= _TOLERANCE * expected.abs().max())
    except (AttributeError, RuntimeError, TypeError):
        return False
