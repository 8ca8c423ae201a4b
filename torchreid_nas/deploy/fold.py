"""The test-time form of a network: no classifier, no dropout, BatchNorm inside the convolutions.

In eval mode BatchNorm is y = γ (x − μ) / √(σ² + ε) + β, affine per channel. A
convolution W * x + b with a BatchNorm behind it is again a convolution, with
weight W γ / √(σ² + ε) and bias (b − μ) γ / √(σ² + ε) + β (torch.nn.utils.fusion).

One forward pass tells which layers may be folded and which may be dropped, not
their names: a mode of torch sees which function takes which tensor. torch.fx
would need networks whose checks do not look at sizes; the checks of CDNet do.
"""
from __future__ import annotations

__all__ = ["DeployedNetwork", "deploy_network", "drop_unused", "fold_batchnorm", "select_modality", "unused_layers"]

import contextlib
import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode

from torchreid_nas.deploy.optimize import OptimizedNetwork, optimize_network
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.layers import MODALITIES, MixedNorm, SplitConv2d, SplitNorm
from torchreid_nas.layers.norms import has_activation

# Height and width of the traced image, as in the re-ID literature. The weights depend on neither.
_HEIGHT, _WIDTH = 256, 128
# Functions that read the shape, dtype or device of a tensor and not its values, unless they return a tensor.
# An attribute is read by "__get__".
_METADATA = frozenset({
    "__get__", "__len__", "dim", "ndimension", "size", "stride", "numel", "is_contiguous", "is_floating_point",
})
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class DeployedNetwork(nn.Module):
    """A network that gives features and nothing else: (B, 3, H, W) -> (B, ``feature_dim``).

    The network needs no gradient and stays in eval mode after any call of
    ``train``: the parts that training needs are gone.

    Args:
        network: maps images to features.
        feature_dim: number of features.
        modality: ``"visible"`` or ``"infrared"`` where the network is one of a pair, else None.

    >>> deployed = DeployedNetwork(nn.Flatten(), feature_dim=12)
    >>> deployed.train().training
    False
    """

    def __init__(self, network: nn.Module, feature_dim: int, modality: str | None = None) -> None:
        super().__init__()
        self.network = network
        self.feature_dim = feature_dim
        self.modality = modality
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of ``images`` (B, 3, H, W)."""
        return self.network(images)

    def train(self, mode: bool = True) -> DeployedNetwork:
        """Keep eval mode; torchreid's engines call this method before and after every epoch."""
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

    Split norms become the norms of ``modality``. Dropout and the layers
    that the forward pass does not touch (classifiers) are removed. BatchNorms are
    folded.

    Args:
        model: maps images to features in eval mode; it is not changed.
        feature_dim: number of features.
        modality: needed where a norm is split.
        images: for the trace; see :func:`fold_batchnorm`.

    Raises:
        InputError: norms are split and the modality is missing or unknown, or
            the model is a supernet.

    >>> model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> deployed = deploy_network(model, feature_dim=4)
    >>> deployed(torch.zeros(2, 3, 8, 8)).shape, any(isinstance(m, nn.BatchNorm2d) for m in deployed.modules())
    (torch.Size([2, 4]), False)
    """
    _refuse_searched(model)
    if modality is not None:
        model = select_modality(model, modality)
    elif _holds(model, SplitNorm):
        raise InputError(
            "this network has split norms and so one test-time form per modality; "
            f'call deploy("{MODALITIES[0]}") or deploy("{MODALITIES[1]}")'
        )
    network = fold_batchnorm(drop_unused(model, images), images)
    return DeployedNetwork(network, feature_dim, modality)


def select_modality(model: nn.Module, modality: str) -> nn.Module:
    """Return a copy of ``model`` in which every split norm and convolution is the plain one of ``modality``.

    Args:
        model: any network; without split norms the copy equals it.
        modality: ``"visible"`` or ``"infrared"``.

    Raises:
        InputError: the modality is another one, or a norm is still searched.

    >>> type(select_modality(SplitNorm(nn.LayerNorm(4)), "infrared")).__name__
    'LayerNorm'
    """
    if modality not in MODALITIES:
        raise InputError(
            f'the modality "{modality}" has no network of its own, expected one of {", ".join(MODALITIES)}'
            f"{nearest(modality, MODALITIES)}"
        )
    _refuse_searched(model)
    model = copy.deepcopy(model)
    if isinstance(model, (SplitNorm, SplitConv2d)):
        return getattr(model, modality)
    for parent, name, module in _places(model):
        if isinstance(module, (SplitNorm, SplitConv2d)):
            setattr(parent, name, getattr(module, modality))
    return model


def drop_unused(model: nn.Module, images: torch.Tensor | None = None) -> nn.Module:
    """Return an eval copy of ``model`` without dropout and without the layers that its forward pass does not use.

    A module is removed (its place in its parent becomes None) if it has parameters
    or buffers, and the pass neither calls the module or a part of it nor reads one
    of its tensors.

    Args:
        model: maps images to anything, without other arguments.
        images: for the trace; see :func:`fold_batchnorm`.

    >>> class Network(nn.Sequential):
    ...     def forward(self, x):
    ...         return self[0](x)
    >>> list(drop_unused(Network(nn.Conv2d(3, 4, 1), nn.Linear(4, 10))).children())
    [Conv2d(3, 4, kernel_size=(1, 1), stride=(1, 1))]
    """
    model = copy.deepcopy(model).eval()
    for parent, name, _ in unused_layers(model, images):
        setattr(parent, name, None)
    for parent, name, module in _places(model):
        if isinstance(module, _DROPOUT):
            setattr(parent, name, nn.Identity())
    return model


def unused_layers(model: nn.Module, images: torch.Tensor | None = None) -> list[tuple[nn.Module, str, nn.Module]]:
    """Return (parent, name, module) of the modules with parameters or buffers that the forward pass does not use.

    Args:
        model: in eval mode; maps images to anything, without other arguments.
        images: for the trace; see :func:`fold_batchnorm`.

    >>> unused_layers(nn.Sequential(nn.Conv2d(3, 4, 1)).eval())
    []
    """
    flow = _trace(model, images)
    return [place for place in _places(model) if _tensors_of(place[2]) and not flow.touches(place[2])]


def fold_batchnorm(model: nn.Module, images: torch.Tensor | None = None) -> nn.Module:
    """Return an eval copy of ``model`` whose BatchNorm2d layers are folded into the Conv2d layers before them.

    A BatchNorm is folded, and an identity takes its place, where the result is
    exact: only the BatchNorm reads the output of the convolution, the pass uses
    the parameters of both once, and neither has hooks or is a subclass that may
    compute something else. Other BatchNorms stay, in eval mode: at the input,
    after an activation or pooling, or without running statistics.

    Args:
        model: maps images to anything, without other arguments.
        images: (B, 3, H, W), images that take every path of the network that
            is used later; default one black image of 256×128, or of the size that the backbone is made for.

    >>> fold_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))[1]
    Identity()
    """
    model = copy.deepcopy(model).eval()
    flow = _trace(model, images)
    for bn, conv in flow.foldable.items():
        # The stub of torch names the common class of BatchNorms, which is not public.
        fused = fuse_conv_bn_eval(conv, cast(Any, bn))
        conv.weight, conv.bias = fused.weight, fused.bias
    for parent, name, module in _places(model):
        if module in flow.foldable:
            setattr(parent, name, _behind(module))
    return model


def _behind(bn: nn.Module) -> nn.Module:
    """Return what is left of a BatchNorm that is folded: the activation of timm's BatchNormAct2d, else nothing."""
    activation: nn.Module = cast(Any, bn).act if has_activation(bn) else nn.Identity()
    return activation


