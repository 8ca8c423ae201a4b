"""Which keys have no effect beside the others of a config."""
from __future__ import annotations

__all__ = ["without_effect"]

from collections.abc import Callable, Iterable, Sequence
from functools import reduce

from yacs.config import CfgNode

from torchreid_nas.methods import METHODS, Method, method_of


def _names(prefix: str, cfg: CfgNode) -> bool:
    return any(name.startswith(prefix) for name in (*cfg.data.sources, *cfg.data.targets))


# Keys and whole sections, the key that takes their effect away, and when it does.
_ROWS: Sequence[tuple[Sequence[str], str, Callable[[CfgNode], bool]]] = (
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

    Not every such key is known: those of other methods, data sets, optimisers and schedules are.
    """
    causes: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys):
        cause = _cause(cfg, key)
        if cause:
            value = reduce(CfgNode.__getitem__, cause.split("."), cfg)
            said = ", ".join(value) if isinstance(value, list) else value
            causes.setdefault(f"{cause} is {said}", []).append(key)
    return "; ".join(f"{', '.join(named)} ({cause})" for cause, named in causes.items())


def _cause(cfg: CfgNode, key: str) -> str:
    """Return the key that takes the effect of ``key`` away, ``""`` where ``key`` has an effect."""
    if not _read_for(cfg.model.name, key):
        return "model.name"
    return next((cause for among, cause, holds in _ROWS if key != cause and _covering(among, key) and holds(cfg)), "")


def _read_for(model: str, key: str) -> bool:
    """Return whether the model's method reads ``key``, which it does where no method names the key as its own."""
    names = _covering([name for method in METHODS.values() for name in _own_keys(method)], key)
    if not names:
        return True
    return max(names, key=len) in method_of(model).reads(model)


def _own_keys(method: type[Method]) -> Iterable[str]:
    return (name for model in method.factories for name in method.reads(model))


def _covering(names: Iterable[str], key: str) -> list[str]:
    """Return which of ``names``, keys and sections, hold ``key``."""
    return [name for name in names if f"{key}.".startswith(f"{name}.")]
