"""What the commands of this package share on the command line."""
from __future__ import annotations

__all__ = ["add_extraction_options", "positive_int"]

import argparse

from torchreid_nas.errors import InputError


def add_extraction_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of how features are extracted."""
    parser.add_argument("--model", required=True, metavar="RUN_OR_NAME", help="folder of a run, or a name of the zoo")
    parser.add_argument("--stride", default="1", metavar="N", help="take every n-th frame of videos (default 1)")
    parser.add_argument("--batch-size", default="32", metavar="N", help="images at once (default 32)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, …; default: a GPU where there is one")
    parser.add_argument(
        "--precision", default="fp32", help="fp32 (default), bf16, or auto: bf16 where the hardware computes it",
    )
    parser.add_argument("--compile", action="store_true", help="compile the network first, for many images")


def positive_int(option: str, text: str) -> int:
    """Return the value of an option that counts something.

    Raises:
        InputError: no whole number of at least 1.
    """
    if not (text.isdecimal() and int(text) >= 1):
        raise InputError(f'{option} is "{text}", expected a whole number of at least 1')
    return int(text)
