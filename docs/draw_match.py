"""Draw docs/match.png: infrared persons that the network of ``make demo`` was not trained on, and their nearest visible images.

``python docs/draw_match.py 161 12 17`` draws the first image of these persons; default: an easy, a middling and a hard one.
"""
from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from PIL import Image

from torchreid_nas.__main__ import main as torchreid_nas
from torchreid_nas.data.synthetic.store import MARKER

DOCS = Path(__file__).resolve().parent
PERSONS = ("161", "12", "17")


def main() -> int:
    """Match the chosen images with the visible test images, and keep the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("persons", nargs="*", default=PERSONS, metavar="PERSON")
    parser.add_argument("--run", default="runs/demo", metavar="DIR", help="the run of the demo")
    parser.add_argument("--data", default="reid-data/synthetic/RegDB", metavar="DIR", help="its generated RegDB")
    options = parser.parse_args()
    data = Path(options.data).resolve()
    with tempfile.TemporaryDirectory() as folder:
        # The mark of generated data, which the picture names.
        shutil.copy(data / MARKER, folder)
        queries, gallery = Path(folder, "queries"), Path(folder, "gallery")
        for number, person in enumerate(options.persons):
            image = _test_images(data, "thermal", person)[0]
            # match draws the queries in the order of their paths.
            target = queries / str(number) / person / image.name
            target.parent.mkdir(parents=True)
            shutil.copy(image, target)
        for image in _test_images(data, "visible"):
            target = gallery / image.parent.name / image.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target)
        out = Path(folder, "out")
        code = torchreid_nas([
            "match", str(queries), str(gallery), "--model", options.run, "--query-modality", "infrared",
            "--gallery-modality", "visible", "--out", str(out), "--top", "8",
        ])
        # 256 colours are enough for a page and a third of the size.
        Image.open(out / "ranked_001.png").convert("RGB").quantize(256).save(DOCS / "match.png", optimize=True)
    return code


def _test_images(data: Path, modality: str, person: str | None = None) -> list[Path]:
    lines = (data / "idx" / f"test_{modality}_1.txt").read_text(encoding="utf-8").splitlines()
    images = [data / line.split()[0] for line in lines if line.strip()]
    return [image for image in images if person in (None, image.parent.name)]


if __name__ == "__main__":
    raise SystemExit(main())
