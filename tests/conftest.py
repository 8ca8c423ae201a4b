"""What several test files share."""
from __future__ import annotations

from pathlib import Path
from typing import Callable

import numpy as np
import pytest

DATA = Path(__file__).resolve().parent / "data"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """``golden("losses")``: the arrays of tests/data/losses.npz (numbers of the authors' own code) by name."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(DATA / f"{name}.npz") as file:
            return dict(file)

    return load
