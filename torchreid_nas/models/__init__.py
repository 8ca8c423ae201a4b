"""Models: networks that torchreid's ``build_model`` knows once ``torchreid_nas`` is imported."""
from torchreid_nas.deploy.fold import DeployedNetwork, deploy_network
from torchreid_nas.deploy.optimize import OptimizedNetwork, optimize_network
from torchreid_nas.models.agw import AGWBackbone, agw_resnet18, agw_resnet50
from torchreid_nas.models.backbones import FeatureMaps, any_backbone
from torchreid_nas.models.cdnet import CDNet, CDNetBackbone, cdnet, cdnet_x0_5, cdnet_x0_25, cdnet_x0_75, cnet
from torchreid_nas.models.ecn import ECNNetwork, ecn_resnet18, ecn_resnet34, ecn_resnet50, ecn_resnet101
from torchreid_nas.models.mobilenet import MobileNetBackbone
from torchreid_nas.models.necked import NeckedNetwork, attach_neck
from torchreid_nas.models.necks import BatchNormNeck, BLNeck, BNNeck, FBLNeck, PlainNeck
from torchreid_nas.models.resnet import ResNetBackbone
from torchreid_nas.models.two_stream import (
    TwoStreamNetwork,
    two_stream,
    two_stream_cdnet,
    two_stream_mobilenetv2,
    two_stream_resnet18,
    two_stream_resnet50,
)

__all__ = [
    "AGWBackbone", "BLNeck", "BNNeck", "BatchNormNeck", "CDNet", "CDNetBackbone", "DeployedNetwork", "ECNNetwork", "FBLNeck",
    "FeatureMaps", "MobileNetBackbone", "NeckedNetwork", "OptimizedNetwork", "PlainNeck", "ResNetBackbone",
    "TwoStreamNetwork", "agw_resnet18", "agw_resnet50", "any_backbone", "attach_neck", "cdnet", "cdnet_x0_25", "cdnet_x0_5",
    "cdnet_x0_75", "cnet", "deploy_network",
    "ecn_resnet101", "ecn_resnet18", "ecn_resnet34", "ecn_resnet50", "optimize_network",
    "two_stream", "two_stream_cdnet", "two_stream_mobilenetv2", "two_stream_resnet18",
    "two_stream_resnet50",
]
