"""The menu of the site, which is `nav` of mkdocs.yml."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def named(entries: Sequence[Any]) -> list[str]:
    """Return the pages of a menu, sections within sections included.

    Example:
        >>> named([{"Home": "index.md"}, {"Data": ["zoo.md", {"Own": "own.md"}]}])
        ['index.md', 'zoo.md', 'own.md']
    """
    found = []
    for entry in entries:
        target = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found += [target] if isinstance(target, str) else named(target)
    return found


def unnamed(entries: Sequence[Any], pages: Sequence[str]) -> list[str]:
    """Return the pages that a menu does not name.

    Example:
        >>> unnamed([{"Home": "index.md"}], ["index.md", "zoo.md"])
        ['zoo.md']
    """
    return sorted(set(pages) - set(named(entries)))
