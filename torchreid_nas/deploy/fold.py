"""The test-time form of a network: no classifier, no dropout, BatchNorm inside the convolutions.

In eval mode BatchNorm is y = γ (x − μ) / √(σ² + ε) + β, affine per channel, so
that after a convolution W * x + b it is again a convolution, of weight
W γ / √(σ² + ε) and bias (b − μ) γ / √(σ² + ε) + β (torch.nn.utils.fusion).

What may be folded and what may be dropped is read from one forward pass, not
from names: a mode sees which function takes which tensor. torch.fx would need
networks whose checks do not look at sizes; CDNet's do.
"""
from __future__ import annotations

__all__ = ["DeployedNetwork", "deploy_network", "drop_unused", "fold_batchnorm", "select_modality"]

import contextlib
import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from torchreid_nas.deploy.optimize import OptimizedNetwork, optimize_network
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.layers import MODALITIES, MixedBatchNorm2d, SplitBatchNorm2d

# Height and width of the trace, those of the re-ID literature; weights depend on neither.
_HEIGHT, _WIDTH = 256, 128
# Functions whose answer (unless it is a tensor) is about shape, dtype or device, not about values; "__get__" is
# what an attribute is read by.
_METADATA = frozenset({
    "__get__", "__len__", "dim", "ndimension", "size", "stride", "numel", "is_contiguous", "is_floating_point",
})
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class DeployedNetwork(nn.Module):
    """A network that gives features and nothing else: (B, 3, H, W) -> (B, ``feature_dim``).

    It needs no gradient and stays in eval mode whatever ``train`` is told: the
    parts that training needs are gone.

    Args:
        network: maps images to features.
        feature_dim: their number.
        modality: ``"visible"`` or ``"infrared"`` where the network is one of a pair, else None.
    """

    def __init__(self, network: nn.Module, feature_dim: int, modality: str | None = None) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim
        self.modality = modality
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)

    def train(self, mode: bool = True) -> DeployedNetwork:
        """Keep eval mode; torchreid's engines switch modes without asking."""
        return super().train(False)

    def optimize(
        self, precision: str = "auto", compile: bool = False, device: torch.device | str | None = None,
        at_once: int | None = None, size: tuple[int, int] = (256, 128),
    ) -> OptimizedNetwork:
        """Return a copy for speed, not for export; see :func:`torchreid_nas.deploy.optimize.optimize_network`."""
        return optimize_network(self.network, precision, compile, device, at_once, size)


def deploy_network(
    model: nn.Module, feature_dim: int, modality: str | None = None, images: torch.Tensor | None = None,
) -> DeployedNetwork:
    """Return the test-time form of ``model``, with the features of its eval mode up to rounding.

    Split BatchNorms become those of ``modality``, dropout and what the forward
    pass does not touch (classifiers and their layers) go, BatchNorms are folded.

    Args:
        model: maps images to features in eval mode; it stays as it is.
        feature_dim: number of features.
        modality: needed where a BatchNorm is split.
        images: for the trace; see :func:`fold_batchnorm`.

    Raises:
        InputError: BatchNorms are split and no modality, or an unknown one, is
            given; or the model is a supernet.
    """
    _refuse_searched(model)
    if modality is not None:
        model = select_modality(model, modality)
    elif _holds(model, SplitBatchNorm2d):
        raise InputError(
            "this network has split BatchNorms and so one test-time form per modality; "
            f'call deploy("{MODALITIES[0]}") or deploy("{MODALITIES[1]}")'
        )
    network = fold_batchnorm(drop_unused(model, images), images)
    return DeployedNetwork(network, feature_dim, modality)


def select_modality(model: nn.Module, modality: str) -> nn.Module:
    """Return a copy of ``model`` in which every split BatchNorm is the plain one of ``modality``.

    Args:
        model: any network; without split BatchNorms the copy equals it.
        modality: ``"visible"`` or ``"infrared"``.

    Raises:
        InputError: another modality, or a BatchNorm that is still searched.
    """
    if modality not in MODALITIES:
        raise InputError(
            f'the modality "{modality}" has no network of its own, expected one of {", ".join(MODALITIES)}'
            f"{nearest(modality, MODALITIES)}"
        )
    _refuse_searched(model)
    model = copy.deepcopy(model)
    if isinstance(model, SplitBatchNorm2d):
        return getattr(model, modality)
    for parent, name, module in _places(model):
        if isinstance(module, SplitBatchNorm2d):
            setattr(parent, name, getattr(module, modality))
    return model


def drop_unused(model: nn.Module, images: torch.Tensor | None = None) -> nn.Module:
    """Return an eval copy of ``model`` without dropout and without what its forward pass leaves alone.

    A module goes (its place in its parent becomes None) if it has parameters or
    buffers and the pass neither calls it or a part of it nor reads any of them.

    Args:
        model: maps images to anything, without other arguments.
        images: for the trace; see :func:`fold_batchnorm`.
    """
    model = copy.deepcopy(model).eval()
    flow = _trace(model, images)
    for parent, name, module in _places(model):
        if isinstance(module, _DROPOUT):
            setattr(parent, name, nn.Identity())
        elif _tensors_of(module) and not flow.touches(module):
            setattr(parent, name, None)
    return model


