"""A search space from outside: whether each stage of a ResNet ends in a learned scale per channel."""
from __future__ import annotations

import copy

import torch
from extending.stage_figure import draw_stages
from torch import nn

from torchreid_nas.architecture import Architecture
from torchreid_nas.architecture_format import ArchitectureFormat
from torchreid_nas.search import SearchSpace, register_space

STAGES = ("layer1", "layer2", "layer3", "layer4")
CHOICES = ("plain", "scaled")


class Scale(nn.Module):
    """One factor per channel."""

    def __init__(self, channels):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x):
        return self.factor * x


class MixedStage(nn.Module):
    """A stage and its scaled copy, weighted by the softmax of two logits."""

    def __init__(self, stage, channels):
        super().__init__()
        self.stage, self.scale = stage, Scale(channels)
        self.logits = nn.Parameter(torch.zeros(2))
        self.temperature = 1.0

    def probabilities(self):
        return torch.softmax(self.logits / self.temperature, dim=0)

    def forward(self, x):
        x, (plain, scaled) = self.stage(x), self.probabilities()
        return plain * x + scaled * self.scale(x)


@register_space
class StageSpace(SearchSpace):
    format = ArchitectureFormat("stage_scale")
    models = ("two_stream_resnet18",)

    def build_supernet(self, model):
        for name in STAGES:
            stage = model.backbone.get_submodule(name)
            channels = [layer for layer in stage.modules() if isinstance(layer, nn.BatchNorm2d)][-1].num_features
            setattr(model.backbone, name, MixedStage(stage, channels))
        return model

    def architecture_parameters(self, model):
        return [stage.logits for stage in self._stages(model).values()]

    def derive(self, model, source=None):
        chosen = ((name, CHOICES[stage.logits.argmax()]) for name, stage in self._stages(model).items())
        return Architecture(self.format.name, tuple(chosen), source or {})

    def derive_network(self, model):
        network = copy.deepcopy(model)
        for name, choice in self.derive(model).choices:
            mixed = network.backbone.get_submodule(name)
            setattr(network.backbone, name, mixed.stage if choice == "plain" else nn.Sequential(mixed.stage, mixed.scale))
        return network

    def probabilities(self, model):
        return {name: dict(zip(CHOICES, stage.probabilities().tolist())) for name, stage in self._stages(model).items()}

    def anneal(self, model, temperature):
        for stage in self._stages(model).values():
            stage.temperature = temperature

    def cost(self, model):
        return torch.stack([stage.probabilities()[1] for stage in self._stages(model).values()]).mean()

    @classmethod
    def draw(cls, history, architecture, path, **network):
        draw_stages(history, architecture, path)

    @staticmethod
    def _stages(model):
        return {name: model.backbone.get_submodule(name) for name in STAGES}
