"""Packages that import their parts when asked for: ``--help`` must not wait seconds for torch."""
from __future__ import annotations

__all__ = ["imported", "imported_names", "lazy_exports"]

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_exports(
    package: str, parts: Mapping[str, Sequence[str]],
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__all__``, ``__getattr__`` and ``__dir__`` (PEP 562) of a package whose names live in its modules.

    The modules themselves are imported when asked for, too, but are no part of ``__all__``.
    No name may be a module's, for importing that module would bind it::

        __all__, __getattr__, __dir__ = lazy_exports(__name__, {"extractor": ("FeatureExtractor",)})

    Args:
        package: ``__name__`` of the package.
        parts: its modules, and the names that each of them gives; a module of another package by its whole name.
    """
    module_of = {name: module for module, names in parts.items() for name in names}

    def get(name: str) -> Any:
        if name in parts:
            return importlib.import_module(f"{package}.{name}")
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = module_of[name]
        value = getattr(importlib.import_module(module if "." in module else f"{package}.{module}"), name)
        setattr(sys.modules[package], name, value)
        return value

    return sorted(module_of), get, lambda: sorted({*vars(sys.modules[package]), *module_of})


class _Imported:
    """The descriptor behind :func:`imported`."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return getattr(importlib.import_module(self.module), self.name)


def imported(module: str, name: str) -> Any:
    """Return a class attribute whose value is imported each time it is read, on the class or on an instance.

    A class can so name a class of a heavy module without importing that module.

    Example:
        >>> class Shape:
        ...     counter = imported("collections", "Counter")
        >>> Shape.counter("aab")["a"]
        2
    """
    return _Imported(module, name)


def imported_names(owner: type, attribute: str) -> tuple[str, str]:
    """Return module and name of a class attribute, of one made by :func:`imported` without importing it.

    Example:
        >>> class Shape:
        ...     counter = imported("collections", "Counter")
        >>> imported_names(Shape, "counter")
        ('collections', 'Counter')
    """
    value = inspect.getattr_static(owner, attribute)
    return (value.module, value.name) if isinstance(value, _Imported) else (value.__module__, value.__qualname__)
