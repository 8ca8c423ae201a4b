"""What several test files share."""
from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from tiny import TINY

TESTS = Path(__file__).resolve().parent
DATA = TESTS / "data"

# Folders and files whose tests train, draw, export or start processes: `make test-fast` leaves them out, and property
# tests of many examples with them.
SLOW = (
    "camstyle/", "cli/", "data_sets/synthetic/", "deploy/", "distributed/", "engine/", "export/", "extending/", "features/",
    "run/", "stand_in_gpu/", "zoo/", "report/test_genotype_figure.py", "search/test_depth_", "search/test_planted",
    "test_plain_training.py", "test_registry.py", "test_wheel.py",
)
# Fixtures that train: whole runs of the command line.
TRAININGS = {"finished", "copied"}
# Files that take longest, in the order in which the processes of the suite start them, so that all processes end together.
FIRST = (
    "cli/test_cli_cdnet.py", "cli/test_cli.py", "stand_in_gpu/", "models/test_backbones.py", "cli/test_cli_ecn.py",
    "search/test_depth_", "deploy/test_fold", "test_registry.py", "test_wheel.py", "cli/", "export/", "run/",
    "search/", "site/", "study/", "zoo/",
)
# Examples of a property test: in the suite, and in `make test-long`.
EXAMPLES = {"suite": 200, "long": 2000}


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """``golden("losses")``: the arrays of tests/data/losses.npz (numbers of the authors' own code) by name."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(DATA / f"{name}.npz") as file:
            return dict(file)

    return load


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--long``."""
    parser.addoption("--long", action="store_true", help="also the tests marked `long`, and 2,000 examples of each property")


def pytest_configure(config: pytest.Config) -> None:
    """Compare numbers on the CPU also where there is a GPU, which only ``-m gpu`` lets torch see."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # The same examples in every run. To look for others: --hypothesis-profile default.
    for name, examples in EXAMPLES.items():
        settings.register_profile(name, derandomize=True, deadline=None, max_examples=examples)
    settings.load_profile(config.getoption("hypothesis_profile", None) or ("long" if config.option.long else "suite"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what is slow, before pytest chooses by marks; leave out what is long; put the longest files first."""
    names = {item: item.path.relative_to(TESTS).as_posix() for item in items}
    for item, name in names.items():
        many_examples = "propert" in name or "fuzz" in name
        if many_examples or name.startswith(SLOW) or TRAININGS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    if not config.option.long:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    items.sort(key=lambda item: next((n for n, start in enumerate(FIRST) if names[item].startswith(start)), len(FIRST)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked ``gpu`` where torch sees none."""
    import torch

    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny synthetic RegDB, SYSU-MM01, Market-1501 and DukeMTMC-reID."""
    from torchreid_nas.data.synthetic import (
        SyntheticSettings,
        write_dukemtmcreid,
        write_market1501,
        write_regdb,
        write_sysu_mm01,
    )

    root = tmp_path_factory.mktemp("reid-data")
    settings = SyntheticSettings(identities=32, images=4, height=48, width=24)
    write_regdb(root, settings)
    write_sysu_mm01(root, settings)
    small = SyntheticSettings(identities=16, images=2, height=64, width=32)
    write_market1501(root, small)
    write_dukemtmcreid(root, small)
    return root


@pytest.fixture(scope="session")
def finished(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of the tiny config from the command line: search, train, test."""
    from commands import arguments

    from torchreid_nas.cli import main

    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(arguments(TINY, data_root, folder)) == 0
    return folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of the whole run that a test may spoil."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture
def tiny_config(data_root: Path, tmp_path: Path) -> Callable:
    """A function from overrides to a config; every call shares the data and the folder of this test."""

    from torchreid_nas.config import load_config

    def make(**changes):
        keys = {"data.root": data_root, "data.save_dir": tmp_path / "run", **TINY, **changes}
        return load_config(None, [str(part) for item in keys.items() for part in item])

    return make
