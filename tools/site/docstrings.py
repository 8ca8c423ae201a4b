"""An extension of griffe, which reads the docstrings for the pages of the API: equations as pictures, roles as code."""
from __future__ import annotations

from typing import Any

import griffe
from tools.site.equations import docstring_page


class PlainDocstrings(griffe.Extension):
    """Turns the few directives that docstrings of the package have into what a page of Markdown has."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = docstring_page(obj.docstring.value)
