"""Which keys have no effect beside the others of a config, and the reference of all keys."""
from __future__ import annotations

__all__ = ["key_reference", "without_effect"]

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from yacs.config import CfgNode

from torchreid_nas.config.key import value_of
from torchreid_nas.config.keys import KEYS
from torchreid_nas.errors import InputError
from torchreid_nas.methods import METHODS, Method, method_of


def without_effect(cfg: CfgNode, keys: Sequence[str]) -> str:
    """Return which of ``keys`` change nothing in a run of ``cfg``, and why; ``""`` where all of them have an effect.

    Not every such key is known: those of other methods, data sets, optimisers and schedules are.

    Example:
        >>> from torchreid_nas.config import load_config
        >>> without_effect(load_config(), ["train.lr", "sgd.momentum"])
        'sgd.momentum (train.optim is adam)'
    """
    causes: dict[str, list[str]] = {}
    for key in dict.fromkeys(keys):
        cause = _cause(cfg, key)
        if cause:
            value = value_of(cfg, cause)
            said = ", ".join(value) if isinstance(value, list) else value
            causes.setdefault(f"{cause} is {said}", []).append(key)
    return "; ".join(f"{', '.join(named)} ({cause})" for cause, named in causes.items())


def key_reference(pattern: str = "*", markdown: bool = False) -> str:
    """Return the reference of the config keys: name, default, meaning, source of the default, allowed values, effect.

    Args:
        pattern: of the names, with ``*`` and ``?``; a word without them is sought anywhere in the name.
        markdown: a table per section for a page, or else a paragraph per key for a terminal.

    Raises:
        InputError: no key has such a name.

    Example:
        >>> print(key_reference("train.gamma"))
        train.gamma  0.1  (CM-NAS)
            factor by which the learning rate falls
            allowed: above 0
            has an effect if train.lr_scheduler is warmup_multi_step or multi_step or single_step
    """
    sought = pattern if set(pattern) & set("*?") else f"*{pattern}*"
    names = [name for name in KEYS if fnmatchcase(name, sought)]
    if not names:
        raise InputError(f'no config key fits "{pattern}"; `torchreid-nas configs keys` prints all of them')
    return _markdown(names) if markdown else "\n".join(map(_paragraph, names))


def _paragraph(name: str) -> str:
    key = KEYS[name]
    lines = [f"{name}  {_default(name)}  ({key.source})", f"    {key.help}"]
    lines += [f"    allowed: {key.check.expected}"] if key.check else []
    lines += [f"    has an effect if {effect}" for effect in _effects(name)]
    return "\n".join(lines)


def _markdown(names: Sequence[str]) -> str:
    lines: list[str] = []
    section = None
    for name in names:
        if name.partition(".")[0] != section:
            section = name.partition(".")[0]
            lines += ["", f"## {section}", "", "| key | default | meaning | source | allowed | has an effect if |"]
            lines += ["|---|---|---|---|---|---|"]
        key = KEYS[name]
        cells = [
            f"`{name}`", f"`{_default(name)}`", key.help, key.source, key.check.expected if key.check else "",
            "; ".join(_effects(name)),
        ]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines[1:]) + "\n"


def _default(name: str) -> str:
    default = KEYS[name].default
    return f'"{default}"' if isinstance(default, str) else str(default)


def _effects(name: str) -> list[str]:
    """Return the conditions under which a key has an effect."""
    from torchreid_nas.data.registered import OPTIONS

    readers = _readers(name)
    conditions = [str(need) for need in KEYS[name].needs]
    conditions += ["the method is " + " or ".join(readers)] if len(readers) < len(METHODS) else []
    return conditions + [f"a data set takes {option}" for option, key in OPTIONS.items() if key == name]


def _cause(cfg: CfgNode, key: str) -> str:
    """Return the key that takes the effect of ``key`` away, ``""`` where ``key`` has an effect."""
    model = cfg.model.name
    try:
        method = method_of(model, cfg.task)
    except InputError:
        # A model that is not for the task: the run itself refuses the model.
        return ""
    if not _reads(method, model, key):
        return "model.name" if cfg.task == "reid" or not _reads(method_of(model), model, key) else "task"
    unmet = [need.key for need in KEYS[key].needs if not need.holds(cfg)]
    return unmet[0] if unmet else _cause_in_data(cfg, key)


def _cause_in_data(cfg: CfgNode, key: str) -> str:
    """Return the key of the data sets, if ``key`` is an option that none of them takes."""
    from torchreid_nas.data.registered import OPTIONS, dataset_facts

    option = next((option for option, name in OPTIONS.items() if name == key), None)
    try:
        if option is None or any(option in dataset_facts(name).options for name in (*cfg.data.sources, *cfg.data.targets)):
            return ""
    except InputError:
        # An unknown data set: the run itself refuses the data set.
        return ""
    return "data.sources" if key.startswith("data.") else "data.targets"


def _readers(key: str) -> list[str]:
    """Return the names of the methods that read ``key`` for one of their models."""
    return [
        name for name, method in METHODS.items()
        if any(_reads(method, model, key) for model in method.factories or ("",))
    ]


def _reads(method: type[Method], model: str, key: str) -> bool:
    """Return whether a method reads ``key`` for a model, which it does where no method names the key as its own."""
    names = _covering([name for other in METHODS.values() for name in _own_keys(other)], key)
    return not names or max(names, key=len) in method.reads(model)


def _own_keys(method: type[Method]) -> Iterable[str]:
    return (name for model in method.factories for name in method.reads(model))


def _covering(names: Iterable[str], key: str) -> list[str]:
    """Return which of ``names``, keys and sections, hold ``key``."""
    return [name for name in names if f"{key}.".startswith(f"{name}.")]
