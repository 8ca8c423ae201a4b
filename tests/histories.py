"""Histories of searches for the tests of reports, over the slots of ResNets and of torchreid's backbones."""
from __future__ import annotations

import math
import random

import torchreid
from torch import nn

from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture

RESNET18 = Architecture.from_ints([0] * 20).slots
RESNET50 = Architecture.from_ints([0] * 53).slots
RESNET101 = Architecture.from_ints([0] * 104).slots


def torchreid_slots(name):
    model = torchreid.models.build_model(name, num_classes=2, pretrained=False)
    return tuple(slot for slot, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d))


def search(slots, epochs, warmup, seed=0, step=0.15):
    """A history as the search engine writes it: logits on a random walk after warm-up, temperature falling."""
    generator = random.Random(seed)
    drift = {slot: generator.gauss(0.9 - 2.2 * index / len(slots), 0.8) for index, slot in enumerate(slots)}
    logits, before, history = dict.fromkeys(slots, 0.0), dict.fromkeys(slots, False), []
    for epoch in range(1, epochs + 1):
        temperature = max(0.2, 5 * 0.96 ** max(0, epoch - 1 - warmup))
        row = {"epoch": epoch, "ce": 5 * math.exp(-epoch / 20), "triplet": 0.4 / epoch, "c3mmd": 0.3 / (1 + epoch / 9)}
        if epoch > warmup:
            row["architecture"] = 1.2 * math.exp(-epoch / 40)
            for slot in slots:
                logits[slot] += step * (drift[slot] + generator.gauss(0, 1.6))
        now = {slot: logits[slot] > 0 for slot in slots}
        row.update(lr=0.1 * min(1.0, epoch / 10), seconds=12.5, temperature=temperature)
        row["changed"] = sum(now[slot] != before[slot] for slot in slots)
        split = {slot: 1 / (1 + math.exp(-logits[slot] / temperature)) for slot in slots}
        row["probabilities"] = {slot: {SHARE: 1 - p, SPLIT: p} for slot, p in split.items()}
        history.append(row)
        before = now
    choices = tuple((slot, SPLIT if before[slot] else SHARE) for slot in slots)
    return history, Architecture(BN_SPACE, choices)
