"""What a network holds and costs."""
from __future__ import annotations

__all__ = ["model_size"]

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from torchreid_nas.layers import modality_context


def model_size(model: nn.Module, height: int, width: int) -> tuple[int, int, int]:
    """Return parameters in all, parameters used at test time, and MACs of one image of one modality."""
    in_all = sum(p.numel() for p in model.parameters())
    was_training = model.training
    image = torch.zeros(1, 3, height, width, device=next(model.parameters()).device)
    with torch.no_grad(), modality_context("visible"), FlopCounterMode(display=False) as counter:
        model.eval()(image)
    model.train(was_training)
    # What only training uses: classifiers and the layers before them, ECN's embedding among them.
    training_only = sum(
        p.numel() for name, p in model.named_parameters()
        if "classifier" in name.split(".") or "_branch." in name or name.startswith(("feat.", "feat_bn."))
    )
    return in_all, in_all - training_only, counter.get_total_flops() // 2
