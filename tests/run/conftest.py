"""What the tests of the page share."""
from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def finished_page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the whole run."""
    from torchreid_nas.run.folder import RunFolder
    from torchreid_nas.run.page.write import write_page

    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(RunFolder(finished), path)
    return path
