"""Fewer passes over memory: convolutions with ReLU and sums in one pass, weights laid out once, fused products.

At test time memory limits small networks. A ReLU reads and writes a whole map
only to clear its signs; the sum at the end of a residual block reads two maps.
oneDNN, the library behind PyTorch's convolutions on CPUs, does both while the
values are in registers. PyTorch itself uses these operations only through its
compiler; here a network is rewritten for them at once and without a compiler.

PyTorch lays the weights out anew at every call, which takes as long as the
convolutions of several images; here the first call lays them out.

Gates (of CDNet and OSNet) pool and weigh maps. Average pooling computes means
over a map several times faster on channels-last maps than the reduction behind
``mean`` (five times in bfloat16). ``addcmul`` computes sums of products.

torch.fx rewrites the network from the outside in: a network whose checks look
at sizes (as CDNet's do) cannot be traced whole, but its stages and blocks can.
"""
from __future__ import annotations

__all__ = ["FusedConv2d", "PackedConv2d", "can_fuse", "fuse_layers", "mean_of_map"]

import copy
import operator
from typing import Any, ClassVar, TypeVar

import torch
from torch import fx, nn
from torch.nn import functional as F

from torchreid_nas.aten import find_operator

_Layer = TypeVar("_Layer", bound=nn.Module)
# What a node of a graph calls: a function, or a method by its name.
_Calls = frozenset[Any]

_RELUS: _Calls = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"})
_SUMS: _Calls = frozenset({operator.add, operator.iadd, torch.add, "add", "add_"})
_PRODUCTS: _Calls = frozenset({operator.mul, torch.mul, "mul"})
_SUMS_IN_PLACE: _Calls = frozenset({operator.iadd, "add_"})
# Operators of oneDNN that PyTorch keeps to itself. Where one of them has gone, networks are left as they are.
_OPERATORS = (
    "mkldnn::_convolution_pointwise.default", "mkldnn::_convolution_pointwise.binary",
    "mkldnn::_convolution_pointwise_.binary", "mkldnn::_is_mkldnn_bf16_supported",
)
# Between a network and its rewritten form, relative to the largest feature.
_TOLERANCE = 1e-3


class PackedConv2d(nn.Module):
    """A convolution that keeps its weight in the layout that oneDNN computes with, from the first call on.

    The layout is chosen for the shape of the first images, and also computes
    images of other shapes. The layout is no part of the state: a copy makes its
    own, and so does a module whose weight was moved, cast or loaded. Change the
    weight in no other way.

    Args:
        conv: the convolution whose weight and bias this one shares.

    Shapes: x (N, C_in, H, W) -> (N, C_out, H', W'), float32 or bfloat16, on CPUs. No gradients.

    >>> conv = nn.Conv2d(3, 4, 3)
    >>> packed = PackedConv2d(conv) if can_fuse("cpu") else conv
    >>> with torch.no_grad():
    ...     torch.allclose(packed(torch.ones(1, 3, 8, 8)), conv(torch.ones(1, 3, 8, 8)), atol=1e-5)
    True
    """

    activation: ClassVar[str] = "none"

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._geometry = conv.padding, conv.stride, conv.dilation, conv.groups
        self._packed: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the convolution of ``x``, and its activation."""
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._packed_for(x), self.bias, *self._geometry, self.activation, [], "",
        )

    def _packed_for(self, x: torch.Tensor) -> torch.Tensor:
        if self._packed is None:
            # A private function whose stub in torch lacks the geometry.
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            self._packed = reorder(self.weight.detach().to_mkldnn(), *self._geometry, list(x.shape))
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
        conv: the convolution whose weight and bias this one shares.
        in_place: whether the sum is written over ``other``, which saves a third
            of the pass. Nothing may read ``other`` afterwards, and ``x`` may not be ``other``.

    Shapes: as :class:`PackedConv2d`. ``other``, where given, has the shape and dtype of the output.
    """

    activation = "relu"

    def __init__(self, conv: nn.Conv2d, in_place: bool = False) -> None:
        super().__init__(conv)
        self.in_place = in_place

    def forward(self, x: torch.Tensor, other: torch.Tensor | None = None) -> torch.Tensor:
        """Return ReLU of the convolution of ``x``, plus ``other`` where given."""
        if other is None:
            return super().forward(x)
        weights: tuple[Any, ...] = (self._packed_for(x), self.bias, *self._geometry, "add", 1.0, "relu", [], None)
        if self.in_place:
            return torch.ops.mkldnn._convolution_pointwise_.binary(other, x, *weights)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, other, *weights)


