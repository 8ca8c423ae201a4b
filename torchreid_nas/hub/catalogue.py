"""The entries of the zoo: those of the package, and those of the user's own YAML files."""
from __future__ import annotations

__all__ = ["find_entry", "initial_entry", "list_entries"]

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from torchreid_nas.architecture import Architecture
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.hub.entry import ZOO_PREFIX, Entry, described, key_text

_OWN = Path(__file__).resolve().parent / "entries"
_VARIABLE = "TORCHREID_NAS_ZOO"
# Options of a CDNet whose entry does not name them.
_DEFAULTS = {"width": 1.0, "small_images": False}
# The safe loader; the one in C is ten times as fast, and some builds of PyYAML lack it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def list_entries() -> list[Entry]:
    """Return all entries: the package's, then those of ``TORCHREID_NAS_ZOO`` (YAML files or folders of them).

    Raises:
        InputError: a file that cannot be read, is malformed, or gives an entry the name of another.
    """
    entries: dict[str, Entry] = {}
    for path in (*sorted(_OWN.glob("*.yaml")), *_user_files()):
        for content in _contents(path):
            entry = Entry.from_mapping(content, path)
            if entry.name in entries:
                raise InputError(
                    f'the zoo file "{path}" has an entry "{entry.name}", which "{entries[entry.name].origin}" has '
                    "already; give it another name"
                )
            entries[entry.name] = entry
    return list(entries.values())


def find_entry(name: str) -> Entry:
    """Return the entry called ``name``, with or without ``zoo:`` before it.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    name = str(name).removeprefix(ZOO_PREFIX)
    entries = {entry.name: entry for entry in list_entries()}
    if name not in entries:
        near = nearest(name, [known for known in entries if known.startswith(name)] or entries)
        raise InputError(
            f'the zoo has no entry "{name}"{near or "; `torchreid-nas zoo list` shows those it has"}'
        )
    return entries[name]


def initial_entry(architecture: Architecture, **options: Any) -> Entry | None:
    """Return the entry that ``pretrained=True`` of a CDNet starts from, or None.

    Args:
        architecture: the genotype; an entry fits when it has the same one.
        options: what changes the shape of the backbone, ``width`` and ``small_images``.

    Raises:
        InputError: several entries claim to be the one.
    """
    fitting = [
        entry for entry in list_entries()
        if entry.initial and entry.model.startswith(("cdnet", "cnet"))
        and (spec := entry.resolved_architecture()) is not None and Architecture.genotype(spec) == architecture
        and all(entry.options.get(key, _DEFAULTS[key]) == value for key, value in options.items())
    ]
    if len(fitting) > 1:
        raise InputError(
            f'the zoo entries "{fitting[0].name}" and "{fitting[1].name}" both claim to be what pretrained=True starts '
            f'from; set `initial: false` in "{fitting[1].origin}"'
        )
    return fitting[0] if fitting else None


def _user_files() -> Iterator[Path]:
    for part in filter(None, os.environ.get(_VARIABLE, "").split(os.pathsep)):
        path = Path(part).expanduser()
        if path.is_dir():
            files = sorted((*path.glob("*.yaml"), *path.glob("*.yml")))
            if not files:
                raise InputError(f'{_VARIABLE} names the folder "{path}", which holds no .yaml file; correct it')
            yield from files
        elif path.is_file():
            yield path
        else:
            raise InputError(f'{_VARIABLE} names "{path}", which does not exist; correct it or unset it')


def _contents(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield one mapping for each entry of a file: the whole file, or each item of ``entries`` on top of ``common``."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except OSError as error:
        raise InputError(f'the zoo file "{path}" cannot be read ({error.strerror}); check the path') from error
    except Exception as error:  # PyYAML fails on numbers, dates and depth in ways of their own
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise InputError(f'the zoo file "{path}"{where} is not valid YAML; mend the file') from error
    if not isinstance(content, Mapping):
        raise InputError(f'the zoo file "{path}" holds no keys; expected an entry, or `common:` and `entries:`')
    if "entries" not in content:
        yield content
        return
    common, entries = content.get("common") or {}, content["entries"]
    for key in content:
        if key not in ("common", "entries"):
            raise InputError(f'the zoo file "{path}" has the unknown key "{key_text(key)}" beside `entries`, expected `common`')
    if not isinstance(entries, list) or not isinstance(common, Mapping):
        raise InputError(f'the zoo file "{path}" has a wrong `common` or `entries`; expected a mapping and a list')
    for entry in entries:
        if not isinstance(entry, Mapping):
            raise InputError(f'the zoo file "{path}" holds the entry {described(entry)}, expected a mapping with `name:`')
        yield {**common, **entry}
