"""Checkpoints in the authors' layouts with the recipe's weights, for networks that the golden files do not hold."""
from __future__ import annotations

import io

import torch
from recipe import recipe

from torchreid_nas.models import two_stream_resnet18
from torchreid_nas.models.cdnet_weights import authors_keys

NORMS = ("visible_bn", "thermal_bn", "sharable_bn")


def as_file(content) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def authors_cdnet(model):
    """A state dict of the CDNet authors for any architecture, stem or neck, by the recipe."""
    own = model.state_dict()
    return {theirs: recipe(theirs, own[key].shape) for key, theirs in authors_keys(model).items()}


def authors_resnet18(num_classes, width):
    """A state dict of the CM-NAS authors for a narrow ResNet-18, by the recipe: every slot has its three BatchNorms."""
    state = {}
    for key, value in two_stream_resnet18(num_classes, "share", pretrained=False, width=width).state_dict().items():
        module, _, tensor = key.rpartition(".")
        module = module.replace("downsample.0", "downsample.conv").replace("downsample.1", "downsample.bn")
        is_slot = module.startswith("backbone") and "bn" in module.rpartition(".")[2]
        names = [f"{module}.{norm}.{tensor}" for norm in NORMS] if is_slot else [f"{module}.{tensor}"]
        state |= {name: recipe(name, value.shape) for name in names if tensor != "num_batches_tracked"}
    return state


def released(state):
    """The dictionary that the CM-NAS authors save."""
    return {"model": {f"module.{key}": value for key, value in state.items()}, "ema": None, "epoch": 120}


def trained_cmnas(state, architecture):
    """The recipe's weights as training leaves them: shared slots have equal halves, the unused have seen no batch."""
    state = dict(state)
    for slot, choice in architecture.choices:
        theirs = "backbone." + slot.replace("downsample.1", "downsample.bn")
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            if choice == "share":
                state[f"{theirs}.thermal_bn.{tensor}"] = state[f"{theirs}.visible_bn.{tensor}"].clone()
        for norm in NORMS:
            used = (norm == "sharable_bn") == (choice == "share")
            state[f"{theirs}.{norm}.num_batches_tracked"] = torch.tensor(7 if used else 0)
    return state
