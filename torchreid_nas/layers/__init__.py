"""Layers: BatchNorm per modality, fixed (split) or searched (mixed); BNNeck; blocks of CDNet; pooling and attention of AGW."""
from torchreid_nas.layers.bnneck import BNNeck
from torchreid_nas.layers.gem import GeMPool
from torchreid_nas.layers.lite import CBlock, CDBlock, ConvBN, FusionGate, Lite, LiteConv3x3
from torchreid_nas.layers.mixed_bn import MixedBatchNorm2d
from torchreid_nas.layers.modality import BOTH, MODALITIES, ModalityLayer, active_modality, modality_context
from torchreid_nas.layers.non_local import NonLocal
from torchreid_nas.layers.split_bn import SplitBatchNorm2d, bn_slots, split_batchnorm

__all__ = [
    "BNNeck", "BOTH", "CBlock", "CDBlock", "ConvBN", "FusionGate", "GeMPool", "Lite", "LiteConv3x3", "MODALITIES",
    "MixedBatchNorm2d", "ModalityLayer", "NonLocal", "SplitBatchNorm2d", "active_modality", "bn_slots", "modality_context",
    "split_batchnorm",
]
