"""All config keys: the rows of every section in the order of ``config.yaml``, and the rules over several keys."""
from __future__ import annotations

__all__ = ["KEYS", "check_together", "keys_that_bind", "keys_that_decide", "register_keys"]

from collections.abc import Mapping

from yacs.config import CfgNode

from torchreid_nas.config.classification import CLASSIFICATION, TASK
from torchreid_nas.config.data import DATA, SAMPLER, SYNTHETIC
from torchreid_nas.config.ecn import ECN
from torchreid_nas.config.key import Key, named, value_of
from torchreid_nas.config.model import MODEL
from torchreid_nas.config.report import LOGGER, REPORT
from torchreid_nas.config.search import SEARCH
from torchreid_nas.config.test import TEST
from torchreid_nas.config.train import ADAM, LOSS, SGD, TRAIN_KEYS
from torchreid_nas.errors import InputError

KEYS: dict[str, Key] = {
    "device": Key("", 'device of the run: "cpu", "cuda", "cuda:1", …; "" takes a GPU where there is one'),
    "task": TASK,
    "logger": LOGGER,
    **named("model", MODEL),
    **named("data", DATA),
    **named("sampler", SAMPLER),
    **named("loss", LOSS),
    **named("ecn", ECN),
    **named("classification", CLASSIFICATION),
    **named("train", TRAIN_KEYS),
    **named("adam", ADAM),
    **named("sgd", SGD),
    **named("search", SEARCH),
    **named("test", TEST),
    **named("report", REPORT),
    **named("synthetic", SYNTHETIC),
}
"""The row of every config key by its whole name."""


def register_keys(rows: Mapping[str, Key]) -> None:
    """Add the keys of a method from outside, by their whole names; again is harmless.

    Raises:
        ValueError: there is another row, or a section, of one of the names.

    Example:
        >>> row = Key(1.0, "loss weight of the new term")
        >>> register_keys({"mine.weight": row})
        >>> from torchreid_nas.config import load_config
        >>> load_config(None, ["mine.weight", "2"]).mine.weight
        2.0
        >>> del KEYS["mine.weight"]
    """
    for name, row in rows.items():
        sections = [key for key in KEYS if key.startswith(f"{name}.") or name.startswith(f"{key}.")]
        if sections or KEYS.get(name, row) is not row:
            raise ValueError(f'there is a config key "{(sections or [name])[0]}"; give the new one another name than "{name}"')
    KEYS.update(rows)


def keys_that_decide(stage: str) -> tuple[str, ...]:
    """Return the keys that the numbers of a stage follow from, whatever the method.

    Example:
        >>> "train.seed" in keys_that_decide("search"), "train.lr" in keys_that_decide("search")
        (True, False)
    """
    return tuple(name for name, key in KEYS.items() if stage in key.decides)


def keys_that_bind(stage: str) -> tuple[str, ...]:
    """Return the keys that a later stage cannot change of the finished stage whose work it takes.

    Another split tests on identities that were searched or trained on; nothing in the weights tells the other values.

    Example:
        >>> keys_that_bind("search")
        ('data.split_id', 'data.layout', 'data.split_seed', 'data.train_share')
    """
    return tuple(name for name, key in KEYS.items() if stage in key.binds)


def check_together(cfg: CfgNode) -> None:
    """Refuse values that are fine alone and make no sense together.

    Raises:
        InputError: naming the keys.
    """
    if cfg.train.lr_scheduler == "single_step" and len(cfg.train.stepsize) != 1:
        raise InputError("train.lr_scheduler single_step takes one train.stepsize, e.g. train.stepsize [20]")
    if cfg.train.optim == "sgd" and cfg.sgd.nesterov and not cfg.sgd.momentum:
        raise InputError("sgd.nesterov True looks ahead along the momentum, and sgd.momentum is 0; set it above 0, e.g. 0.9")
    if cfg.model.separate == "convolutions" and cfg.search.keep_weights:
        raise InputError(
            "search.keep_weights True starts from a supernet, which has one convolution for both modalities, and model.separate "
            "is convolutions; set one of them to its default"
        )
    of_other_task = [
        name for name, key in KEYS.items()
        if any(need.key == "task" and not need.holds(cfg) for need in key.needs) and value_of(cfg, name) != key.default
    ]
    if of_other_task:
        name, other = of_other_task[0], "classification" if cfg.task == "reid" else "reid"
        raise InputError(
            f"{name} is {value_of(cfg, name)}, which task {cfg.task} would not heed; leave it out, or set task {other}"
        )
    if cfg.ecn.target_epoch >= cfg.train.max_epoch:
        raise InputError(
            f"ecn.target_epoch is {cfg.ecn.target_epoch}, expected below train.max_epoch {cfg.train.max_epoch}; with "
            "ecn.weight_target 0 a training reads the source alone"
        )
