"""The method of the space of toy_space.py: a search, then a training and a test of the network that was found."""
from __future__ import annotations

from extending.toy_space import PoolSpace, choose

from torchreid_nas.methods.cmnas import CMNASMethod
from torchreid_nas.registry import register_method
from torchreid_nas.search import register_space


class PoolMethod(CMNASMethod):
    name, spaces, plain_architecture, path_search_class = "pool", ("pooling",), "none", None
    factories = {"pool_resnet18": ("torchreid_nas.models.two_stream", "two_stream_resnet18")}

    def build_model(self, num_classes, architecture, pretrained=True):
        model = super().build_model(num_classes, "share", pretrained)
        return model if architecture == "none" else choose(model, architecture)


def register():
    register_space(PoolSpace)
    register_method(PoolMethod)