def mean_of_map(x: torch.Tensor, keepdim: bool = True) -> torch.Tensor:
    """Return the mean over height and width: (N, C, H, W) -> (N, C, 1, 1), or (N, C) without ``keepdim``.

    >>> mean_of_map(torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]]), keepdim=False)
    tensor([[3.]])
    """
    pooled = F.avg_pool2d(x, x.shape[2:])
    return pooled if keepdim else pooled.flatten(1)


def can_fuse(device: torch.device | str, dtype: torch.dtype = torch.float32) -> bool:
    """Return whether this PyTorch has fused convolutions for the device and dtype: with oneDNN, on CPUs.

    >>> can_fuse("cuda"), can_fuse("cpu", torch.float64)
    (False, False)
    """
    if torch.device(device).type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    *_, computes_bfloat16 = operators = [find_operator(name) for name in _OPERATORS]
    if computes_bfloat16 is None or None in operators or not hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight"):
        return False
    return dtype == torch.float32 or dtype == torch.bfloat16 and bool(computes_bfloat16())


def fuse_layers(network: nn.Module, size: tuple[int, int] = (256, 128)) -> nn.Module:
    """Return an eval copy of ``network`` with fewer passes over memory; the head of this module lists them.

    A convolution takes in the ReLU behind it, or the sum and the ReLU, where the
    result is the same up to rounding: a single operation reads the output of the
    convolution, and this operation is a ReLU, or a sum right behind the
    convolution that only a ReLU reads. The sum is written over the other summand
    where this summand is a map of the network's own that nothing reads afterwards.
    All other plain convolutions keep their weights laid out.

    The rewritten copy is compared with the original on noise. Where their features
    differ (tracing has misread the code), the function returns a plain copy. It
    also returns a plain copy of a network that gives NaN: oneDNN's ReLU turns NaN
    into 0, which would hide that the weights are damaged.

    Args:
        network: maps images (B, 3, H, W) to features (B, D), float32, on the CPU.
        size: height and width of the noise.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    >>> fused = fuse_layers(network, size=(8, 8))
    >>> any(isinstance(layer, nn.ReLU) for layer in fused.modules()) != can_fuse("cpu")
    True
    """
    network = copy.deepcopy(network).eval()
    fused = _pack(_rewrite(copy.deepcopy(network)))
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    return fused if _agree(fused, network, images) else network


def _rewrite(module: nn.Module) -> nn.Module:
    """Return the module with its layers fused. A module that cannot be traced whole stays, and its children are rewritten."""
    if next(module.children(), None) is None:
        return module
    try:
        traced = fx.symbolic_trace(module)
    except Exception:  # Any code may meet a placeholder where it expects a tensor, and fail in any way.
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
    """Return the module with a PackedConv2d in place of each plain convolution; the module itself is changed."""
    if isinstance(module, nn.Conv2d) and _is_plain(module):
        return PackedConv2d(module)
    for name, child in module.named_children():
        setattr(module, name, _pack(child))
    return module


def _fuse_convolutions(traced: fx.GraphModule) -> int:
    """Fuse convolutions with the operations behind them, in place; return how many."""
    fused = 0
    for node in list(traced.graph.nodes):
        if not (_is(traced, node, nn.ReLU, _RELUS) and node.args):
            continue
        node_before, other, total = _source(traced, node.args[0]), None, None
        if node_before is not None and _is(traced, node_before, None, _SUMS):
            total = node_before
            node_before, other = _summands(traced, total)
        conv = None if node_before is None else _plain_conv(traced, node_before)
        if conv is None or node_before is None:
            continue
        name = f"fused_{fused}"
        in_place = other is not None and total is not None and _is_done_with(traced, other, node_before, total)
        traced.add_submodule(name, FusedConv2d(conv, in_place))
        # At the place of the sum or convolution: a later operation may change the inputs in place.
        with traced.graph.inserting_before(total or node_before):
            inputs = (node_before.args[0],) if other is None else (node_before.args[0], other)
            node.replace_all_uses_with(traced.graph.call_module(name, inputs))
        fused += 1
        # Not fx's elimination of dead code, which also removes calls that only change a map in place.
        last, dead = node_before.prev, node
        while dead is not last:
            before = dead.prev
            if not dead.users and (dead in (node, total, node_before) or _is(traced, dead, nn.Identity)):
                traced.graph.erase_node(dead)
            dead = before
    return fused


