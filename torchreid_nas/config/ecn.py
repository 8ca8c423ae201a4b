"""Rows of the section ``ecn``, and the variants of its ablation."""
from __future__ import annotations

__all__ = ["ABLATION", "AFTER_THE_SOURCE", "ECN"]

from collections.abc import Mapping
from typing import Any

from torchreid_nas.config.key import AT_LEAST_ONE, FRACTION, NOT_NEGATIVE, POSITIVE, TRAIN, Check, Key, Need, one_of

ABLATION: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "source": ("source only", {"ecn.weight_target": 0.0}),
    "exemplar": ("exemplar", {"ecn.camstyle": "none", "ecn.num_neighbours": 0}),
    "camera": ("exemplar + camera", {"ecn.num_neighbours": 0}),
    "neighbourhood": ("exemplar + neighbourhood", {"ecn.camstyle": "none"}),
    "all": ("all (ECN)", {}),
    "supervised": ("supervised on the target", {"ecn.weight_target": 0.0}),
}
"""Title and changed keys of each row of the paper's Table 3, and of the bound above them, a training on the target's labels."""

AFTER_THE_SOURCE = (
    "ecn.weight_target", "ecn.temperature", "ecn.num_neighbours", "ecn.neighbour_epoch", "ecn.momentum", "ecn.momentum_step",
    "ecn.exemplars", "ecn.camstyle", "ecn.memory_init", "ecn.memory_dtype", "ecn.chunk_size",
)
"""Keys without a part in the epochs on the source alone (before ``ecn.target_epoch``), where ``ecn.weight_target`` is below 1."""

_POSITIVES = (Need("ecn.positive_prediction", True),)

ECN = {
    "weight_target": Key(
        0.3, "λ, the loss weight of the target; 0 trains on the source alone, 1 reads no label", "ECN",
        Check(lambda value: 0 <= value <= 1, "between 0 and 1"), decides=TRAIN,
    ),
    "target_epoch": Key(
        0, "zero-based epoch in which the target sets in; before it the source alone is trained on",
        "ours", NOT_NEGATIVE, decides=TRAIN,
    ),
    "temperature": Key(0.05, "β, the temperature of the softmax over the memory's entries", "ECN", POSITIVE, decides=TRAIN),
    "num_neighbours": Key(
        6, "k, the number of neighbours; 0 leaves neighbourhood invariance out", "ECN", NOT_NEGATIVE, decides=TRAIN,
    ),
    "neighbour_epoch": Key(5, "zero-based epoch in which neighbourhood invariance sets in", "ECN", NOT_NEGATIVE, decides=TRAIN),
    "momentum_step": Key(
        0.01, "an entry keeps the share α = momentum + momentum_step · epoch; epochs count from ecn.target_epoch", "ECN",
        FRACTION, decides=TRAIN,
    ),
    "momentum": Key(
        0.0, "the share α of itself that an entry keeps from the start, to which momentum_step adds; with momentum_step 0 α is "
        "fixed", "ECN", FRACTION, decides=TRAIN,
    ),
    "exemplars": Key(
        "memory", "the classes of the invariance loss: all images of the target by their entries (memory), or the images of the "
        "batch (batch), the control without a memory", "ECN", one_of("memory", "batch"), decides=TRAIN,
    ),
    "camstyle": Key(
        "files", "images in the style of other cameras: released or trained ones (files), computed ones (fourier, statistics: "
        "ours, no training), or none", "ECN", one_of("files", "fourier", "statistics", "none"), decides=TRAIN,
    ),
    "epoch_length": Key(
        "source", "data set that an epoch walks through once", "ECN", one_of("source", "target", "longer"), decides=TRAIN,
    ),
    "batch_size_target": Key(
        0, "images of the target per batch; 0 is train.batch_size", "ours",
        Check(lambda value: value == 0 or value >= 2, "0 (as train.batch_size) or at least 2, for BatchNorm's statistics"),
        decides=TRAIN,
    ),
    "memory_init": Key(
        "zeros", "what the memory starts from: zeros, or (ours) the target's features under the weights at ecn.target_epoch",
        "ECN", one_of("zeros", "features"), decides=TRAIN,
    ),
    "memory_dtype": Key(
        "float32", "number format of the memory; two bytes halve it",
        "ours", one_of("float32", "bfloat16", "float16"), decides=TRAIN,
    ),
    "chunk_size": Key(
        16384, "entries per step of the walk through the memory; bounds the memory that logits take",
        "ours", AT_LEAST_ONE, decides=TRAIN,
    ),
    "positive_prediction": Key(False, "a graph network that the source trains chooses the neighbours", "ECN++", decides=TRAIN),
    "num_candidates": Key(100, "entries that the graph network chooses from", "ECN++", AT_LEAST_ONE, decides=TRAIN),
    "positive_threshold": Key(
        0.9, "probability above which the graph network chooses an entry",
        "ECN++", Check(lambda value: 0 < value < 1, "between 0 and 1"),
        decides=TRAIN,
    ),
    "positive_lr": Key(1e-3, "learning rate of the graph network", "ours", POSITIVE, decides=TRAIN),
    "ablation": Key(
        [], "variants to train in turn, with a table of all", "ECN",
        Check(lambda value: set(value) <= set(ABLATION) and len(set(value)) == len(value), "some of " + ", ".join(ABLATION)),
        decides=TRAIN, item="",
    ),
}
