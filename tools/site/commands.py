"""Write docs/commands.md: every command and its options, as the parsers have them.

``python -m tools.site.commands`` writes the page again; a test compares the page with the parsers.
"""
from __future__ import annotations

import argparse
import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from torchreid_nas.cli import _COMMANDS, _parser

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"
_HEAD = """\
# Commands

Every command and every option. `torchreid-nas COMMAND --help` prints the same. This page is generated from the parsers by
`python -m tools.site.commands`. [Start](start.md) shows the commands in the order in which one needs them.
"""


class _Built(Exception):
    """Carries the parser of a command that was about to parse its arguments."""


def command_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of a command, without running the command."""

    def stop(self: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise _Built(self)

    with contextlib.ExitStack() as stack:
        for method in ("parse_args", "parse_intermixed_args", "parse_known_args"):
            stack.enter_context(mock.patch.object(argparse.ArgumentParser, method, stop))
        try:
            importlib.import_module(_COMMANDS[name][0]).main([])
        except _Built as built:
            return built.args[0]
    raise RuntimeError(f"the command {name} parses no arguments")


def commands_page() -> str:
    """Return the page."""
    parts = [_HEAD, _section("torchreid-nas", _parser(), "Search, train and test a network as a config says.", 2)]
    for name, (_, line) in _COMMANDS.items():
        parts.append(_section(f"torchreid-nas {name}", command_parser(name), f"{line[0].upper()}{line[1:]}.", 2))
    return "\n".join(parts)


def _section(title: str, parser: argparse.ArgumentParser, line: str, level: int) -> str:
    rows = [_row(parser, action) for action in _actions(parser)]
    parts = [f"{'#' * level} {title}\n", f"{_sentence(line)}\n"]
    if rows:
        parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]) + "\n")
    for name, sub in _subparsers(parser):
        parts.append(_section(f"{title} {name}", sub, sub.description or "", level + 1))
    return "\n".join(parts)


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if not isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)) and action.help != argparse.SUPPRESS:
            yield action


def _subparsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _row(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    value = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper())
    value = value if isinstance(value, str) else " ".join(value)
    name = ", ".join(action.option_strings) or value
    if action.option_strings and action.nargs != 0:
        name += f" {value}"
    help = parser._get_formatter()._expand_help(action) if action.help else ""
    return f"| `{name}` | {_sentence(help)} |".replace("\n", " ")


def _sentence(text: str) -> str:
    """Return text for a page: characters that Markdown or HTML would read are kept as they are."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(commands_page(), encoding="utf-8")
