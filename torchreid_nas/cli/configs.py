"""``torchreid-nas configs``: list, show and copy the configs that come with the package."""
from __future__ import annotations

__all__ = ["main"]

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torchreid_nas
from torchreid_nas.config.shipped import config_summary, find_config, shipped_configs
from torchreid_nas.errors import InputError
from torchreid_nas.methods.effects import key_reference

_DESCRIPTION = """\
The configs that come with the package. `torchreid-nas --config NAME` runs one of them. Without a command: list.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``torchreid-nas configs`` with ``argv`` (default: the command line) and return 0.

    Raises:
        InputError: an unknown name, or a file that would be overwritten.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    arguments = _parser().parse_args(argv)
    arguments.run(arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="torchreid-nas configs", description=_DESCRIPTION)
    parser.set_defaults(run=_list)
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], None], help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".")
        sub.set_defaults(run=run)
        return sub

    command("list", _list, "list the configs with a line each")
    command("show", _show, "print a config").add_argument("name", metavar="NAME")
    keys = command("keys", _keys, "print what each config key sets, its default and when it has an effect")
    keys.add_argument("pattern", nargs="?", default="*", metavar="PATTERN", help="part of a key's name, or with * and ?")
    keys.add_argument("--markdown", action="store_true", help="as tables for a page")
    copy = command("copy", _copy, "write a config into this folder, to be changed there")
    copy.add_argument("name", metavar="NAME")
    copy.add_argument("--output", metavar="FILE", help="default: NAME.yaml in this folder")
    return parser


def _list(arguments: argparse.Namespace) -> None:
    configs = shipped_configs()
    width = max(map(len, configs))
    for name, path in configs.items():
        print(f"{name:{width}}  {config_summary(path)}")


def _show(arguments: argparse.Namespace) -> None:
    print(find_config(arguments.name).read_text(encoding="utf-8"), end="")


def _keys(arguments: argparse.Namespace) -> None:
    torchreid_nas.register()
    print(key_reference(arguments.pattern, arguments.markdown))


def _copy(arguments: argparse.Namespace) -> None:
    source = find_config(arguments.name)
    target = Path(arguments.output or source.name)
    if target.exists():
        raise InputError(f'the file "{target}" exists already; remove the file, or write --output FILE')
    if not target.parent.is_dir():
        raise InputError(f'the folder "{target.parent}" does not exist; create the folder, or write another --output FILE')
    target.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    print(f"wrote {target}; run it with: torchreid-nas --config {target}")
