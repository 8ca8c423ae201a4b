"""``torchreid-nas synthetic``: generate a stand-in for a data set."""
from __future__ import annotations

__all__ = ["main"]

import argparse
from collections.abc import Sequence
from dataclasses import fields

from torchreid_nas.data.sheet import check_sheet_name
from torchreid_nas.data.synthetic.layouts import LAYOUTS, generated_images, write_dataset
from torchreid_nas.data.synthetic.settings import SyntheticSettings
from torchreid_nas.data.synthetic.sheet import contact_sheet

_HELP = {
    "identities": "number of persons",
    "images": "images per identity and modality (RegDB), sensor (LLCM) or camera (the others)",
    "height": "of the images in pixels",
    "width": "of the images in pixels",
    "gap": "between the sensors of RegDB, SYSU-MM01 and LLCM: 0 none, 1 strong",
    "difficulty": "0 easy to 1 hard: nuisance, and how alike persons look",
    "seed": "of everything",
    "trials": "train/test splits of RegDB",
    "cameras": "of Market-1501 (at most 6) and DukeMTMC-reID (at most 8)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Generate the data set that ``argv`` (default: the command line) describes, print its folder, and return 0.

    Raises:
        InputError: a setting, the layout or the folder is at fault.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    parser = argparse.ArgumentParser(
        prog="torchreid-nas synthetic",
        description="Write procedurally drawn pedestrians in the layout of a real data set, as a stand-in for it.",
    )
    parser.add_argument("layout", metavar="LAYOUT", help=", ".join(LAYOUTS))
    parser.add_argument("--root", required=True, metavar="DIR", help="parent of the data set's folder")
    for field in fields(SyntheticSettings):
        kind = int if isinstance(field.default, int) else float
        metavar = "N" if field.name in ("identities", "images", "trials", "cameras") else field.name[0].upper()
        parser.add_argument(
            f"--{field.name}", type=kind, default=field.default, metavar=metavar,
            help=f"{_HELP[field.name]} (default {field.default})",
        )
    parser.add_argument("--sheet", metavar="PNG", help="also draw a contact sheet of the first identities")
    arguments = parser.parse_args(argv)
    settings = SyntheticSettings(**{field.name: getattr(arguments, field.name) for field in fields(SyntheticSettings)})
    if arguments.sheet:
        check_sheet_name(arguments.sheet)
    folder = write_dataset(arguments.layout, arguments.root, settings)
    images = len(generated_images(folder, arguments.layout))
    print(
        f"{folder}: {settings.identities} synthetic identities, {images} images of "
        f"{settings.width} x {settings.height} pixels (width x height).\n"
        f"This is a stand-in, no substitute for the real {folder.name}: "
        "its figures say nothing about that data set."
    )
    if arguments.sheet:
        print(f"Contact sheet: {contact_sheet(folder, arguments.sheet)}")
    return 0
