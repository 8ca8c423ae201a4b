"""A search space from outside: whether the network averages its last feature map or takes the maximum. One slot."""
from __future__ import annotations

import copy

import torch
from torch import nn

from torchreid_nas.architecture import Architecture
from torchreid_nas.architecture_format import ArchitectureFormat
from torchreid_nas.report.style import new_figure, save_figure
from torchreid_nas.search import SearchSpace

POOLS = {"mean": nn.AdaptiveAvgPool2d(1), "max": nn.AdaptiveMaxPool2d(1)}


class MixedPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return sum(p * pool(x) for p, pool in zip(self.logits.softmax(0), POOLS.values()))


class PoolSpace(SearchSpace):
    format = ArchitectureFormat("pooling")

    def build_supernet(self, model):
        model.global_avgpool = MixedPool()
        return model

    def architecture_parameters(self, model):
        return [model.global_avgpool.logits]

    def derive(self, model, source=None):
        return Architecture("pooling", (("pool", list(POOLS)[model.global_avgpool.logits.argmax()]),), source or {})

    def derive_network(self, model):
        return choose(copy.deepcopy(model), self.derive(model))

    def probabilities(self, model):
        return {"pool": dict(zip(POOLS, model.global_avgpool.logits.softmax(0).tolist()))}

    def cost(self, model):
        return 0 * model.global_avgpool.logits.sum()

    @classmethod
    def draw(cls, history, architecture, path, **network):
        figure = new_figure((5, 3), layout="constrained")
        axes = figure.subplots()
        axes.plot([row["epoch"] for row in history], [row["probabilities"]["pool"]["max"] for row in history])
        axes.set(xlabel="epoch", ylabel="P(max)", ylim=(0, 1), title=str(architecture))
        save_figure(figure, path)


def choose(model, architecture):
    (_, choice), = Architecture.resolve(architecture, ("pool",), ("pooling",)).choices
    model.global_avgpool = POOLS[choice]
    return model
