"""The one exception that means "the input is at fault, not the program"."""
from __future__ import annotations

__all__ = ["InputError", "nearest"]

import difflib
from typing import Iterable


class InputError(ValueError):
    """Bad input: a file, a key or a value that the user can mend.

    The message is one sentence that names the file, key or value, says what
    was expected, and the way out. The command line prints it without a
    traceback and exits with code 2.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean "x"?'`` for the known name closest to ``name``, or ``''``."""
    match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f'; did you mean "{match[0]}"?' if match else ""
