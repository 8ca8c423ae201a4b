"""Loading of a config: defaults, a file, overrides, and a clear word for what does not fit."""
from __future__ import annotations

__all__ = ["change_config", "changed_keys", "config_to_yaml", "default_config", "flatten", "load_config", "parse_overrides"]

import ast
import copy
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yacs.config import CfgNode

from torchreid_nas.config.key import Key
from torchreid_nas.config.keys import KEYS, check_together
from torchreid_nas.config.shipped import find_config
from torchreid_nas.errors import InputError, nearest, shown

# More levels than any key has.
_DEEPEST = 20
_LARGEST = 2**63 - 1
_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", list: "a list"}


def default_config() -> CfgNode:
    """Return all keys with their defaults, the recipe of CM-NAS.

    Example:
        >>> default_config().train.lr
        0.01
    """
    cfg = CfgNode()
    for name, key in KEYS.items():
        *sections, last = name.split(".")
        node = cfg
        for section in sections:
            node = node.setdefault(section, CfgNode())
        node[last] = copy.deepcopy(key.default)
    return cfg


def load_config(path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()) -> CfgNode:
    """Return the defaults, changed by a YAML file, then by ``KEY VALUE`` overrides, checked.

    Args:
        path: a YAML file with any part of the keys, the name of a shipped config such as ``"demo"``, or None.
        overrides: ``["train.lr", "0.02", …]`` as on torchreid's command line.

    Raises:
        InputError: unreadable file, unknown key (the nearest known one is
            named), wrong type, value out of range.

    Example:
        >>> load_config("demo", ["train.lr", "0.02"]).train.lr
        0.02
    """
    cfg = default_config()
    if path is not None:
        path = find_config(path)
        for name, value in _as_meant(dict(flatten(_read_yaml(path)))).items():
            _set(cfg, name, value, f'the config "{path}"')
    for name, value in parse_overrides(overrides).items():
        _set(cfg, name, value, "the command line")
    check_together(cfg)
    cfg.freeze()
    return cfg


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``KEY VALUE`` pairs by key; of a key that stands twice the last value. The keys are not checked.

    Raises:
        InputError: a key has no value, or a file stands where a key is expected.

    Example:
        >>> parse_overrides(["train.lr", "0.02"])
        {'train.lr': 0.02}
    """
    file = next((word for word in overrides[::2] if word.endswith((".yaml", ".yml"))), None)
    if file is not None:
        raise InputError(f'"{file}" stands where a key is expected; write --config {file}')
    if len(overrides) % 2:
        raise InputError(f'the override "{overrides[-1]}" has no value; write KEY VALUE pairs, e.g. train.lr 0.02')
    values: dict[str, Any] = {}
    for name, text in zip(overrides[::2], overrides[1::2]):
        value = _parse(text)
        # What reads as a number may be the name of a folder: 1.10 is not 1.1.
        if name in KEYS and isinstance(KEYS[name].default, str) and type(value) in (int, float):
            value = text
        values[name] = value
    return values


def change_config(cfg: CfgNode, values: Mapping[str, Any], origin: str) -> CfgNode:
    """Return a copy of a config with other values, checked as those of a file are.

    Args:
        cfg: the config, which stays as it is.
        values: by the whole names of the keys.
        origin: whose values these are, for messages.

    Raises:
        InputError: see :func:`load_config`.

    Example:
        >>> change_config(load_config("demo"), {"train.lr": 0.5}, "an example").train.lr
        0.5
    """
    changed = cfg.clone()
    changed.defrost()
    for name, value in values.items():
        _set(changed, name, value, origin)
    check_together(changed)
    changed.freeze()
    return changed


def config_to_yaml(cfg: CfgNode) -> str:
    """Return the config as YAML text with every key."""
    text: str = cfg.dump(sort_keys=False)
    return text


def changed_keys(old: Mapping[str, Any], new: CfgNode, among: Sequence[str]) -> list[str]:
    """Return ``key: old -> new`` for every key that differs between a saved config and ``new``.

    A key that the saved config lacks had its default: the code that saved the config did not know the key.

    Args:
        old: a config as read from YAML.
        new: the config to compare with.
        among: keys and sections to look at.
    """
    before = {**{name: key.default for name, key in KEYS.items()}, **_as_meant(dict(flatten(old)))}
    return [
        f"{key}: {before.get(key)} -> {value}" for key, value in flatten(new)
        if (key in among or key.split(".")[0] in among) and before.get(key) != value
    ]


def _as_meant(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a config with those of keys that an earlier version kept and did not heed as this version has them.

    A run of one of torchreid's networks kept the default of model.neck, which was "fblneck", beside the network's own head.
    The versions that did so kept every key, but had no key model.small_images.
    """
    kept_by_earlier = {"device", "model.neck", "synthetic.seed"} <= values.keys() and "model.small_images" not in values
    return {**values, "model.neck": "own"} if kept_by_earlier and values.get("model.architecture") == "none" else values


