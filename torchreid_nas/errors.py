"""An error for bad input and a warning for doubtful input; the command line shows both as one line."""
from __future__ import annotations

__all__ = ["InputError", "InputWarning", "nearest", "plain_warnings", "printable", "shown"]

import contextlib
import difflib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any


class InputError(ValueError):
    """Bad input: a file, a key or a value that the user can mend.

    The message is one sentence. It names the file, key or value, says what was
    expected, and gives the way out. The command line prints it without a
    traceback and exits with code 2.
    """


class InputWarning(UserWarning):
    """Doubtful input: the work goes on, but perhaps not as the user expects.

    The command line prints the message as one line, without file and line of the code.
    """


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Inside the block show every :class:`InputWarning` once, as one line on stderr; leave other warnings as they were."""
    with warnings.catch_warnings():
        # Filters cannot do this: "default" tells places in the code apart, and "once" remembers beyond the block.
        warnings.simplefilter("always", InputWarning)
        others: Any = warnings.showwarning
        said = set()

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if not issubclass(category, InputWarning):
                others(message, category, *where, **more)
            elif str(message) not in said:
                said.add(str(message))
                print(f"warning: {printable(str(message))}", file=sys.stderr)

        warnings.showwarning = show
        yield


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``'; did you mean "x"?'`` for the known name closest to ``name``, or ``''``."""
    match = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f'; did you mean "{match[0]}"?' if match else ""


def printable(text: str) -> str:
    r"""Return text, which may hold names of files, as a terminal can show it and as UTF-8 can hold it.

    Control characters, which could steer the terminal, are written as ``\x1b``, and marks that turn the direction of
    writing as ``\u202e``; a byte of an old archive that is no text becomes ``\udce9``. Line ends and tabs stay.

    >>> print(printable("a\x1b[31m.jpg"))
    a\x1b[31m.jpg
    """
    text = _STEERING.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


_STEERING = re.compile(r"[\0-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def shown(value: Any, limit: int = 60) -> str:
    """Return ``value`` in one line, as a message can hold it: of a long one the beginning and the number of characters.

    >>> shown("layer1.0.bn1"), shown("x" * 5000, limit=4)
    ('layer1.0.bn1', 'xxxx… (5,000 characters)')
    """
    try:
        text = printable(str(value)).replace("\n", "\\n").replace("\t", "\\t")
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"
