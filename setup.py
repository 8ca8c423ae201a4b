"""What pyproject.toml cannot say of the build: where configs and studies come from, and what an index page shows of the README.

``pip install .`` installs; ``make demo`` gives a first look.
"""
from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup


def index_page(readme: str) -> str:
    """Return the README for an index page, which holds neither the pictures nor the pages of the repository."""
    readme = re.sub(r"!\[([^]]*)\]\((?!https?:)([^)]+)\)", r"*(Picture \2 of the repository: \1.)*", readme)
    return re.sub(r"\[([^]]+)\]\((?!https?:|#)([^)]+)\)", r"\1", readme)


setup(
    long_description=index_page(Path(__file__).with_name("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
    # configs/ and studies/ stand at the top of the repository and become the folders torchreid_nas/configs and
    # torchreid_nas/studies of the wheel.
    packages=[*find_packages(include=["torchreid_nas", "torchreid_nas.*"]), "torchreid_nas.configs", "torchreid_nas.studies"],
    package_dir={"torchreid_nas.configs": "configs", "torchreid_nas.studies": "studies"},
    package_data={"torchreid_nas.configs": ["*.yaml"], "torchreid_nas.studies": ["*.yaml"]},
)
