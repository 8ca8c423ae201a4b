"""Layers: norms per modality, fixed (split) or searched (mixed); BNNeck; blocks of CDNet; pooling and attention of AGW."""
from torchreid_nas.layers.bnneck import BNNeck
from torchreid_nas.layers.dropout import whole_dropout
from torchreid_nas.layers.gem import GeMPool
from torchreid_nas.layers.lite import CBlock, CDBlock, ConvBN, FusionGate, Lite, LiteConv3x3, Standard
from torchreid_nas.layers.mixed_bn import MixedBatchNorm1d, MixedBatchNorm2d
from torchreid_nas.layers.modality import BOTH, MODALITIES, ModalityLayer, active_modality, joint_lengths, modality_context
from torchreid_nas.layers.non_local import NonLocal
from torchreid_nas.layers.norms import bn_slots, is_batchnorm, is_norm, norm_slots, replace_module
from torchreid_nas.layers.split_bn import SplitBatchNorm2d
from torchreid_nas.layers.split_conv import SplitConv2d, split_convolutions
from torchreid_nas.layers.split_norm import MixedNorm, SplitNorm
from torchreid_nas.layers.surgery import mixed_layer, split_batchnorm, split_layer, split_norms
from torchreid_nas.layers.sync_norm import average_statistics, synchronized_norms

__all__ = [
    "BNNeck", "BOTH", "CBlock", "CDBlock", "ConvBN", "FusionGate", "GeMPool", "Lite", "LiteConv3x3", "MODALITIES",
    "MixedBatchNorm1d", "MixedBatchNorm2d", "MixedNorm", "ModalityLayer", "NonLocal", "SplitBatchNorm2d", "SplitConv2d",
    "SplitNorm", "Standard", "active_modality", "average_statistics", "bn_slots", "is_batchnorm", "is_norm", "joint_lengths",
    "mixed_layer", "modality_context", "norm_slots", "replace_module", "split_batchnorm", "split_convolutions", "split_layer",
    "split_norms", "synchronized_norms", "whole_dropout",
]
