"""The parts of a page, of which one may fail without the others, and what the page then says."""
from __future__ import annotations

__all__ = ["Parts", "contents"]

import re
from collections.abc import Callable, Sequence

from torchreid_nas.errors import InputError
from torchreid_nas.report.html import text


class Parts:
    """Makes the parts of a page.

    Attributes:
        faults: a sentence per part that could not be made.

    Example:
        >>> parts = Parts()
        >>> parts.attempt("The table", lambda: str(1 / 0)), parts.faults
        ('', ['The table is not shown (ZeroDivisionError: division by zero).'])
    """

    def __init__(self) -> None:
        self.faults: list[str] = []

    def attempt(self, what: str, make: Callable[[], str]) -> str:
        """Return a part, ``""`` where it cannot be made: a fault of one part must not cost the others."""
        try:
            return make()
        except InputError as error:
            self.faults.append(str(error))
        except Exception as error:
            self.faults.append(f"{what} is not shown ({type(error).__name__}: {error}).")
        return ""

    def notes(self, more: Sequence[str]) -> str:
        """Return a box that says what the page lacks, and why; ``""`` where it lacks nothing."""
        items = "".join(f"<li>{text(note)}</li>" for note in dict.fromkeys([*more, *self.faults]))
        return f'<div class="card warning"><span class="tag">not all is shown</span><ul>{items}</ul></div>' if items else ""


def contents(sections: Sequence[str]) -> str:
    """Return links to the sections of a page."""
    found = re.findall(r'<section id="([^"]+)"><h2>([^<]*)</h2>', "".join(sections))
    items = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in found)
    return f'<nav aria-label="Contents"><ol>{items}</ol></nav>' if found else ""
