"""Tasks: what of a run depends on the kind of re-identification — data, model, space, engines."""
from __future__ import annotations

from torch import device as Device
from yacs.config import CfgNode

from torchreid_nas.methods.base import Task
from torchreid_nas.methods.cdnet import SingleModalityTask
from torchreid_nas.methods.cmnas import CrossModalityTask
from torchreid_nas.methods.ecn import DomainAdaptationTask

__all__ = ["CrossModalityTask", "DomainAdaptationTask", "SingleModalityTask", "Task", "make_task"]


def make_task(cfg: CfgNode, device: Device) -> Task:
    """Return the task of a config: two-stream models match across modalities, ECN's adapt, all others match within one.

    Raises:
        InputError: the model is unknown.
    """
    kinds = (CrossModalityTask, DomainAdaptationTask)
    return next((kind for kind in kinds if cfg.model.name in kind.models()), SingleModalityTask)(cfg, device)
