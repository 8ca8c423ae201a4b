"""The network of ECN (Zhong et al., CVPR 2019): a ResNet with one embedding and two heads, for source and target."""
from __future__ import annotations

__all__ = ["ECNNetwork", "ecn_resnet18", "ecn_resnet34", "ecn_resnet50", "ecn_resnet101"]

import os
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from torchreid_nas.architecture import SHARE, ArchitectureSpec
from torchreid_nas.deploy.fold import DeployedNetwork, deploy_network
from torchreid_nas.errors import InputError
from torchreid_nas.layers import split_batchnorm
from torchreid_nas.models.resnet import ResNetBackbone, resnet_backbone

_STEM = ("conv1", "bn1", "relu", "maxpool")


class ECNNetwork(nn.Module):
    """Backbone -> average pooling (pool-5) -> FC -> BatchNorm, then one head per domain (Section 3.2).

    - source: ReLU, dropout, classifier, for the cross-entropy;
    - target: L2 normalisation without ReLU, dropout, for the exemplar memory.

    The test feature is pool-5, L2-normalised.

    Args:
        backbone: its BatchNorms may be plain or split.
        num_classes: identities of the source.
        loss: torchreid's convention for ``forward`` in train mode: ``"softmax"``
            returns logits of the source head, ``"triplet"`` also pool-5.
        feature_dim: length of the embedding and of the entries of the memory; 4096 in the paper.
        dropout: of both heads; 0.5 in the paper.
        frozen_stages: as in mmcv: 2 freezes conv1 to layer2 as the paper, 0
            the stem alone, -1 nothing (right for training from scratch). A frozen stage gets no gradient and its
            BatchNorms stay in eval mode. torchreid's
            ``open_all_layers``, which sets ``requires_grad`` everywhere at
            every epoch, does not undo it.
        freeze_downsample: whether the BatchNorms of the downsampling paths of frozen stages stay in eval mode, too,
            as the paper's text has it. False: they normalise by the statistics of the batch and follow them with
            their running statistics, without a gradient. So does the authors' code, which the published figures are of.

    Raises:
        InputError: an argument is out of range.

    Example:
        >>> model = ecn_resnet18(3, pretrained=False, width=0.0625, feature_dim=8)
        >>> embedding = model.embedding(torch.zeros(2, 3, 32, 16))
        >>> model.classify(embedding).shape, model.target_feature(embedding).shape
        (torch.Size([2, 3]), torch.Size([2, 8]))
        >>> model.eval()(torch.zeros(2, 3, 32, 16)).shape
        torch.Size([2, 32])
    """

    def __init__(
        self, backbone: ResNetBackbone, num_classes: int, loss: str = "softmax", feature_dim: int = 4096,
        dropout: float = 0.5, frozen_stages: int = 2, freeze_downsample: bool = True,
    ) -> None:
        super().__init__()
        if loss not in ("softmax", "triplet"):
            raise InputError(f'the loss "{loss}" is unknown to this model, expected "softmax" or "triplet"')
        if not -1 <= frozen_stages <= 4:
            raise InputError(f"model.frozen_stages is {frozen_stages}, expected -1 (none) to 4")
        if feature_dim < 1:
            raise InputError(f"model.feature_dim is {feature_dim}, expected at least 1")
        self.loss = loss
        self.feature_dim = backbone.feature_dim
        self.embedding_dim = feature_dim
        self.frozen_stages, self.freeze_downsample = frozen_stages, freeze_downsample
        self.backbone = backbone
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.feat = nn.Linear(backbone.feature_dim, feature_dim)
        self.feat_bn = nn.BatchNorm1d(feature_dim)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(feature_dim, num_classes)
        nn.init.kaiming_normal_(self.feat.weight, mode="fan_out")
        nn.init.zeros_(self.feat.bias)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)
        for name in self._frozen_names():
            self.backbone.get_submodule(name).requires_grad_(False)
        # A module is made in train mode without a call of train.
        self.train()

    def train(self, mode: bool = True) -> ECNNetwork:
        """Set the mode as ``nn.Module.train`` does; the frozen part stays in eval mode."""
        super().train(mode)
        for name in self._frozen_names():
            self.backbone.get_submodule(name).eval()
        if mode and not self.freeze_downsample:
            for stage in range(1, self.frozen_stages + 1):
                for block in self.backbone.get_submodule(f"layer{stage}").children():
                    if block.downsample is not None:
                        block.downsample.train()
        return self

    def pool5(self, images: torch.Tensor) -> torch.Tensor:
        """Return the pooled feature map (B, D), not normalised, of images (B, 3, H, W)."""
        x = images
        # The frozen part is not in the graph: it gets no gradient even where other code sets requires_grad.
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.frozen_stages < 0):
            for name in _STEM:
                x = self.backbone.get_submodule(name)(x)
        for stage in range(1, 5):
            with torch.set_grad_enabled(torch.is_grad_enabled() and stage > self.frozen_stages):
                x = self.backbone.get_submodule(f"layer{stage}")(x)
        return self.global_avgpool(x).flatten(1)

    def embedding(self, images: torch.Tensor) -> torch.Tensor:
        """Return the embedding (B, ``embedding_dim``) after its BatchNorm; both heads start from it."""
        embedding: torch.Tensor = self.feat_bn(self.feat(self.pool5(images)))
        return embedding

    def classify(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return the logits of the source head, (B, classes)."""
        logits: torch.Tensor = self.classifier(self.dropout(F.relu(embedding)))
        return logits

    def target_feature(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return the features of the target head, (B, ``embedding_dim``), normalised before the dropout."""
        features: torch.Tensor = self.dropout(F.normalize(embedding.float()))
        return features

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return logits in train mode, normalised pool-5 features (B, ``feature_dim``) in eval mode.

        With ``loss="triplet"`` pool-5 comes second in train mode.
        """
        pooled = self.pool5(images)
        if not self.training:
            return F.normalize(pooled)
        logits = self.classify(self.feat_bn(self.feat(pooled)))
        return (logits, pooled) if self.loss == "triplet" else logits

    def deploy(self, modality: str | None = None) -> DeployedNetwork:
        """Return the plain network for test time: folded BatchNorms, no embedding, no classifier.

        Args:
            modality: ``"visible"`` or ``"infrared"`` where BatchNorms are split.

        Raises:
            InputError: a modality is needed, and it is missing or unknown.
        """
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            backbone=self.backbone, global_avgpool=self.global_avgpool, flatten=nn.Flatten(), normalize=_Normalize()
        )
        return deploy_network(nn.Sequential(layers), self.feature_dim, modality)

    def _frozen_names(self) -> list[str]:
        if self.frozen_stages < 0:
            return []
        return ["conv1", "bn1", *(f"layer{stage}" for stage in range(1, self.frozen_stages + 1))]


class _Normalize(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(x)


def _ecn_resnet(
    depth: int, num_classes: int, loss: str, pretrained: bool | str | os.PathLike[str], architecture: ArchitectureSpec,
    width: float, last_stride: int, feature_dim: int, dropout: float, frozen_stages: int, freeze_downsample: bool,
) -> ECNNetwork:
    backbone = resnet_backbone(depth, width, last_stride, pretrained)
    if architecture != SHARE:
        split_batchnorm(backbone, architecture)
    return ECNNetwork(backbone, num_classes, loss, feature_dim, dropout, frozen_stages, freeze_downsample)


def ecn_resnet50(
    num_classes: int, loss: str = "softmax", pretrained: bool | str | os.PathLike[str] = True, use_gpu: bool = True,
    architecture: ArchitectureSpec = SHARE, width: float = 1.0, last_stride: int = 2, feature_dim: int = 4096,
    dropout: float = 0.5, frozen_stages: int = 2, freeze_downsample: bool = True,
) -> ECNNetwork:
    """Return ECN with ResNet-50, 2048-d test feature.

    Args:
        num_classes: identities of the source.
        loss: see :class:`ECNNetwork`.
        pretrained: ImageNet weights: True (torchvision's, downloaded once), the path of a file, or False.
        use_gpu: accepted for torchreid's ``build_model``; move the model with ``.to(device)``.
        architecture: which BatchNorms are split between modalities (ours, for visible-infrared targets), see
            :func:`torchreid_nas.layers.split_batchnorm`; the default splits none.
        width: channel multiplier.
        last_stride: stride of the last stage; 2 in the authors' code.
        feature_dim: see :class:`ECNNetwork`.
        dropout: see :class:`ECNNetwork`.
        frozen_stages: see :class:`ECNNetwork`.
        freeze_downsample: see :class:`ECNNetwork`.

    Raises:
        InputError: an argument is out of range, or the weights cannot be had.
    """
    return _ecn_resnet(
        50, num_classes, loss, pretrained, architecture, width, last_stride, feature_dim, dropout, frozen_stages,
        freeze_downsample,
    )


def ecn_resnet18(
    num_classes: int, loss: str = "softmax", pretrained: bool | str | os.PathLike[str] = True, use_gpu: bool = True,
    architecture: ArchitectureSpec = SHARE, width: float = 1.0, last_stride: int = 2, feature_dim: int = 4096,
    dropout: float = 0.5, frozen_stages: int = 2, freeze_downsample: bool = True,
) -> ECNNetwork:
    """Return :func:`ecn_resnet50` with ResNet-18 (512-d test feature), for small runs; same arguments."""
    return _ecn_resnet(
        18, num_classes, loss, pretrained, architecture, width, last_stride, feature_dim, dropout, frozen_stages,
        freeze_downsample,
    )


def ecn_resnet34(
    num_classes: int, loss: str = "softmax", pretrained: bool | str | os.PathLike[str] = True, use_gpu: bool = True,
    architecture: ArchitectureSpec = SHARE, width: float = 1.0, last_stride: int = 2, feature_dim: int = 4096,
    dropout: float = 0.5, frozen_stages: int = 2, freeze_downsample: bool = True,
) -> ECNNetwork:
    """Return :func:`ecn_resnet50` with ResNet-34 (512-d test feature); same arguments."""
    return _ecn_resnet(
        34, num_classes, loss, pretrained, architecture, width, last_stride, feature_dim, dropout, frozen_stages,
        freeze_downsample,
    )


def ecn_resnet101(
    num_classes: int, loss: str = "softmax", pretrained: bool | str | os.PathLike[str] = True, use_gpu: bool = True,
    architecture: ArchitectureSpec = SHARE, width: float = 1.0, last_stride: int = 2, feature_dim: int = 4096,
    dropout: float = 0.5, frozen_stages: int = 2, freeze_downsample: bool = True,
) -> ECNNetwork:
    """Return :func:`ecn_resnet50` with ResNet-101 (2048-d test feature); same arguments."""
    return _ecn_resnet(
        101, num_classes, loss, pretrained, architecture, width, last_stride, feature_dim, dropout, frozen_stages,
        freeze_downsample,
    )
