"""The configs, and the files of studies, that come with the package, by name."""
from __future__ import annotations

__all__ = ["config_summary", "find_config", "shipped_configs", "shipped_files"]

import os
from pathlib import Path

from torchreid_nas.errors import InputError, nearest

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIXES = (".yaml", ".yml")


def shipped_configs() -> dict[str, Path]:
    """Return the files of the shipped configs by name, without suffix and in alphabetical order.

    An installed package has them in its own folder; a clone has them in ``configs/`` at its top.

    >>> shipped_configs()["demo"].name
    'demo.yaml'
    """
    return shipped_files("configs")


def shipped_files(kind: str) -> dict[str, Path]:
    """Return the shipped files of a folder, ``"configs"`` or ``"studies"``, by name; see :func:`shipped_configs`.

    >>> "demo" in shipped_files("configs")
    True
    """
    inside = _PACKAGE / kind
    folder = inside if inside.is_dir() else _PACKAGE.parent / kind
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def config_summary(path: str | os.PathLike) -> str:
    """Return the first line of a config, which describes the config in one sentence.

    >>> config_summary(shipped_configs()["cmnas_sysu"]).startswith("CM-NAS on SYSU-MM01")
    True
    """
    with Path(path).open(encoding="utf-8") as file:
        line = file.readline().strip()
    return line.lstrip("# ") if line.startswith("#") else ""


def find_config(name: str | os.PathLike) -> Path:
    """Return the file of a config.

    >>> find_config("demo") == find_config("demo.yaml") == shipped_configs()["demo"]
    True

    Args:
        name: the path of a YAML file, or the name of a shipped config, with or without ``.yaml``.
            A file of that path comes before a shipped config of that name.

    Raises:
        InputError: there is neither such a file nor a shipped config of that name (the nearest name is given).
    """
    path = Path(name)
    # Unlike Path.exists, this also answers for names that no file system takes.
    if os.path.exists(path) and not os.path.isdir(path):  # noqa: PTH110, PTH112
        return path
    known = shipped_configs()
    stem = path.stem if path.suffix in _SUFFIXES else path.name
    if path.name == str(path) and stem in known:
        return known[stem]
    hint = f'; did you mean "{stem}", which comes with the package?' if stem in known else nearest(stem, known)
    raise InputError(
        f'the config "{name}" is neither a file nor the name of a shipped config; `torchreid-nas configs` lists the names{hint}'
    )
