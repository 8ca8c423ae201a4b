"""Which keys have no effect beside the others of a configuration, for a word to whoever sets one."""
from __future__ import annotations

__all__ = ["without_effect"]

from collections.abc import Callable, Sequence
from functools import reduce

from yacs.config import CfgNode


def _two_stream(cfg: CfgNode) -> bool:
    return cfg.model.name.startswith("two_stream_")


def _ecn(cfg: CfgNode) -> bool:
    return cfg.model.name.startswith("ecn_")


def _cdnet(cfg: CfgNode) -> bool:
    return cfg.model.name in ("cdnet", "cnet")


def _names(prefix: str, cfg: CfgNode) -> bool:
    return any(name.startswith(prefix) for name in (*cfg.data.sources, *cfg.data.targets))


# Keys and whole sections, the key that takes their effect away, and when it does.
_ROWS: Sequence[tuple[Sequence[str], str, Callable[[CfgNode], bool]]] = (
    (("ecn", "model.feature_dim", "model.frozen_stages"), "model.name", lambda cfg: not _ecn(cfg)),
    (
        ("loss.c3mmd", "search.sampling", "search.split", "search.val_fraction", "search.split_cost", "search.train_affine"),
        "model.name", lambda cfg: not _two_stream(cfg),
    ),
    (
        ("model.neck", "search.neck", "search.relaxation", "search.k", "search.tie_jitter", "search.last_conv",
         "search.val_images", "search.overlap", "search.budget"), "model.name", lambda cfg: not _cdnet(cfg),
    ),
    (("model.dropout",), "model.name", lambda cfg: not (_cdnet(cfg) or _ecn(cfg))),
    (("model.last_stride",), "model.name", lambda cfg: "_resnet" not in cfg.model.name or not (_two_stream(cfg) or _ecn(cfg))),
    (("loss.triplet", "sampler", "search"), "model.name", _ecn),
    (("search",), "model.architecture", lambda cfg: cfg.model.architecture != "search"),
    (("data.split_id",), "data.sources", lambda cfg: not _names("regdb", cfg)),
    (("test.shot", "test.gallery_draw", "test.num_trials"), "data.targets", lambda cfg: not _names("sysu", cfg)),
    (("synthetic",), "synthetic.enabled", lambda cfg: not cfg.synthetic.enabled),
    (("adam",), "train.optim", lambda cfg: cfg.train.optim not in ("adam", "amsgrad", "radam")),
    (("sgd.momentum",), "train.optim", lambda cfg: cfg.train.optim not in ("sgd", "rmsprop")),
    (("sgd.nesterov",), "train.optim", lambda cfg: cfg.train.optim != "sgd"),
    (
        ("train.warmup_epochs", "train.warmup_factor"), "train.lr_scheduler",
        lambda cfg: cfg.train.lr_scheduler != "warmup_multi_step",
    ),
    (("train.stepsize", "train.gamma"), "train.lr_scheduler", lambda cfg: cfg.train.lr_scheduler == "cosine"),
    (("train.new_layers", "train.base_lr_mult"), "train.staged_lr", lambda cfg: not cfg.train.staged_lr),
)


def without_effect(cfg: CfgNode, keys: Sequence[str]) -> str:
    """Return which of ``keys`` change nothing in a run of ``cfg``, and why; ``""`` where all of them have an effect.

    Not every such key is known: those of other tasks, data sets, optimisers and schedules are.
    """
    causes: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys):
        for among, cause, holds in _ROWS:
            if key != cause and any(f"{key}.".startswith(f"{name}.") for name in among) and holds(cfg):
                value = reduce(CfgNode.__getitem__, cause.split("."), cfg)
                said = ", ".join(value) if isinstance(value, list) else value
                causes.setdefault(f"{cause} is {said}", []).append(key)
                break
    return "; ".join(f"{', '.join(named)} ({cause})" for cause, named in causes.items())
