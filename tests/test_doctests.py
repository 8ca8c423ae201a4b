"""The examples in the docstrings of the package."""
from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import torchreid_nas

MODULES = sorted(module.name for module in pkgutil.walk_packages(torchreid_nas.__path__, "torchreid_nas."))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_print_what_they_say(name):
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert outcome.failed == 0
