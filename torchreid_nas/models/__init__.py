"""Models: networks that torchreid's ``build_model`` knows once ``torchreid_nas`` is imported."""
from torchreid_nas.models.resnet import ResNetBackbone
from torchreid_nas.models.two_stream import TwoStreamNetwork, two_stream_resnet18, two_stream_resnet50

__all__ = ["ResNetBackbone", "TwoStreamNetwork", "two_stream_resnet18", "two_stream_resnet50"]
