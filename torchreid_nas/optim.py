"""Optimisers and schedules: torchreid's, and the warm-up that torchreid lacks."""
from __future__ import annotations

__all__ = ["build_optimizer", "build_lr_scheduler", "check_new_layers", "fuse", "warmup_multi_step"]

from collections.abc import Sequence
from typing import Any

import torch
import torchreid
from torch import nn
from yacs.config import CfgNode

from torchreid_nas.errors import InputError, nearest

# torchreid's RAdam is a class of its own, and torch's RMSprop has no fused kernel.
_HAS_FUSED = (torch.optim.Adam, torch.optim.SGD)


def warmup_multi_step(
    optimizer: torch.optim.Optimizer, milestones: Sequence[int], gamma: float = 0.1, warmup_epochs: int = 10,
    warmup_factor: float = 0.01,
) -> torch.optim.lr_scheduler.ChainedScheduler:
    """Return a schedule of linear warm-up and steps, the recipe of CM-NAS; it is stepped once per epoch.

    Args:
        optimizer: whose learning rates are scaled.
        milestones: epochs at which the rate is multiplied by ``gamma``.
        gamma: see ``milestones``.
        warmup_epochs: epochs of the warm-up; 0 for none.
        warmup_factor: factor of the first epoch, above 0; it grows linearly to 1.

    Example:
        >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> scheduler = warmup_multi_step(optimizer, [3], gamma=0.5, warmup_epochs=2, warmup_factor=0.5)
        >>> rates = []
        >>> for _ in range(4):
        ...     rates.append(round(optimizer.param_groups[0]["lr"], 3))
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.5, 0.75, 1.0, 0.5]
    """
    schedules: list[torch.optim.lr_scheduler.LRScheduler] = [
        torch.optim.lr_scheduler.MultiStepLR(optimizer, list(milestones), gamma)
    ]
    if warmup_epochs:
        schedules.append(torch.optim.lr_scheduler.LinearLR(optimizer, warmup_factor, total_iters=warmup_epochs))
    return torch.optim.lr_scheduler.ChainedScheduler(schedules)


def build_optimizer(model: nn.Module, cfg: CfgNode) -> torch.optim.Optimizer:
    """Return torchreid's optimiser for the ``train`` section of a config, fused where that says so.

    Args:
        model: on the device that it is trained on.
        cfg: resolved for that device, see :func:`torchreid_nas.device.resolve_config`; "auto" is taken for not fused.

    Raises:
        InputError: ``train.new_layers`` names a layer that the model does not have.
    """
    check_new_layers(model, cfg)
    optimizer = torchreid.optim.build_optimizer(
        model, optim=cfg.train.optim, lr=cfg.train.lr, weight_decay=cfg.train.weight_decay,
        momentum=cfg.sgd.momentum, sgd_nesterov=cfg.sgd.nesterov, adam_beta1=cfg.adam.beta1,
        adam_beta2=cfg.adam.beta2, staged_lr=cfg.train.staged_lr, new_layers=cfg.train.new_layers,
        base_lr_mult=cfg.train.base_lr_mult,
    )
    return fuse(optimizer) if cfg.train.fused is True else optimizer


def check_new_layers(model: nn.Module, cfg: CfgNode) -> None:
    """Raise InputError where ``train.new_layers`` has an effect and names a layer that the model does not have."""
    children = [name for name, _ in model.named_children()]
    for name in cfg.train.new_layers if cfg.train.staged_lr else ():
        if name not in children:
            raise InputError(f'train.new_layers names "{name}", the model has {", ".join(children)}{nearest(name, children)}')


def fuse(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return an optimiser that has made no step in its fused form, whose step is one kernel.

    An optimiser without a fused form is returned as it is.

    Example:
        >>> optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> fuse(optimizer).param_groups[0]["fused"]
        True
    """
    if not isinstance(optimizer, _HAS_FUSED):
        return optimizer
    groups = [{**group, "fused": True} for group in optimizer.param_groups]
    optimizer = type(optimizer)(groups, **{**optimizer.defaults, "fused": True})
    if isinstance(optimizer, torch.optim.SGD):
        optimizer.register_step_pre_hook(_start_momentum)
    return optimizer


def _start_momentum(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Give weights a momentum of zero before their first gradient is applied.

    torch's fused SGD fails where some weights of a step have a momentum and
    others have none, such as candidates of a search that were not computed
    before. Without dampening, a start from zero equals torch's own start from
    the gradient.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] and not group["dampening"] else ():
            if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def build_lr_scheduler(optimizer: torch.optim.Optimizer, cfg: CfgNode) -> torch.optim.lr_scheduler.LRScheduler:
    """Return the schedule of the ``train`` section: :func:`warmup_multi_step` or a schedule of torchreid."""
    if cfg.train.lr_scheduler == "warmup_multi_step":
        return warmup_multi_step(
            optimizer, cfg.train.stepsize, cfg.train.gamma, cfg.train.warmup_epochs, cfg.train.warmup_factor
        )
    stepsize = cfg.train.stepsize[0] if cfg.train.lr_scheduler == "single_step" else list(cfg.train.stepsize)
    return torchreid.optim.build_lr_scheduler(
        optimizer, lr_scheduler=cfg.train.lr_scheduler, stepsize=stepsize, gamma=cfg.train.gamma,
        max_epoch=cfg.train.max_epoch,
    )
