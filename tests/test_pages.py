"""README and the pages of docs/: links lead somewhere, commands parse, and Python examples run."""
from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest
import torch

from torchreid_nas.cli import main
from torchreid_nas.config import load_config
from torchreid_nas.methods.effects import key_reference

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Trainings of the examples, made short; all other words run as they are written.
_SHORT = {
    "max_epoch=350": "max_epoch=1", "max_epoch=60": "max_epoch=1", '"cdnet", num_classes=data': '"cdnet_x0_25", num_classes=data',
    'sources="regdb", targets=["regdb", "regdb_ir2vis"]': 'sources="regdb", targets="regdb", height=64, width=32',
    "import two_stream_resnet50\n\ndata": "import two_stream_resnet18 as two_stream_resnet50\n\ndata",
}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> list[tuple[str, str]]:
    """All ``torchreid-nas`` lines of the shell blocks, with their page."""
    found = []
    for page in PAGES:
        for language, block in _BLOCK.findall(page.read_text(encoding="utf-8")):
            if language in ("", "bash", "sh"):
                lines = block.replace("\\\n", " ").splitlines()
                found += [(name(page), line) for line in lines if line.startswith("torchreid-nas ")]
    return found


class Parsed(Exception):
    """The arguments parse; what they ask for is not done."""


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_of_a_page_leads_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page, line", commands())
def test_every_command_of_a_page_parses_with_known_config_and_keys(page, line, monkeypatch, capsys):
    for method in ("parse_args", "parse_intermixed_args"):
        original = getattr(argparse.ArgumentParser, method)

        def parse(self, args=None, namespace=None, original=original):
            raise Parsed(original(self, args, namespace))

        monkeypatch.setattr(argparse.ArgumentParser, method, parse)
    with pytest.raises((Parsed, SystemExit)) as stopped:
        main(shlex.split(line.replace("<root>", "data"), comments=True)[1:])
    assert stopped.type is Parsed or stopped.value.code == 0, capsys.readouterr().err
    arguments = stopped.value.args[0]
    if hasattr(arguments, "overrides") and hasattr(arguments, "config"):
        load_config(arguments.config, arguments.overrides)


def test_the_pages_spell_the_command_in_one_way():
    for page in PAGES:
        if page.name not in ("CONTRIBUTING.md", "CHANGELOG.md"):
            assert "tools/main.py" not in page.read_text(encoding="utf-8"), name(page)


def test_the_readme_is_short_and_starts_with_a_match_and_an_example():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    first_screen = "\n".join(lines[:40])
    assert "docs/match.png" in first_screen and "```python" in first_screen and "## What and why" in first_screen


def test_the_page_of_the_config_keys_holds_what_the_rows_say():
    head, _, tables = (ROOT / "docs" / "config-keys.md").read_text(encoding="utf-8").partition("\n## ")
    assert head.startswith("# Config keys\n")
    assert f"## {tables}".strip() == key_reference(markdown=True).strip(), (
        "write the tables again with: torchreid-nas configs keys --markdown"
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory, finished, data_root) -> Path:
    """A folder as the examples expect it: generated data, a run, and a checkpoint in the layout of CM-NAS's authors."""
    from torchreid_nas.architecture import Architecture
    from torchreid_nas.data.synthetic import SyntheticSettings, write_market1501
    from torchreid_nas.layers import bn_slots
    from torchreid_nas.models import two_stream_resnet50

    folder = tmp_path_factory.mktemp("place")
    (folder / "reid-data" / "synthetic").mkdir(parents=True)
    (folder / "runs").mkdir()
    (folder / "runs" / "demo").symlink_to(finished)
    write_market1501(folder / "reid-data", SyntheticSettings(identities=40, images=2, height=64, width=32))
    for parent in (folder / "reid-data", folder / "reid-data" / "synthetic"):
        (parent / "RegDB").symlink_to(data_root / "RegDB")
    model = two_stream_resnet50(206, "first-3", pretrained=False)
    Architecture.preset("first-3", bn_slots(model.backbone)).export(folder / "config.cfg")
    torch.save({"model": authors_layout(model)}, folder / "checkpoint.pth.tar")
    return folder


def authors_layout(model) -> dict[str, torch.Tensor]:
    """The state of a network under the names of the CM-NAS authors."""
    from torchreid_nas.models.two_stream_weights import authors_keys

    state = model.state_dict()
    return {theirs: state[ours] for ours, theirs in authors_keys(model).items()}


def examples() -> list[tuple[str, int]]:
    return [
        (name(page), number) for page in PAGES
        for number in range(sum(language == "python" for language, _ in _BLOCK.findall(page.read_text(encoding="utf-8"))))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("page, number", examples())
def test_every_python_example_runs(page, number, place, monkeypatch):
    monkeypatch.chdir(place)
    blocks = [block for language, block in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")) if language == "python"]
    code = blocks[number]
    for long, short in _SHORT.items():
        code = code.replace(long, short)
    exec(compile(code, f"{page}, example {number + 1}", "exec"), {"__name__": "__main__"})


MIGRATION = sorted((ROOT / "docs" / "migration").glob("*.md"))


@pytest.mark.parametrize("page", MIGRATION, ids=name)
def test_a_migration_table_names_commands_that_parse_and_keys_that_exist(page):
    from torchreid_nas.config import KEYS

    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"`torchreid-nas (--config [^`]+)`", text):
        words = shlex.split(command.replace("<root>", "data"))
        config, pairs = words[1], words[2:]
        options = {"--root": 2, "--stages": 2, "--trials": 2, "--settings": 2}
        while pairs and pairs[0] in options:
            del pairs[:options[pairs[0]]]
        load_config(config, pairs)
    tables = re.findall(r"^\| their (?:flag|key) \| our key \|\n\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    for row in "".join(tables).splitlines():
        for span in re.findall(r"`([^`]+)`", row.split("|")[2]):
            key = span.split()[0].rstrip(",")
            assert key in KEYS or "." not in key, key
