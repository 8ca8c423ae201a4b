"""Key: the row of one config key, and the checks and needs that rows are made of."""
from __future__ import annotations

__all__ = [
    "AT_LEAST_ONE", "AUTO_OR_BOOL", "FRACTION", "NOT_NEGATIVE", "POSITIVE", "RECIPE", "RISING_EPOCHS", "TRAIN",
    "TRAIN_AND_SEARCH", "Check", "Key", "Need", "named", "one_of", "value_of",
]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from yacs.config import CfgNode

TRAIN = ("train",)
TRAIN_AND_SEARCH = ("search", "train")
# A search by paths trains its network by the recipe of the training.
RECIPE = ("paths", "train")


@dataclass(frozen=True)
class Check:
    """Which values a key may take.

    Args:
        valid: whether a value of the key's type may stand.
        expected: what a message and the reference say of the values.
    """

    valid: Callable[[Any], bool]
    expected: str


@dataclass(frozen=True)
class Need:
    """When a key has an effect: another key has one of some values, or its list holds one of them.

    Example:
        >>> from torchreid_nas.config import default_config
        >>> Need("train.optim", "adam", "amsgrad").holds(default_config())
        True
    """

    key: str
    values: tuple[Any, ...]

    def __init__(self, key: str, *values: Any) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "values", values)

    def holds(self, cfg: CfgNode) -> bool:
        """Return whether the other key has one of the values."""
        value = value_of(cfg, self.key)
        return any(item in self.values for item in (value if isinstance(value, list) else [value]))

    def __str__(self) -> str:
        return f"{self.key} is {' or '.join(map(str, self.values))}"


@dataclass(frozen=True)
class Key:
    """All that is known of one config key; its name is the key of the row in a table such as :data:`torchreid_nas.config.KEYS`.

    Args:
        default: gives the key its type, too: bool, int, float, str, or a list of these.
        help: what the key sets, in one line, with its unit.
        source: whose the default is: a paper, ``"torchreid"``, or ``"ours"``.
        check: which values are allowed; None allows all of the type.
        needs: when the key has an effect, as far as other keys decide; what a
            method and a data set read, these say themselves.
        decides: stages whose numbers follow from the key, so that a resumed stage keeps its value; "paths" is a search by paths.
        binds: finished stages whose work a later stage can only use with the same value.
        item: a value of the element type of a list whose default is empty.
        spellings: values of today by what else a config may say for them: True and False for text, a former name.

    Example:
        >>> Key(0.01, "learning rate", "CM-NAS", POSITIVE).check.valid(0.0)
        False
    """

    default: Any
    help: str
    source: str = "ours"
    check: Check | None = None
    needs: tuple[Need, ...] = ()
    decides: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()
    item: Any = None
    spellings: Mapping[Any, Any] = field(default_factory=dict)


def named(section: str, rows: Mapping[str, Key]) -> dict[str, Key]:
    """Return the rows of a section by their whole names.

    Example:
        >>> list(named("test", {"rerank": Key(False, "re-rank")}))
        ['test.rerank']
    """
    return {f"{section}.{name}": key for name, key in rows.items()}


def one_of(*names: str) -> Check:
    """Return the check of a key that takes one of some names."""
    return Check(lambda value: value in names, "one of " + ", ".join(f'"{name}"' for name in names))


def value_of(cfg: CfgNode, key: str) -> Any:
    """Return the value of a key by its whole name, such as ``"train.lr"``."""
    return reduce(CfgNode.__getitem__, key.split("."), cfg)


AT_LEAST_ONE = Check(lambda value: value >= 1, "a whole number of at least 1")
NOT_NEGATIVE = Check(lambda value: value >= 0, "0 or more")
POSITIVE = Check(lambda value: value > 0, "above 0")
FRACTION = Check(lambda value: 0 <= value < 1, "at least 0 and below 1")
AUTO_OR_BOOL = Check(lambda value: value == "auto" or isinstance(value, bool), 'True, False or "auto"')
RISING_EPOCHS = Check(
    lambda value: value == sorted(set(value)) and all(epoch > 0 for epoch in value), "rising epochs above 0"
)
