"""A backbone with a neck: the necks of CDNet's paper behind CDNet, and behind torchreid's own networks."""
from __future__ import annotations

__all__ = ["ChainBackbone", "NeckedNetwork", "StageBackbone", "attach_neck", "check_classifies", "class_logits"]

from collections import OrderedDict
from typing import Any, Protocol, cast

import torch
from torch import nn

from torchreid_nas.deploy.fold import DeployedNetwork, deploy_network
from torchreid_nas.errors import InputError
from torchreid_nas.layers import MixedNorm, SplitNorm
from torchreid_nas.models.necks import NeckOutput, build_neck

# Size of the images on which a network is compared with the chain of its layers.
_PROBE = (64, 32)
_POOLING = "global_avgpool"


class StageBackbone(Protocol):
    """What a network with a neck asks of its backbone, a module.

    Attributes:
        stage_dims: channels of the maps that :meth:`stage_maps` returns, and of earlier ones before them.
    """

    stage_dims: tuple[int, ...]

    def stage_maps(self, x: torch.Tensor, /) -> tuple[torch.Tensor, ...]:
        """Return the input and the output of the last stage, or the output alone, of images (B, 3, H, W)."""


class NeckedNetwork(nn.Module):
    """A backbone with one of the necks of :mod:`torchreid_nas.models.necks`.

    Args:
        backbone: a module that is a :class:`StageBackbone`.
        neck: name of the neck, one of :data:`~torchreid_nas.neck_names.NECKS`.
        num_classes: training identities.
        dropout: of the neck.
        loss: torchreid's convention for ``forward`` in train mode: ``"softmax"``
            returns a tuple of logits, ``"triplet"`` a tuple of logits and a
            tuple of features, with a tensor per branch.

    Attributes:
        feature_dim: D of the test feature.

    Raises:
        InputError: the neck or the loss is unknown, or the neck does not suit the backbone.

    Example:
        >>> import torchreid
        >>> network = attach_neck(torchreid.models.build_model("osnet_x0_25", 3, pretrained=False), "fblneck", 3)
        >>> network.eval()(torch.zeros(1, 3, 64, 32)).shape
        torch.Size([1, 384])
    """

    def __init__(
        self, backbone: nn.Module, neck: str, num_classes: int, dropout: float = 0.2, loss: str = "softmax",
    ) -> None:
        super().__init__()
        if loss not in ("softmax", "triplet"):
            raise InputError(f'the loss "{loss}" is unknown to this model, expected "softmax" or "triplet"')
        self.loss = loss
        self.backbone: Any = backbone
        made = build_neck(neck, cast(StageBackbone, backbone).stage_dims, num_classes, dropout)
        self.feature_dim = made.feature_dim
        self.neck: Any = made

    def forward(self, images: torch.Tensor) -> NeckOutput | tuple[torch.Tensor, ...]:
        """Return what ``loss`` says in train mode, features (B, ``feature_dim``), not normalised, in eval mode.

        Args:
            images: (B, 3, H, W), normalised; 256×128 in the paper.

        Raises:
            InputError: the images are too small for the backbone or for the stripes of the neck.
        """
        output: NeckOutput = self.neck(self.backbone.stage_maps(images))
        return output[0] if self.training and self.loss == "softmax" else output

    def logits(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the logits of every branch, (B, ``num_classes``), in either mode, of images (B, 3, H, W)."""
        logits: tuple[torch.Tensor, ...] = self.neck.classify(self.neck.features(self.backbone.stage_maps(images)))
        return logits

    def deploy(self, modality: str | None = None) -> DeployedNetwork:
        """Return the network for test time, with folded BatchNorms and without the layers of the neck for training.

        Args:
            modality: ``"visible"`` or ``"infrared"`` for a network that
                :func:`torchreid_nas.layers.split_batchnorm` has split, else None.

        Raises:
            InputError: a modality is given and no BatchNorm is split, or no modality is given and one is split.
        """
        per_modality = (SplitNorm, MixedNorm)
        if modality is not None and not any(isinstance(module, per_modality) for module in self.modules()):
            raise InputError(
                f'this {type(self).__name__} has one network for all images, none for the modality "{modality}"; '
                "call deploy() without argument, or split its BatchNorms with split_batchnorm before training"
            )
        return deploy_network(self, self.feature_dim, modality)


class ChainBackbone(nn.Sequential):
    """The layers of one of torchreid's networks before its global pooling, as a chain with a last stage.

    The last stage is the last ``nn.Sequential`` of the chain, with what follows
    it: ``layer4`` of a ResNet, ``conv4`` and ``conv5`` of an OSNet, ``conv8`` and
    ``conv9`` of a MobileNetV2 (ours: the papers attach FBLNeck to CDNet alone).

    Args:
        network: its children up to ``global_avgpool`` must compute what its ``featuremaps`` computes. They are taken
            over, not copied; the head of the network is left out.

    Attributes:
        stage_dims: channels of the input and of the output of the last stage; of the output alone where the chain has
            no ``nn.Sequential`` behind another layer.

    Raises:
        InputError: the network is no such chain.

    Example:
        >>> import torchreid
        >>> backbone = ChainBackbone(torchreid.models.build_model("resnet18", 3, pretrained=False))
        >>> backbone.stage_dims, [tuple(maps.shape) for maps in backbone.stage_maps(torch.zeros(1, 3, 64, 32))]
        ((256, 512), [(1, 256, 4, 2), (1, 512, 2, 1)])
    """

    def __init__(self, network: nn.Module) -> None:
        children = dict(network.named_children())
        names = list(children)
        layers = names[:names.index(_POOLING)] if _POOLING in names else []
        super().__init__(OrderedDict((name, children[name]) for name in layers))
        stages = [name for name in layers[1:] if isinstance(children[name], nn.Sequential)]
        self._last_stage = stages[-1] if stages else ""
        maps = self._probed(network) if layers and hasattr(network, "featuremaps") else ()
        if not maps:
            raise InputError(
                f"a neck needs the feature maps of its backbone, which {type(network).__name__} does not give as a chain of "
                "layers; set model.neck own, or take a CDNet, OSNet, MobileNetV2 or ResNet as model.name"
            )
        self.stage_dims = tuple(one.shape[1] for one in maps)

    def stage_maps(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the input and the output of the last stage, or the output alone; of images (B, 3, H, W)."""
        inputs: tuple[torch.Tensor, ...] = ()
        for name, layer in self.named_children():
            if name == self._last_stage:
                inputs = (x,)
            x = layer(x)
        return (*inputs, x)

    @torch.no_grad()
    def _probed(self, network: Any) -> tuple[torch.Tensor, ...]:
        """Return the maps of an image in eval mode; nothing where the network computes others."""
        training = network.training
        network.eval()
        images = torch.linspace(-1, 1, 3 * _PROBE[0] * _PROBE[1]).reshape(1, 3, *_PROBE)
        images = images.to(next(network.parameters()).device)
        maps = self.stage_maps(images)
        same = torch.equal(maps[-1], network.featuremaps(images))
        network.train(training)
        return maps if same else ()


def attach_neck(
    network: nn.Module, neck: str, num_classes: int, dropout: float = 0.2, loss: str = "softmax",
) -> NeckedNetwork:
    """Return a network with another head: its backbone with one of the necks.

    Args:
        network: one of torchreid's networks, or a :class:`NeckedNetwork`; its backbone is taken over, not copied.
        neck: see :class:`NeckedNetwork`.
        num_classes: training identities.
        dropout: of the neck.
        loss: see :class:`NeckedNetwork`.

    Raises:
        InputError: the network's backbone gives no feature maps, or see :class:`NeckedNetwork`.
    """
    backbone = network.backbone if isinstance(network, NeckedNetwork) else ChainBackbone(network)
    return NeckedNetwork(backbone, neck, num_classes, dropout, loss)


def class_logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the logits (B, classes) that a network in eval mode is tested by: the sum over its branches, as the authors do.

    Args:
        model: a network with one of CDNet's necks, or one of torchreid's with a single ``classifier``.
        images: (B, 3, H, W).

    Example:
        >>> from torchreid_nas.models import cdnet_x0_25
        >>> class_logits(cdnet_x0_25(7, pretrained=False).eval(), torch.zeros(2, 3, 64, 32)).shape
        torch.Size([2, 7])
    """
    if isinstance(model, NeckedNetwork):
        return torch.stack(model.logits(images)).sum(dim=0)
    logits: torch.Tensor = model.classifier(model(images))  # type: ignore[operator]  # check_classifies has seen the layer
    return logits


def check_classifies(model: nn.Module) -> None:
    """Raise InputError where :func:`class_logits` cannot ask a network."""
    if not isinstance(model, NeckedNetwork) and not isinstance(getattr(model, "classifier", None), nn.Linear):
        raise InputError(
            f"{type(model).__name__} has no single classifier to be tested by, as task classification needs it; set model.neck "
            "blneck, or take another network as model.name"
        )
