"""What the networks of a run start from: the weights' name and digests, written beside what is trained from them."""
from __future__ import annotations

__all__ = ["initial_weights"]

import hashlib
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from torchreid_nas.checkpoints.load import resolve_weights
from torchreid_nas.files import file_digest
from torchreid_nas.run.folder import weights_file


def initial_weights(cfg: CfgNode, model: nn.Module, from_supernet: bool = False) -> dict[str, Any]:
    """Return the content of ``initial.json``.

    Args:
        cfg: of the run.
        model: as a stage starts to train it.
        from_supernet: whether its weights are those of the search.

    Returns:
        ``weights``: ``"imagenet"``, ``"random"``, ``"supernet"``, or what the config names; ``file_sha256`` of a file
        that the config names; ``sha256`` of all tensors by their names, the classifier of the new identities among them.

    Example:
        >>> from torchreid_nas.config import load_config
        >>> entry = initial_weights(load_config(None, ["model.pretrained", "False"]), nn.Linear(1, 1))
        >>> entry["weights"], len(entry["sha256"])
        ('random', 64)
    """
    model_cfg, entry = cfg.model, {}
    named = model_cfg.load_weights or ("" if model_cfg.pretrained == "imagenet" else model_cfg.pretrained)
    if from_supernet:
        entry["weights"] = "supernet"
    elif named:
        path = resolve_weights(named) if model_cfg.load_weights else weights_file(named)
        entry = {"weights": named, "file_sha256": file_digest(path, "sha256")}
    else:
        entry["weights"] = "imagenet" if model_cfg.pretrained else "random"
    return {**entry, "sha256": _digest(model)}


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
