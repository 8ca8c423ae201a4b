"""Small generated data sets, one of each layout."""
from __future__ import annotations

from pathlib import Path

import pytest
from generated import SMALL

from torchreid_nas.data.synthetic import SyntheticSettings, write_regdb, write_sysu_mm01


@pytest.fixture(scope="session")
def regdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_regdb(tmp_path_factory.mktemp("regdb"), SyntheticSettings(**SMALL))


@pytest.fixture(scope="session")
def sysu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = SyntheticSettings(**{**SMALL, "identities": 20, "images": 3})
    return write_sysu_mm01(tmp_path_factory.mktemp("sysu"), settings)
