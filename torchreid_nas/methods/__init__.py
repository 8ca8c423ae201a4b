"""Methods: what of a run depends on the paper — data, networks, search space, engines, config keys."""
from __future__ import annotations

from typing import TYPE_CHECKING

from torchreid_nas.methods.base import BaseMethod
from torchreid_nas.methods.baseline import BaselineMethod
from torchreid_nas.methods.cdnet import CDNetMethod
from torchreid_nas.methods.classification import CDNetClassification, classifier_of
from torchreid_nas.methods.cmnas import CMNASMethod
from torchreid_nas.methods.ecn import ECNMethod
from torchreid_nas.methods.interface import Method

if TYPE_CHECKING:
    import torch
    from yacs.config import CfgNode

__all__ = [
    "METHODS", "BaseMethod", "BaselineMethod", "CDNetClassification", "CDNetMethod", "CMNASMethod", "ECNMethod", "Method",
    "make_method", "method_of",
]

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (CMNASMethod, CDNetMethod, ECNMethod, BaselineMethod, CDNetClassification)
}
"""The methods by name. :func:`torchreid_nas.registry.register_method` adds one from outside."""


def method_of(model: str, task: str = "reid") -> type[Method]:
    """Return the method that trains a model: the one that names it, else the one of torchreid's own networks.

    Args:
        model: its name.
        task: of the config.

    Raises:
        InputError: the model is not for the task.

    Example:
        >>> method_of("two_stream_resnet18").name, method_of("osnet_x1_0").name
        ('cmnas', 'baseline')
        >>> method_of("osnet_x1_0", "classification").name
        'classification'
    """
    method = next((method for method in METHODS.values() if model in method.factories), BaselineMethod)
    return method if task == "reid" else classifier_of(method, model)


def make_method(cfg: CfgNode, device: torch.device) -> Method:
    """Return the method of ``model.name`` for a config.

    Raises:
        InputError: the model is unknown or not for the task, or the method does not suit the config.
    """
    return method_of(cfg.model.name, cfg.task)(cfg, device)
