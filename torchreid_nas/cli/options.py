"""What the commands of this package share on the command line."""
from __future__ import annotations

__all__ = ["add_extraction_options", "build_extractor", "positive_int"]

import argparse
import re
from typing import TYPE_CHECKING

from torchreid_nas.errors import InputError, shown

if TYPE_CHECKING:
    from torchreid_nas.checkpoints.trained import TrainedModel
    from torchreid_nas.features.extractor import FeatureExtractor


def add_extraction_options(parser: argparse.ArgumentParser, default_model: str = "") -> None:
    """Add the options of how features are extracted.

    Args:
        parser: of the command.
        default_model: the model in words where ``--model`` may be left out; empty where a model must be named.
    """
    parser.add_argument(
        "--model", required=not default_model, metavar="RUN_OR_NAME",
        help="folder of a run, or a name of the zoo; with --weights a model's name, such as osnet_x1_0"
        + (f" (default: {default_model})" if default_model else ""),
    )
    parser.add_argument("--weights", metavar="FILE", help="weights of the model that --model names, whoever trained it")
    parser.add_argument("--height", metavar="N", help="of the network's input; default: as it was trained, with --weights 256")
    parser.add_argument("--width", metavar="N", help="likewise; with --weights 128")
    parser.add_argument("--stride", default="1", metavar="N", help="take every n-th frame of videos (default 1)")
    parser.add_argument("--batch-size", default="32", metavar="N", help="images at once (default 32)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, …; default: a GPU where there is one")
    parser.add_argument(
        "--precision", default="fp32", help="fp32 (default), bf16, or auto: bf16 where the hardware computes it",
    )
    parser.add_argument("--compile", action="store_true", help="compile the network first, for many images")


def build_extractor(arguments: argparse.Namespace, trained: TrainedModel, modality: str | None) -> FeatureExtractor:
    """Return the extractor that the options of :func:`add_extraction_options` describe.

    Raises:
        InputError: an option is no whole number, or see :class:`torchreid_nas.features.FeatureExtractor`.
    """
    from torchreid_nas.features.extractor import FeatureExtractor

    height, width = (
        None if text is None else positive_int(option, text)
        for option, text in (("--height", arguments.height), ("--width", arguments.width))
    )
    return FeatureExtractor(
        trained, modality, arguments.device, positive_int("--batch-size", arguments.batch_size), height=height, width=width,
        precision=arguments.precision, compile=arguments.compile,
    )


def positive_int(option: str, text: str) -> int:
    """Return the value of an option that counts something.

    Raises:
        InputError: no whole number of at least 1.
    """
    # Of at most nine digits: Python refuses to read thousands of them.
    if not re.fullmatch(r"0*[1-9][0-9]{0,8}", text):
        raise InputError(f'{option} is "{shown(text)}", expected a whole number of at least 1')
    return int(text)
