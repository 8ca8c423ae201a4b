"""Layers: BatchNorm per modality, fixed (split) or searched (mixed); BNNeck; blocks of CDNet; pooling and attention of AGW."""
from torchreid_nas.layers.bnneck import BNNeck
from torchreid_nas.layers.gem import GeMPool
from torchreid_nas.layers.lite import CBlock, CDBlock, ConvBN, FusionGate, Lite, LiteConv3x3, Standard
from torchreid_nas.layers.mixed_bn import MixedBatchNorm2d
from torchreid_nas.layers.modality import BOTH, MODALITIES, ModalityLayer, active_modality, modality_context
from torchreid_nas.layers.non_local import NonLocal
from torchreid_nas.layers.split_bn import SplitBatchNorm2d, bn_slots, split_batchnorm
from torchreid_nas.layers.split_conv import SplitConv2d, split_convolutions

__all__ = [
    "BNNeck", "BOTH", "CBlock", "CDBlock", "ConvBN", "FusionGate", "GeMPool", "Lite", "LiteConv3x3", "MODALITIES",
    "MixedBatchNorm2d", "ModalityLayer", "NonLocal", "SplitBatchNorm2d", "SplitConv2d", "Standard", "active_modality", "bn_slots",
    "modality_context", "split_batchnorm", "split_convolutions",
]