def fold_batchnorm(model: nn.Module, images: torch.Tensor | None = None) -> nn.Module:
    """Return an eval copy of ``model`` whose BatchNorm2d layers are folded into the Conv2d layers before them.

    A BatchNorm is folded, and an identity takes its place, where that is exact:
    its input is the output of a convolution that nothing else reads, the pass
    uses the parameters of both once, and neither has hooks or is a subclass
    that may compute something else. Any other one stays a BatchNorm in eval mode: at the
    input, after an activation or pooling, or without running statistics.

    Args:
        model: maps images to anything, without other arguments.
        images: (B, 3, H, W), images that take every path of the network that
            is to be used later; one black image of 256×128 unless given.
    """
    model = copy.deepcopy(model).eval()
    flow = _trace(model, images)
    for bn, conv in flow.foldable.items():
        fused = fuse_conv_bn_eval(conv, bn)
        conv.weight, conv.bias = fused.weight, fused.bias
    for parent, name, module in _places(model):
        if module in flow.foldable:
            setattr(parent, name, nn.Identity())
    return model


class _Flow(TorchFunctionMode):
    """What one forward pass of ``model`` computes from what.

    Attributes:
        foldable: BatchNorm -> the convolution before it that may take it in, once the pass is over.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.foldable: dict[nn.Module, nn.Conv2d] = {}
        self._model = model
        self._calls: Counter[nn.Module] = Counter()
        self._reads: Counter[int] = Counter()
        self._made_by: dict[int, nn.Conv2d] = {}
        self._input_of: dict[nn.Module, torch.Tensor] = {}
        # Every tensor of the pass is held until its end, for a freed one's id could be given to another.
        self._alive: list[torch.Tensor] = []

    def run(self, images: torch.Tensor) -> None:
        """Pass ``images`` through the model and fill :attr:`foldable`."""
        with contextlib.ExitStack() as stack:
            for module in self._model.modules():
                stack.enter_context(module.register_forward_hook(self._record))
            stack.enter_context(self)
            output = self._model(images)
        # Whoever gets the output reads it.
        self._reads.update(map(id, _tensors_in(output)))
        for bn, tensor in self._input_of.items():
            conv = self._made_by.get(id(tensor))
            if conv is not None and self._reads[id(tensor)] == 1 and self._plain(conv) and self._plain(bn):
                self.foldable[bn] = conv
        self._alive.clear()

    def _plain(self, layer: nn.Module) -> bool:
        """Return whether the layer computes what its class says, once, and nobody else uses its tensors."""
        hooked = layer._forward_hooks or layer._forward_pre_hooks
        averages = isinstance(layer, nn.BatchNorm2d) and layer.running_mean is None
        once = all(self._reads[id(tensor)] <= 1 for tensor in _tensors_of(layer))
        return type(layer) in (nn.Conv2d, nn.BatchNorm2d) and once and not hooked and not averages

    def touches(self, module: nn.Module) -> bool:
        """Return whether the pass called the module or a part of it, or read any of its tensors."""
        called = any(self._calls[part] for part in module.modules())
        return called or any(self._reads[id(tensor)] for tensor in _tensors_of(module))

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor) or getattr(func, "__name__", None) not in _METADATA:
            for tensor in (*_tensors_in(args), *_tensors_in(kwargs)):
                self._reads[id(tensor)] += 1
                self._alive.append(tensor)
        return result

    def _record(self, module: nn.Module, args: tuple, output: Any) -> None:
        self._calls[module] += 1
        if isinstance(module, nn.Conv2d):
            self._made_by[id(output)] = module
            self._alive.append(output)
        elif isinstance(module, nn.BatchNorm2d) and args:
            self._input_of[module] = args[0]


@torch.no_grad()
def _trace(model: nn.Module, images: torch.Tensor | None) -> _Flow:
    flow = _Flow(model)
    if images is None:
        images = next(model.parameters(), torch.empty(0)).new_zeros(1, 3, _HEIGHT, _WIDTH)
    flow.run(images)
    return flow


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (Mapping, tuple, list)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(item)


def _tensors_of(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _places(model: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Return (parent, name, module) of every place that holds a module; a list, for the model changes meanwhile."""
    return [
        (parent, name, module)
        for parent in model.modules() for name, module in parent._modules.items() if module is not None
    ]


def _holds(model: nn.Module, kind: type) -> bool:
    return any(isinstance(module, kind) for module in model.modules())


def _refuse_searched(model: nn.Module) -> None:
    if _holds(model, MixedBatchNorm2d):
        raise InputError(
            "this network is a supernet whose BatchNorms are still searched, it has no test-time form yet; "
            "derive the architecture first and deploy the network that is built from it"
        )
