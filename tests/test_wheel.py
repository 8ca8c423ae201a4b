"""The distributions: what a wheel and a source distribution hold, and that the wheel works outside the repository."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import torchreid_nas

ROOT = Path(__file__).resolve().parents[1]
# What a clone may hold beside the files of the repository.
_NOT_OURS = shutil.ignore_patterns(
    ".git", ".venv", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", ".coverage*", "build", "dist", "runs", "reid-data",
    "shared",
)

pytestmark = pytest.mark.slow


def run(*call: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        list(map(str, call)), cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the repository, because a build writes beside the sources."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("source") / "torchreid_nas", ignore=_NOT_OURS))


@pytest.fixture(scope="module")
def built(source, tmp_path_factory) -> Path:
    """A folder with the source distribution, and the wheel that is built from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A folder of packages that holds the installed wheel alone."""
    folder = tmp_path_factory.mktemp("installed")
    done = run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_holds_the_package_configs_studies_and_no_more(wheel, source):
    package = {
        path.relative_to(source).as_posix() for path in (source / "torchreid_nas").rglob("*") if path.is_file()
    }
    configs = {f"torchreid_nas/{kind}/{path.name}" for kind in ("configs", "studies") for path in (source / kind).iterdir()}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == package | configs
    assert "torchreid_nas/py.typed" in names


def test_the_source_distribution_holds_what_the_repository_holds(built, source):
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert not {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()} - names


@pytest.mark.parametrize("call", [["check_wheel_contents"], ["twine", "check", "--strict"]], ids=lambda call: call[0])
def test_the_checks_of_distributions_pass(call, built):
    files = built.iterdir() if call[0] == "twine" else built.glob("*.whl")
    done = run(sys.executable, "-m", *call, *files, cwd=built)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_index_page_has_no_link_that_only_the_repository_can_follow(wheel):
    archive = zipfile.ZipFile(wheel)
    metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    page = metadata.partition("\n\n")[2]
    assert page.startswith("# torchreid_nas\n")
    links = re.findall(r"\]\(([^)]*)\)", page)
    assert links and all(link.startswith(("#", "https://")) for link in links)


def test_the_installed_command_runs_a_config_by_name_from_an_empty_folder(installed, tmp_path):
    done = run(
        sys.executable, installed / "bin" / "torchreid-nas", "--config", "demo_scratch", "--dry-run", "synthetic.identities", 32,
        "synthetic.images", 4, "train.batch_size", 16, cwd=tmp_path, PYTHONPATH=str(installed),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "two_stream_resnet18" in done.stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("call, words", [
    (["--version"], f"torchreid-nas {torchreid_nas.__version__}"), (["configs"], "cmnas_regdb  "),
    (["configs", "show", "cmnas_regdb.yaml"], "# CM-NAS on RegDB"),
])
def test_the_installed_package_works_as_a_module_from_an_empty_folder(installed, call, words, tmp_path):
    done = run(sys.executable, "-m", "torchreid_nas", *call, cwd=tmp_path, PYTHONPATH=str(installed))
    assert done.returncode == 0 and words in done.stdout, done.stderr
