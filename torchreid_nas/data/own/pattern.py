"""Layouts in plain braces: ``{modality}/{pid}/{camid}_{frame}``."""
from __future__ import annotations

__all__ = ["FIELDS", "Pattern"]

import re
from pathlib import PurePosixPath

from torchreid_nas.data.own.words import MODALITY_WORDS, PARTS, as_modality, as_part
from torchreid_nas.errors import InputError, nearest, shown

FIELDS = ("pid", "camid", "modality", "split", "role", "sequence", "frame")
"""The fields that a layout may name, each once; ``{}`` stands for text that says nothing."""


class Pattern:
    """How the path of an image below its folder says person, camera and the rest.

    The text between the fields stands for itself. A field takes at least one
    character, as few as possible, and never ``/``. The suffix of the file is no
    part of the pattern.

    Args:
        text: the pattern, such as ``"{modality}/{pid}/{camid}_{frame}"``.

    Raises:
        InputError: a brace has no partner, a field is unknown or comes twice, two fields touch, or there is no field.

    Example:
        >>> Pattern("{pid}/{camid}_{frame}").match("alice/c1_0007.jpg")
        {'pid': 'alice', 'camid': 'c1', 'frame': '0007'}
        >>> Pattern("{pid}/{camid}_{frame}").match("alice/0007.jpg") is None
        True
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts = re.split(r"\{([^{}]*)\}", text)
        if not text or any(brace in part for part in parts[::2] for brace in "{}"):
            raise InputError(
                f'the layout "{shown(text)}" has a brace without a partner or no field; write it as {{pid}}/{{camid}}_{{frame}}'
            )
        names = parts[1::2]
        for name in names:
            if name and name not in FIELDS:
                raise InputError(
                    f'the layout "{shown(text)}" has the field "{shown(name)}", expected one of {", ".join(FIELDS)}, or {{}} for '
                    f"text that says nothing{nearest(name, FIELDS)}"
                )
            if name and names.count(name) > 1:
                raise InputError(f'the layout "{shown(text)}" has the field "{name}" twice; write {{}} for the second one')
        if not names or "" in parts[2:-1:2]:
            what = "no field" if not names else "two fields without text between them"
            raise InputError(f'the layout "{shown(text)}" has {what}; write it as {{pid}}/{{camid}}_{{frame}}')
        self.fields = tuple(name for name in names if name)
        self._expression = re.compile("".join(
            re.escape(part) if index % 2 == 0 else f"(?P<{part}>[^/]+?)" if part else "[^/]+?"
            for index, part in enumerate(parts)
        ), re.DOTALL)

    def match(self, name: str) -> dict[str, str] | None:
        """Return what the path of an image says, by field; None where the path does not fit.

        A word of a modality or of a split that is none does not fit either.
        """
        found = self._fit(name)
        if found is None:
            return None
        fields = {field: value.strip() for field, value in found.groupdict().items()}
        return fields if all(fields.values()) and not _strange(fields) else None

    def strange_word(self, name: str) -> str:
        """Return the sentence on a path that fits but for a word of a modality or split that is none; ``""`` else."""
        found = self._fit(name)
        return _strange(found.groupdict()) if found else ""

    def _fit(self, name: str) -> re.Match[str] | None:
        return self._expression.fullmatch(str(PurePosixPath(name).with_suffix("")))


def _strange(fields: dict[str, str]) -> str:
    if "modality" in fields and not as_modality(fields["modality"]):
        return f'"{shown(fields["modality"])}" is no modality, expected one of {", ".join(MODALITY_WORDS)}'
    for field in ("split", "role"):
        if field in fields and as_part(fields[field]) is None:
            return f'"{shown(fields[field])}" is no {field}, expected one of {", ".join(PARTS)}'
    return ""
