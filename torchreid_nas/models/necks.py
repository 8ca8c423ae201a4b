"""Necks: the layers between feature maps and losses, for any backbone.

A neck maps feature maps to a tuple of features, one per branch, and each
feature to logits. In train mode ``forward`` returns ``(logits, features)``:
two tuples with a tensor per branch, (B, classes) and (B, D). In eval mode
``forward`` returns the concatenated features and calls no classifier.
"""
from __future__ import annotations

__all__ = ["BNNeck", "BalanceBranch", "BatchNormNeck", "BLNeck", "FBLNeck", "Neck", "PlainNeck", "build_neck"]

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import torch
from torch import nn

from torchreid_nas.errors import InputError, nearest
from torchreid_nas.layers import BNNeck
from torchreid_nas.models.initial import init_params
from torchreid_nas.neck_names import NECKS

NeckOutput: TypeAlias = torch.Tensor | tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]


Maps: TypeAlias = torch.Tensor | Sequence[torch.Tensor]


class Neck(Protocol):
    """What a network asks of its neck, a module.

    Attributes:
        feature_dim: D of the features of all branches, concatenated.
    """

    feature_dim: int

    def features(self, maps: Maps, /) -> tuple[torch.Tensor, ...]:
        """Return the features that the triplet loss reads, one per branch."""

    def classify(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return the logits of every branch, (B, classes), from :meth:`features`."""

    def __call__(self, maps: Maps, /) -> NeckOutput:
        """Train mode: (logits, features). Eval mode: the test features (B, ``feature_dim``)."""


class _OneFeatureNeck(nn.Module):
    """A neck whose one feature, (B, C), is the average-pooled last map after dropout; a subclass adds the classifier."""

    def __init__(self, in_channels: int, dropout: float) -> None:
        super().__init__()
        _check_dropout(dropout)
        self.feature_dim = in_channels
        self.dropout = nn.Dropout(dropout)

    def features(self, maps: Maps) -> tuple[torch.Tensor, ...]:
        """Return the one feature, (B, C), as a tuple; that of a BNNeck stands before its BatchNorm."""
        return (self.dropout(_last(maps).mean((2, 3))),)

    def classify(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return the logits, (B, ``num_classes``), as a tuple."""
        raise NotImplementedError

    def forward(self, maps: Maps) -> NeckOutput:
        """Train mode: (logits, features), tuples of one tensor. Eval mode: the feature (B, C)."""
        features = self.features(maps)
        return (self.classify(features), features) if self.training else features[0]


class PlainNeck(_OneFeatureNeck):
    """The plain neck: global average pooling, dropout, a classifier with bias on the feature of the triplet loss.

    Args:
        in_channels: C of the last feature map.
        num_classes: training identities.
        dropout: probability, on the feature.

    Attributes:
        feature_dim: C.

    Shapes: see :class:`BLNeck`.

    Raises:
        InputError: the dropout is outside of [0, 1).

    Example:
        >>> logits, features = PlainNeck(8, num_classes=3)(torch.randn(2, 8, 4, 2))
        >>> logits[0].shape, features[0].shape
        (torch.Size([2, 3]), torch.Size([2, 8]))
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.2) -> None:
        super().__init__(in_channels, dropout)
        self.classifier = nn.Linear(in_channels, num_classes)

    def classify(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return the logits, (B, ``num_classes``), as a tuple."""
        return (self.classifier(features[0]),)


class BatchNormNeck(_OneFeatureNeck):
    """The BNNeck (Luo et al., CVPRW 2019): pooled feature -> :class:`BNNeck` -> classifier without bias.

    The triplet loss reads the feature before the BatchNorm. Cross-entropy and
    test read the feature after it, as in the paper. (The CDNet authors' code
    has a BNNeck whose classifier reads the feature before the BatchNorm.)

    Args:
        in_channels: C of the last feature map.
        num_classes: training identities.
        dropout: probability, on the feature before the BatchNorm; the paper has none.

    Attributes:
        feature_dim: C.

    Shapes: see :class:`BLNeck`.

    Raises:
        InputError: the dropout is outside of [0, 1).

    Example:
        >>> neck = BatchNormNeck(8, num_classes=3, dropout=0.0)
        >>> maps = torch.randn(2, 8, 4, 2)
        >>> torch.equal(neck.eval()(maps), neck.bnneck(neck.features(maps)[0]))
        True
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.0) -> None:
        super().__init__(in_channels, dropout)
        self.bnneck = BNNeck(in_channels)
        self.classifier = nn.Linear(in_channels, num_classes, bias=False)

    def classify(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return the logits, (B, ``num_classes``), as a tuple."""
        return (self.classifier(self.bnneck(features[0])),)

    def forward(self, maps: Maps) -> NeckOutput:
        """Train mode: (logits, features before the BatchNorm). Eval mode: the feature after it, (B, C)."""
        features = self.features(maps)
        if self.training:
            return self.classify(features), features
        tested: torch.Tensor = self.bnneck(features[0])
        return tested


class BalanceBranch(nn.Module):
    """The balance of CDNet's necks: layers between the feature of the triplet loss and the classifier.

    Linear, BatchNorm1d, ReLU, then a classifier with bias. The triplet loss
    acts on the input of the branch, the cross-entropy on its output.

    Args:
        in_features: D of the feature.
        num_classes: training identities.
        hidden: width of the layer in between, 512 in the paper.

    Shapes: (B, D) -> (B, ``num_classes``).

    Example:
        >>> BalanceBranch(8, num_classes=3, hidden=4)(torch.randn(2, 8)).shape
        torch.Size([2, 3])
    """

    def __init__(self, in_features: int, num_classes: int, hidden: int = 512) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(in_features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Return the logits of features (B, D)."""
        logits: torch.Tensor = self.classifier(self.fc(feature))
        return logits


class BLNeck(_OneFeatureNeck):
    """The Balance Neck (Li et al., CVPR 2021): global average pooling, dropout, one :class:`BalanceBranch`.

    Args:
        in_channels: C of the last feature map.
        num_classes: training identities.
        dropout: probability, on the feature that the triplet loss sees; 0.2 in the paper.
        hidden: see :class:`BalanceBranch`.

    Attributes:
        feature_dim: C.

    Shapes: (B, C, h, w), or a sequence of maps whose last map has this shape,
    -> features (B, C), logits (B, ``num_classes``).

    Raises:
        InputError: the dropout is outside of [0, 1).

    Example:
        >>> neck = BLNeck(8, num_classes=3)
        >>> logits, features = neck(torch.randn(2, 8, 4, 2))
        >>> logits[0].shape, features[0].shape, neck.eval()(torch.randn(2, 8, 4, 2)).shape
        (torch.Size([2, 3]), torch.Size([2, 8]), torch.Size([2, 8]))
    """

    def __init__(self, in_channels: int, num_classes: int, dropout: float = 0.2, hidden: int = 512) -> None:
        super().__init__(in_channels, dropout)
        self.global_branch = BalanceBranch(in_channels, num_classes, hidden)

    def classify(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return the logits, (B, ``num_classes``), as a tuple."""
        return (self.global_branch(features[0]),)


class FBLNeck(nn.Module):
    """The Fine-grained Balance Neck (Li et al., CVPR 2021): a global branch, and a local branch of horizontal stripes.

    Global: the last map is average pooled. Local: the second last map goes
    through a linear 1×1 convolution to ``local_channels`` and is cut into
    ``stripes`` from top to bottom; every stripe is average pooled, and the
    stripes are concatenated. Each of the two features has its own
    :class:`BalanceBranch`.

    Args:
        in_channels: (C_2, C_3), channels of the last two feature maps.
        num_classes: training identities.
        dropout: probability, on both features; 0.2 in the paper.
        hidden: see :class:`BalanceBranch`.
        local_channels: 128 in the paper.
        stripes: 2 in the paper. Where the height is no multiple of ``stripes``,
            the upper stripes have one row more.

    Attributes:
        feature_dim: C_3 + ``stripes`` · ``local_channels``; 768 in the paper.

    Shapes: maps (B, C_2, h_2, w_2) and (B, C_3, h_3, w_3), the last two of a
    sequence, -> features (B, C_3) and (B, ``stripes`` · ``local_channels``), in
    eval mode concatenated in this order; logits (B, ``num_classes``) each.

    Raises:
        InputError: the dropout is outside of [0, 1), or there is no stripe; in
            ``forward``, there is a single map or fewer rows than stripes.

    Example:
        >>> neck = FBLNeck((8, 16), num_classes=3, local_channels=4).eval()
        >>> neck([torch.randn(2, 8, 4, 2), torch.randn(2, 16, 4, 2)]).shape
        torch.Size([2, 24])
    """

    def __init__(
        self, in_channels: Sequence[int], num_classes: int, dropout: float = 0.2, hidden: int = 512,
        local_channels: int = 128, stripes: int = 2,
    ) -> None:
        super().__init__()
        _check_dropout(dropout)
        if stripes < 1:
            raise InputError(f"FBLNeck cuts its map into one stripe or more, got {stripes}")
        before_last, last = in_channels[-2:]
        self.stripes = stripes
        self.feature_dim = last + stripes * local_channels
        self.squeeze = nn.Conv2d(before_last, local_channels, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.global_branch = BalanceBranch(last, num_classes, hidden)
        self.local_branch = BalanceBranch(stripes * local_channels, num_classes, hidden)

    def features(self, maps: Maps) -> tuple[torch.Tensor, ...]:
        """Return the global and the local feature."""
        if isinstance(maps, torch.Tensor) or len(maps) < 2:
            raise InputError(_ONE_MAP)
        before_last, last = maps[-2:]
        if before_last.shape[2] < self.stripes:
            raise InputError(
                f"FBLNeck cuts its map into {self.stripes} stripes, which the map of {before_last.shape[2]}x"
                f"{before_last.shape[3]} is too small for; give larger images or choose BLNeck"
            )
        stripes = self.squeeze(before_last).tensor_split(self.stripes, dim=2)
        local = torch.cat([stripe.mean((2, 3)) for stripe in stripes], dim=1)
        return self.dropout(last.mean((2, 3))), self.dropout(local)

    def classify(self, features: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        """Return the logits of the global and the local branch, each (B, ``num_classes``)."""
        return self.global_branch(features[0]), self.local_branch(features[1])

    def forward(self, maps: Maps) -> NeckOutput:
        """Train mode: (logits, features), tuples of global and local. Eval mode: both features concatenated."""
        features = self.features(maps)
        return (self.classify(features), features) if self.training else torch.cat(features, dim=1)


def build_neck(name: str, in_channels: Sequence[int], num_classes: int, dropout: float) -> Neck:
    """Return a neck by its name, initialised as CDNet's authors initialise theirs.

    Args:
        name: one of :data:`~torchreid_nas.neck_names.NECKS`.
        in_channels: channels of the backbone's maps; of the last two for ``"fblneck"``, of the last for the others.
        num_classes: training identities.
        dropout: probability, on the features.

    Raises:
        InputError: the name is unknown, the dropout is outside of [0, 1), or FBLNeck is asked for one map.

    Example:
        >>> build_neck("plain", (8, 16), num_classes=3, dropout=0.0).feature_dim
        16
    """
    if name not in NECKS:
        raise InputError(f'the neck "{name}" is unknown, expected one of {", ".join(NECKS)}{nearest(name, NECKS)}')
    if name == "fblneck" and len(in_channels) < 2:
        raise InputError(_ONE_MAP)
    neck: PlainNeck | BatchNormNeck | BLNeck | FBLNeck
    if name == "plain":
        neck = PlainNeck(in_channels[-1], num_classes, dropout)
    elif name == "bnneck":
        neck = BatchNormNeck(in_channels[-1], num_classes, dropout)
    elif name == "blneck":
        neck = BLNeck(in_channels[-1], num_classes, dropout)
    else:
        neck = FBLNeck(in_channels, num_classes, dropout)
    init_params(neck)
    return neck


_ONE_MAP = "FBLNeck needs the last two feature maps of its backbone, got one; give both or choose BLNeck"


def _last(maps: Maps) -> torch.Tensor:
    return maps if isinstance(maps, torch.Tensor) else maps[-1]


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise InputError(f"the neck's dropout is {dropout}, expected a probability from 0 to below 1")