class _Flow(TorchFunctionMode):
    """A record of one forward pass of ``model``: the calls of its modules, and the reads of their tensors.

    Attributes:
        foldable: BatchNorm -> the convolution that may take it in, filled at the end of the pass.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.foldable: dict[nn.Module, nn.Conv2d] = {}
        self._model = model
        self._calls: Counter[nn.Module] = Counter()
        self._reads: Counter[int] = Counter()
        self._made_by: dict[int, nn.Conv2d] = {}
        self._input_of: dict[nn.Module, torch.Tensor] = {}
        # Every tensor of the pass lives until the end of the pass: the id of a freed tensor may be given to another one.
        self._alive: list[torch.Tensor] = []

    def run(self, images: torch.Tensor) -> None:
        """Pass ``images`` through the model and fill :attr:`foldable`."""
        with contextlib.ExitStack() as stack:
            for module in self._model.modules():
                stack.enter_context(module.register_forward_hook(self._record))
            stack.enter_context(self)
            output = self._model(images)
        # The caller reads the output.
        self._reads.update(map(id, _tensors_in(output)))
        for bn, tensor in self._input_of.items():
            conv = self._made_by.get(id(tensor))
            if conv is not None and self._reads[id(tensor)] == 1 and self._plain(conv) and self._plain(bn):
                self.foldable[bn] = conv
        self._alive.clear()

    def _plain(self, layer: nn.Module) -> bool:
        """Return whether the layer computes what its class computes, once, and no other layer uses its tensors."""
        hooked = layer._forward_hooks or layer._forward_pre_hooks
        averages = isinstance(layer, nn.BatchNorm2d) and layer.running_mean is None
        once = all(self._reads[id(tensor)] <= 1 for tensor in _tensors_of(layer))
        return (type(layer) in (nn.Conv2d, nn.BatchNorm2d) or has_activation(layer)) and once and not hooked and not averages

    def touches(self, module: nn.Module) -> bool:
        """Return whether the pass called the module or a part of it, or read any of its tensors."""
        called = any(self._calls[part] for part in module.modules())
        return called or any(self._reads[id(tensor)] for tensor in _tensors_of(module))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, torch.Tensor) or getattr(func, "__name__", None) not in _METADATA:
            for tensor in (*_tensors_in(args), *_tensors_in(kwargs)):
                self._reads[id(tensor)] += 1
                self._alive.append(tensor)
        return result

    def _record(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
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
        # A backbone may be made for one size of images (torchreid_nas.models.backbones).
        sizes = (getattr(module, "image_size", None) for module in model.modules())
        size = next((size for size in sizes if isinstance(size, tuple)), (_HEIGHT, _WIDTH))
        images = next(model.parameters(), torch.empty(0)).new_zeros(1, 3, *size)
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
    """Return (parent, name, module) of every place that holds a module, as a list: the caller changes the model."""
    return [
        (parent, name, module)
        for parent in model.modules() for name, module in parent._modules.items() if module is not None
    ]


def _holds(model: nn.Module, kind: type) -> bool:
    return any(isinstance(module, kind) for module in model.modules())


def _refuse_searched(model: nn.Module) -> None:
    if _holds(model, MixedNorm):
        raise InputError(
            "this network is a supernet whose norms are still searched, so it has no test-time form; "
            "derive the architecture first and deploy the network that is built from it"
        )
