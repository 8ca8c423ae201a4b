"""Two-stream visible-infrared re-ID network of CM-NAS (Fu et al., ICCV 2021), one backbone with split BatchNorms."""
from __future__ import annotations

__all__ = [
    "FEATURES", "TwoStreamNetwork", "two_stream", "two_stream_cdnet", "two_stream_mobilenetv2", "two_stream_resnet18",
    "two_stream_resnet50",
]

import contextlib
import os
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from torchreid_nas.architecture import SPLIT, ArchitectureSpec
from torchreid_nas.deploy.fold import DeployedNetwork, deploy_network
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.layers import BNNeck, SplitBatchNorm2d, modality_context, split_batchnorm, split_norms
from torchreid_nas.models.backbones import any_backbone
from torchreid_nas.models.cdnet import CDNetBackbone
from torchreid_nas.models.mobilenet import mobilenet_backbone
from torchreid_nas.models.resnet import resnet_backbone

FEATURES = ("before BNNeck", "after BNNeck")


class TwoStreamNetwork(nn.Module):
    """Backbone -> global pooling -> BNNeck -> classifier without bias, for two modalities.

    A training batch is ``[visible; infrared]``. In eval mode a network with
    split norms must know the modality, by argument or by
    ``modality_context``.

    Args:
        backbone: maps (B, 3, H, W) to (B, D, h, w); its norms may be
            plain, split or searched.
        feature_dim: D.
        num_classes: training identities.
        loss: torchreid's convention for ``forward`` in train mode: ``"softmax"``
            returns logits, ``"triplet"`` returns (logits, pre-BN features).
        standardize_input: normalise every colour channel of the input per
            modality by a BatchNorm without parameters. Ours: a control, which
            gains most of what split BatchNorms gain where the sensors differ
            by gain and offset.
        classifier_dropout: probability of the dropout before the classifier; 0 in the paper.
        pool: maps the feature map (B, D, h, w) to (B, D) or (B, D, 1, 1); default average pooling, the paper's.

    Raises:
        InputError: another loss.

    Example:
        >>> model = two_stream_resnet18(3, "split", pretrained=False, width=0.0625)
        >>> model(torch.zeros(4, 3, 32, 16)).shape
        torch.Size([4, 3])
        >>> model.eval()(torch.zeros(4, 3, 32, 16), "visible").shape
        torch.Size([4, 32])
    """

    def __init__(
        self, backbone: nn.Module, feature_dim: int, num_classes: int, loss: str = "softmax",
        standardize_input: bool = False, classifier_dropout: float = 0.0, pool: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if loss not in ("softmax", "triplet"):
            raise InputError(f'the loss "{loss}" is unknown to this model, expected "softmax" or "triplet"')
        self.loss = loss
        self.feature_dim = feature_dim
        self.standardize = SplitBatchNorm2d(nn.BatchNorm2d(3, affine=False)) if standardize_input else nn.Identity()
        self.backbone = backbone
        self.pool = nn.AdaptiveAvgPool2d(1) if pool is None else pool
        self.bnneck = BNNeck(feature_dim)
        self.dropout = nn.Dropout(classifier_dropout)
        self.classifier = nn.Linear(feature_dim, num_classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def features(self, images: torch.Tensor, modality: str | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features before and after the BNNeck, each (B, D).

        Args:
            images: (B, 3, H, W), normalised.
            modality: ``"visible"``, ``"infrared"``, or ``"both"`` for the joint
                batch ``[visible; infrared]``. None: as declared by
                ``modality_context``, else a joint batch in train mode.

        Raises:
            InputError: the network is in eval mode and has split norms, and the modality is not known.
        """
        with modality_context(modality) if modality is not None else contextlib.nullcontext():
            pooled = self.pool(self.backbone(self.standardize(images))).flatten(1)
            return pooled, self.bnneck(pooled)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits, (B, classes), of features after the BNNeck, (B, D)."""
        logits: torch.Tensor = self.classifier(self.dropout(features))
        return logits

    def forward(
        self, images: torch.Tensor, modality: str | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, classes) in train mode, features after the BNNeck in eval mode.

        With ``loss="triplet"`` the features before the BNNeck come second in
        train mode. Arguments: see :meth:`features`.
        """
        before, after = self.features(images, modality)
        if not self.training:
            return after
        logits = self.classify(after)
        return (logits, before) if self.loss == "triplet" else logits

    def deploy(self, modality: str | None = None, feature: str = "after BNNeck") -> DeployedNetwork:
        """Return the plain network of one modality for test time, with folded BatchNorms and without classifier.

        Args:
            modality: ``"visible"`` or ``"infrared"``; may be None where no norm is split.
            feature: ``"after BNNeck"``, as ``forward`` in eval mode, or ``"before BNNeck"``.

        Raises:
            InputError: the modality is missing or unknown, the feature is unknown, or the network is a supernet.
        """
        if feature not in FEATURES:
            raise InputError(
                f'the feature "{feature}" is unknown, expected one of {", ".join(FEATURES)}{nearest(feature, FEATURES)}'
            )
        layers = OrderedDict(
            standardize=self.standardize, backbone=self.backbone, pool=self.pool,
            flatten=nn.Flatten(), bnneck=self.bnneck,
        )
        if isinstance(self.standardize, nn.Identity):
            del layers["standardize"]
        if feature == "before BNNeck":
            del layers["bnneck"]
        return deploy_network(nn.Sequential(layers), self.feature_dim, modality)


def _two_stream_resnet(
    depth: int, num_classes: int, architecture: ArchitectureSpec, loss: str, pretrained: bool | str | os.PathLike[str],
    width: float, last_stride: int, standardize_input: bool, classifier_dropout: float,
) -> TwoStreamNetwork:
    backbone = resnet_backbone(depth, width, last_stride, pretrained)
    split_batchnorm(backbone, architecture)
    return TwoStreamNetwork(backbone, backbone.feature_dim, num_classes, loss, standardize_input, classifier_dropout)


def two_stream_resnet50(
    num_classes: int, architecture: ArchitectureSpec = SPLIT, pretrained: bool | str | os.PathLike[str] = True,
    loss: str = "softmax", use_gpu: bool = True, width: float = 1.0, last_stride: int = 1,
    standardize_input: bool = False, classifier_dropout: float = 0.0,
) -> TwoStreamNetwork:
    """Return the network of CM-NAS: ResNet-50, 53 BatchNorm slots, 2048-d features.

    Args:
        num_classes: training identities.
        architecture: which BatchNorms are split; see :func:`torchreid_nas.layers.split_batchnorm`.
            The architectures that the paper found are not published; the default splits all slots.
        pretrained: ImageNet weights: True (torchvision's, downloaded once), the
            path of a file, or False. Every BatchNorm of a slot gets a copy.
        loss: see :class:`TwoStreamNetwork`.
        use_gpu: accepted for torchreid's ``build_model``; move the model with ``.to(device)``.
        width: channel multiplier.
        last_stride: stride of the last stage, 1 in the paper.
        standardize_input: see :class:`TwoStreamNetwork`.
        classifier_dropout: see :class:`TwoStreamNetwork`.

    Raises:
        InputError: the architecture is for another backbone, or the weights cannot be had.
    """
    return _two_stream_resnet(
        50, num_classes, architecture, loss, pretrained, width, last_stride, standardize_input, classifier_dropout,
    )


def two_stream_resnet18(
    num_classes: int, architecture: ArchitectureSpec = SPLIT, pretrained: bool | str | os.PathLike[str] = True,
    loss: str = "softmax", use_gpu: bool = True, width: float = 1.0, last_stride: int = 1,
    standardize_input: bool = False, classifier_dropout: float = 0.0,
) -> TwoStreamNetwork:
    """Return :func:`two_stream_resnet50` with ResNet-18 (20 slots, 512-d features), for small runs; same arguments."""
    return _two_stream_resnet(
        18, num_classes, architecture, loss, pretrained, width, last_stride, standardize_input, classifier_dropout,
    )


def two_stream_mobilenetv2(
    num_classes: int, architecture: ArchitectureSpec = SPLIT, pretrained: bool | str | os.PathLike[str] = True,
    loss: str = "softmax", use_gpu: bool = True, width: float = 1.0, last_stride: int = 1,
    standardize_input: bool = False, classifier_dropout: float = 0.0,
) -> TwoStreamNetwork:
    """Return :func:`two_stream_resnet50` with MobileNetV2 (52 slots, 1280-d features), a real start for a CPU.

    All shared it has 2.2 million parameters without classifier, and takes 350
    million multiply-adds for an image of 256×128 with last stride 1, and 49
    million for 96×48.

    The arguments are those of :func:`two_stream_resnet50`. Ours: the paper has ResNet-50 alone.

    Raises:
        InputError: the architecture is for another backbone, or the weights cannot be had.
    """
    backbone = mobilenet_backbone(width, last_stride, pretrained)
    split_batchnorm(backbone, architecture)
    return TwoStreamNetwork(backbone, backbone.feature_dim, num_classes, loss, standardize_input, classifier_dropout)


def two_stream_cdnet(
    num_classes: int, architecture: ArchitectureSpec = SPLIT, pretrained: bool | str | os.PathLike[str] = False,
    loss: str = "softmax", use_gpu: bool = True, width: float = 1.0, standardize_input: bool = False,
    classifier_dropout: float = 0.0, genotype: ArchitectureSpec = "cdnet",
) -> TwoStreamNetwork:
    """Return a lightweight two-stream network on the backbone of CDNet (ours: none of the papers has it).

    ``architecture`` says which BatchNorms are split, ``genotype`` which CDNet
    is the backbone. There are no ImageNet weights for download. The other
    arguments are those of :func:`two_stream_resnet50`.

    Raises:
        InputError: the architecture or the genotype does not fit, or ``pretrained`` is set.
    """
    if pretrained:
        raise InputError("two_stream_cdnet has no pretrained weights; set model.pretrained False")
    backbone = CDNetBackbone.from_architecture(genotype, width)
    split_batchnorm(backbone, architecture)
    return TwoStreamNetwork(backbone, backbone.feature_dim, num_classes, loss, standardize_input, classifier_dropout)


def two_stream(
    num_classes: int, architecture: ArchitectureSpec = SPLIT, pretrained: bool | str | os.PathLike[str] = True,
    loss: str = "softmax", use_gpu: bool = True, backbone: str = "resnet50", width: float = 1.0, last_stride: int = 1,
    standardize_input: bool = False, classifier_dropout: float = 0.0, image_size: Sequence[int] = (256, 128),
) -> TwoStreamNetwork:
    """Return a two-stream network on any backbone of torchreid or timm (ours: the paper has ResNet-50 alone).

    The other arguments are those of :func:`two_stream_resnet50`.

    Args:
        num_classes: training identities.
        architecture: which norms are split; see :func:`torchreid_nas.layers.split_norms`.
        pretrained: see :func:`torchreid_nas.models.backbones.any_backbone`.
        loss: see :class:`TwoStreamNetwork`.
        use_gpu: accepted for torchreid's ``build_model``.
        backbone: name of a network of torchreid, or ``timm:NAME``.
        width: 1, for the name says the channels.
        last_stride: see :func:`torchreid_nas.models.backbones.any_backbone`.
        standardize_input: see :class:`TwoStreamNetwork`.
        classifier_dropout: see :class:`TwoStreamNetwork`.
        image_size: height and width of the images; some backbones of timm are made for one size.

    Raises:
        InputError: the backbone is unknown or unsuited, the architecture is for another one, the weights cannot be had or
            do not fit, or the width is not 1.

    Example:
        >>> model = two_stream(3, "first-2", pretrained=False, backbone="osnet_x0_25", image_size=(64, 32))
        >>> model(torch.zeros(4, 3, 64, 32)).shape
        torch.Size([4, 3])
    """
    if width != 1:
        raise InputError(
            f"model.width is {width}, which model.backbone {backbone}, a network as its name says, would not heed; set "
            "model.width 1"
        )
    maps = any_backbone(backbone, pretrained, last_stride, image_size)
    split_norms(maps, architecture)
    return TwoStreamNetwork(maps, maps.feature_dim, num_classes, loss, standardize_input, classifier_dropout)