def _fuse_products(traced: fx.GraphModule) -> int:
    """Compute a sum of two products by addcmul where the second product is made right before; return how many."""
    fused, products = 0, set[Any]()
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
    """Compute means over height and width by average pooling; return how many."""
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
    """Return whether a mean over height and width keeps both as 1; None where the node is no such mean."""
    pool = _layer(traced, node, nn.AdaptiveAvgPool2d)
    if pool is not None:
        return True if pool.output_size in (1, (1, 1), [1, 1]) else None
    if not _is(traced, node, None, frozenset({torch.mean, "mean"})):
        return None
    dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if dims not in ((2, 3), [2, 3], (-2, -1), [-2, -1]) or set(node.kwargs) - {"dim", "keepdim"}:
        return None
    return bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False))


def _summands(traced: fx.GraphModule, total: fx.Node) -> tuple[fx.Node | None, fx.Node | None]:
    """Return the convolution right before a sum and the sum's other operand, or (None, None)."""
    operands = [operand for operand in total.args if isinstance(operand, fx.Node)]
    if len(total.args) != 2 or len(operands) != 2 or total.kwargs or operands[0] is operands[1]:
        return None, None
    changed = operands[0] if total.target in _SUMS_IN_PLACE else None
    if changed is not None and (len(changed.users) > 1 or changed.op == "placeholder"):
        return None, None
    before = total.prev
    while _is(traced, before, nn.Identity):
        before = before.prev
    for operand, other in (operands, operands[::-1]):
        # Only right before the sum: an operation between the two may change the input of the convolution in place.
        if _source(traced, operand) is before and _plain_conv(traced, before) is not None:
            return before, other
    return None, None


def _is_done_with(traced: fx.GraphModule, other: fx.Node, conv: fx.Node, total: fx.Node) -> bool:
    """Return whether ``other`` is the output of a convolution, and from ``conv`` on only the sum reads ``other``."""
    behind = _behind_identities(traced, other)
    if behind is None or not _is_convolution(traced, behind):
        return False
    place = {node: number for number, node in enumerate(traced.graph.nodes)}
    names = [behind]  # of one and the same map
    for name in names:
        for reader in name.users:
            if _is(traced, reader, nn.Identity):
                names.append(reader)
            # A convolution reads the map and keeps nothing; another operation may keep a view, or return the map.
            elif reader is not total and not (_is_convolution(traced, reader) and place[reader] < place[conv]):
                return False
    return True


def _source(traced: fx.GraphModule, value: Any) -> fx.Node | None:
    """Return the node that makes the value, through identities, or None where another node reads it on the way."""
    while isinstance(value, fx.Node) and len(value.users) == 1:
        if not _is(traced, value, nn.Identity):
            return value
        value = value.args[0]
    return None


def _behind_identities(traced: fx.GraphModule, value: Any) -> fx.Node | None:
    while isinstance(value, fx.Node) and _is(traced, value, nn.Identity):
        value = value.args[0]
    return value if isinstance(value, fx.Node) else None


def _is_convolution(traced: fx.GraphModule, node: fx.Node) -> bool:
    return _is(traced, node, nn.Conv2d) or _is(traced, node, FusedConv2d)


def _plain_conv(traced: fx.GraphModule, node: fx.Node) -> nn.Conv2d | None:
    """Return the convolution that the node calls where oneDNN can compute it, else None."""
    conv = _layer(traced, node, nn.Conv2d) if len(node.args) == 1 else None
    return conv if conv is not None and _is_plain(conv) else None


def _is_plain(conv: nn.Conv2d) -> bool:
    """Return whether oneDNN can compute the convolution: exactly that class, no hooks, zeros as padding."""
    return _is_exactly(conv, nn.Conv2d) and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _is_exactly(module: nn.Module, kind: type | None) -> bool:
    return type(module) is kind and not module._forward_hooks and not module._forward_pre_hooks


def _layer(traced: fx.GraphModule, node: fx.Node, kind: type[_Layer]) -> _Layer | None:
    """Return the layer that the node calls where the layer is of exactly this kind and has no hooks, else None."""
    if node.op != "call_module" or not isinstance(node.target, str):
        return None
    module = traced.get_submodule(node.target)
    return module if isinstance(module, kind) and _is_exactly(module, kind) else None


def _is(traced: fx.GraphModule, node: fx.Node, kind: type[nn.Module] | None, calls: _Calls = frozenset()) -> bool:
    """Return whether the node calls a layer of exactly this kind, without hooks, or one of the functions or methods."""
    if node.op == "call_module":
        return kind is not None and _layer(traced, node, kind) is not None
    return node.op in ("call_function", "call_method") and node.target in calls


@torch.no_grad()
def _agree(network: nn.Module, reference: nn.Module, images: torch.Tensor) -> bool:
    try:
        features, expected = network(images), reference(images)
        return bool((features - expected).abs().max() <= _TOLERANCE * expected.abs().max())
    except (AttributeError, RuntimeError, TypeError):
        return False