def _read_yaml(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        # Sections that hold themselves by an anchor have no end.
        depth = _depth(content)
    except RecursionError as error:
        raise InputError(f'the config "{path}" is nested without end; expected sections with keys, such as "train:"') from error
    except OSError as error:
        raise InputError(
            f'the config "{path}" cannot be read ({error.strerror}); `torchreid-nas configs` lists the shipped ones'
        ) from error
    # Beside what YAML refuses: text that is not UTF-8, and dates and numbers that do not exist or are too long.
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f'the config "{path}"{where} is not valid YAML; mend the file') from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f'the config "{path}" holds no keys; expected sections such as "train:"')
    if depth > _DEEPEST:
        raise InputError(f'the config "{path}" is nested {depth} levels deep, expected at most {_DEEPEST}; mend the file')
    return content


def _depth(content: Any) -> int:
    """Return how many levels of sections and lists a content has; RecursionError where it holds itself."""
    inner = content.values() if isinstance(content, dict) else content if isinstance(content, (list, tuple, set)) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the name of every key of a config with its value: ``train.lr``, 0.01."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _set(cfg: CfgNode, name: str, value: Any, origin: str) -> None:
    if value is None and any(known.startswith(f"{name}.") for known in KEYS):
        return  # a section of a file whose keys are all commented out
    if name not in KEYS:
        raise InputError(f'{origin} has the unknown key "{shown(name)}"{nearest(name, KEYS)}')
    key = KEYS[name]
    *sections, last = name.split(".")
    node = cfg
    for section in sections:
        node = node[section]
    node[last] = read = _coerce(name, key, value, key.default, origin)
    if isinstance(read, float) and not math.isfinite(read):
        raise InputError(f"{origin} sets {name} to {_shown(value)}, expected a finite number")
    if key.check is not None and not key.check.valid(read):
        raise InputError(f"{origin} sets {name} to {_shown(value)}, expected {key.check.expected}")


def _coerce(name: str, key: Key, value: Any, default: Any, origin: str) -> Any:
    """Return the value as the type of ``default``: of the key, or of an item of its list."""
    kind = type(default)
    if isinstance(value, (bool, str)) and value in key.spellings:
        return key.spellings[value]
    if kind is float and isinstance(value, str):
        value = _parse(value)  # YAML 1.1 reads 5e-4 as text
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise InputError(f"{origin} sets {name} to a whole number of more than 64 bits, expected {_KINDS[kind]} that fits")
    if kind is float and type(value) is int:
        return float(value)
    if kind is list and isinstance(value, (list, tuple)):
        return [_coerce(name, key, item, default[0] if default else key.item, origin) for item in value]
    if kind is list and isinstance(value, str):
        if value.startswith("["):
            # A shell takes the quotes away that are not quoted themselves.
            meant = json.dumps([word.strip() for word in value.strip("[] ").split(",")])
            raise InputError(f"{origin} sets {name} to {shown(value, 200)}, which is no list; write it as '{shown(meant, 200)}'")
        return _coerce(name, key, [value], default, origin)
    if kind is str and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if type(value) is not kind:
        raise InputError(f"{origin} sets {name} to {_shown(value)}, expected {_KINDS[kind]}")
    # A shell expands ~ neither in a file nor in --output=~/runs.
    return os.path.expanduser(value) if kind is str else value  # noqa: PTH111  # Path would change "" and "a/"


def _shown(value: Any) -> str:
    try:
        return shown(repr(value), 200)
    except ValueError:
        return "a number of more digits than Python writes"


def _parse(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    # The last two: brackets nested without end.
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return {"true": True, "false": False}.get(text.lower(), text)
