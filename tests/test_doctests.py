"""The examples in the docstrings of the package."""
from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import torchreid_nas
from torchreid_nas.config import Key
from torchreid_nas.run.folder import RunFolder

MODULES = sorted(module.name for module in pkgutil.walk_packages(torchreid_nas.__path__, "torchreid_nas."))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_print_what_they_say(name):
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert outcome.failed == 0


def public(package: str) -> list[tuple[str, object]]:
    module = importlib.import_module(package)
    values = [(f"{package}.{name}", getattr(module, name)) for name in module.__all__]
    # An interface says what others must write, and cannot be made.
    return [(name, value) for name, value in values if callable(value) and not getattr(value, "_is_protocol", False)]


VALUES = [
    ("torchreid_nas.architecture.Architecture", torchreid_nas.Architecture), ("torchreid_nas.config.Key", Key),
    ("torchreid_nas.run.folder.RunFolder", RunFolder),
]


@pytest.mark.parametrize("name, value", [
    *(pair for part in ("losses", "layers", "metrics") for pair in public(f"torchreid_nas.{part}")), *VALUES,
], ids=lambda part: part if isinstance(part, str) else "value")
def test_a_public_loss_layer_metric_or_value_has_an_example(name, value):
    # Of a class, the example may stand at one of its methods.
    assert any(test.examples for test in doctest.DocTestFinder().find(value, name)), name
