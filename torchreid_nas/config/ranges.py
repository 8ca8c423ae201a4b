"""Which values the keys of a configuration may take, alone and together."""
from __future__ import annotations

__all__ = ["AUTO_OR_BOOL", "RANGES", "check_together"]

from collections.abc import Callable
from typing import Any

from yacs.config import CfgNode

from torchreid_nas.architecture import FORMATS
from torchreid_nas.errors import InputError

# Names of ecn.ablation; what each changes is in methods/ecn.py.
_ABLATIONS = ("source", "exemplar", "camera", "neighbourhood", "all", "supervised")

_AT_LEAST_ONE = (lambda v: v >= 1, "a whole number of at least 1")
_NOT_NEGATIVE = (lambda v: v >= 0, "0 or more")
_POSITIVE = (lambda v: v > 0, "above 0")
_FRACTION = (lambda v: 0 <= v < 1, "at least 0 and below 1")
AUTO_OR_BOOL = (lambda v: v == "auto" or isinstance(v, bool), 'True, False or "auto"')


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return (lambda v: v in names), "one of " + ", ".join(f'"{name}"' for name in names)


RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model.width": (lambda v: 0 < v <= 4, "above 0 and at most 4"),
    "model.last_stride": (lambda v: v in (1, 2), "1 or 2"),
    "data.sources": (lambda v: len(v) >= 1, "at least one data set"),
    "data.split_id": _NOT_NEGATIVE,
    "data.height": (lambda v: v >= 16, "at least 16"),
    "data.width": (lambda v: v >= 16, "at least 16"),
    "data.norm_mean": (lambda v: len(v) == 3, "three values"),
    "data.norm_std": (lambda v: len(v) == 3 and all(x > 0 for x in v), "three values above 0"),
    "data.workers": _NOT_NEGATIVE,
    "data.cache": _one_of("auto", "on", "off"),
    "data.save_dir": (lambda v: v != "", "a folder"),
    "sampler.num_instances": _AT_LEAST_ONE,
    "loss.triplet.margin": _NOT_NEGATIVE,
    "loss.triplet.weight_x": _NOT_NEGATIVE,
    "loss.triplet.weight_t": _NOT_NEGATIVE,
    "loss.c3mmd.weight_correlation": _NOT_NEGATIVE,
    "loss.c3mmd.weight_mmd": _NOT_NEGATIVE,
    "train.seed": (lambda v: 0 <= v < 2**32, "a whole number from 0 to 4294967295"),
    "train.max_epoch": _AT_LEAST_ONE,
    "train.batch_size": (lambda v: v >= 2, "at least 2"),
    "train.num_batches": _NOT_NEGATIVE,
    "train.optim": _one_of("adam", "amsgrad", "sgd", "rmsprop", "radam"),
    "train.lr": _POSITIVE,
    "train.weight_decay": _NOT_NEGATIVE,
    "train.base_lr_mult": _NOT_NEGATIVE,
    "train.lr_scheduler": _one_of("warmup_multi_step", "multi_step", "single_step", "cosine"),
    "train.stepsize": (lambda v: v == sorted(set(v)) and all(x > 0 for x in v), "rising epochs above 0"),
    "train.gamma": _POSITIVE,
    "train.warmup_epochs": _NOT_NEGATIVE,
    "train.warmup_factor": (lambda v: 0 <= v <= 1, "between 0 and 1"),
    "train.ema": _FRACTION,
    "train.amp": _one_of("none", "bf16", "fp16", "auto"),
    "train.channels_last": AUTO_OR_BOOL,
    "train.fused": AUTO_OR_BOOL,
    "train.accumulate": _AT_LEAST_ONE,
    "train.holdout": _FRACTION,
    "train.eval_freq": _AT_LEAST_ONE,
    "adam.beta1": _FRACTION,
    "adam.beta2": _FRACTION,
    "sgd.momentum": _FRACTION,
    "model.neck": _one_of("fblneck", "blneck"),
    "model.dropout": _FRACTION,
    "model.feature_dim": _AT_LEAST_ONE,
    "model.frozen_stages": (lambda v: -1 <= v <= 4, "-1 to 4"),
    "ecn.weight_target": (lambda v: 0 <= v <= 1, "between 0 and 1"),
    "ecn.target_epoch": _NOT_NEGATIVE,
    "ecn.temperature": _POSITIVE,
    "ecn.num_neighbours": _NOT_NEGATIVE,
    "ecn.neighbour_epoch": _NOT_NEGATIVE,
    "ecn.momentum_step": _FRACTION,
    "ecn.camstyle": _one_of("files", "fourier", "statistics", "none"),
    "ecn.epoch_length": _one_of("source", "target", "longer"),
    "ecn.batch_size_target": (lambda v: v == 0 or v >= 2, "0 (as train.batch_size) or at least 2, for BatchNorm's statistics"),
    "ecn.memory_init": _one_of("zeros", "features"),
    "ecn.memory_dtype": _one_of("float32", "bfloat16", "float16"),
    "ecn.chunk_size": _AT_LEAST_ONE,
    "ecn.num_candidates": _AT_LEAST_ONE,
    "ecn.positive_threshold": (lambda v: 0 < v < 1, "between 0 and 1"),
    "ecn.positive_lr": _POSITIVE,
    "ecn.ablation": (lambda v: set(v) <= set(_ABLATIONS) and len(set(v)) == len(v), "some of " + ", ".join(_ABLATIONS)),
    "search.neck": _one_of("", "fblneck", "blneck"),
    "search.space": (
        lambda v: v in FORMATS, ", ".join(f'"{name}"' for name in FORMATS) + " or a space that is registered from outside",
    ),
    "search.lr_min": _NOT_NEGATIVE,
    "search.arch_stepsize": (lambda v: v == sorted(set(v)) and all(x > 0 for x in v), "rising epochs above 0"),
    "search.arch_gamma": _POSITIVE,
    "search.relaxation": _one_of("topk", "softmax", "gumbel"),
    "search.k": _AT_LEAST_ONE,
    "search.tie_jitter": _NOT_NEGATIVE,
    "search.val_images": _AT_LEAST_ONE,
    "search.budget.macs": _NOT_NEGATIVE,
    "search.budget.parameters": _NOT_NEGATIVE,
    "search.budget.latency": _NOT_NEGATIVE,
    "search.budget.weight": _POSITIVE,
    "search.max_epoch": _AT_LEAST_ONE,
    "search.warmup_epochs": _NOT_NEGATIVE,
    "search.interval": _AT_LEAST_ONE,
    "search.order": (lambda v: v in (1, 2), "1 or 2"),
    "search.lr": _POSITIVE,
    "search.momentum": _FRACTION,
    "search.weight_decay": _NOT_NEGATIVE,
    "search.grad_clip": _NOT_NEGATIVE,
    "search.arch_lr": _POSITIVE,
    "search.arch_beta1": _FRACTION,
    "search.arch_beta2": _FRACTION,
    "search.arch_weight_decay": _NOT_NEGATIVE,
    "search.sampling": _one_of("softmax", "gumbel"),
    "search.temperature": _POSITIVE,
    "search.temperature_decay": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "search.split": _one_of("identity", "image"),
    "search.val_fraction": _FRACTION,
    "search.patience": _NOT_NEGATIVE,
    "test.batch_size": _AT_LEAST_ONE,
    "test.precision": _one_of("fp32", "bf16", "auto"),
    "test.dist_metric": _one_of("euclidean", "cosine"),
    "test.ranks": (lambda v: len(v) >= 1 and all(1 <= x <= 20 for x in v), "ranks between 1 and 20"),
    "test.shot": _AT_LEAST_ONE,
    "test.gallery_draw": _one_of("random", "official"),
    "test.num_trials": (lambda v: 1 <= v <= 10, "between 1 and 10"),
    "test.matrix_gib": _POSITIVE,
    "test.visrank_topk": _AT_LEAST_ONE,
}


def check_together(cfg: CfgNode) -> None:
    """Refuse values that are fine alone and make no sense together.

    Raises:
        InputError: naming the keys.
    """
    if cfg.train.lr_scheduler == "single_step" and len(cfg.train.stepsize) != 1:
        raise InputError("train.lr_scheduler single_step takes one train.stepsize, e.g. train.stepsize [20]")
    if cfg.train.optim == "sgd" and cfg.sgd.nesterov and not cfg.sgd.momentum:
        raise InputError("sgd.nesterov True looks ahead along the momentum, and sgd.momentum is 0; set it above 0, e.g. 0.9")
    if cfg.ecn.target_epoch >= cfg.train.max_epoch:
        raise InputError(
            f"ecn.target_epoch is {cfg.ecn.target_epoch}, expected below train.max_epoch {cfg.train.max_epoch}; with "
            "ecn.weight_target 0 a training reads the source alone"
        )
