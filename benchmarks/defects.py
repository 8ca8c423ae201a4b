"""The defects that benchmarks/doctor.py plants: each function spoils a generated data set and returns what a finding must name.

A plant draws its images from the records that it is given, so that several plants on different persons of one data set
do not spoil each other.
"""
from __future__ import annotations

__all__ = ["PLANTS", "SETS", "TOGETHER", "Random", "some", "write"]

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from torchreid_nas.data.synthetic import (
    SyntheticSettings,
    write_dukemtmcreid,
    write_llcm,
    write_market1501,
    write_regdb,
    write_sysu_mm01,
)
from torchreid_nas.doctor.records import Data

_SMALL = {"height": 64, "width": 32}
_WRITERS: dict[str, tuple[str, Callable[[Path, SyntheticSettings], Path], SyntheticSettings]] = {
    "regdb": ("RegDB", write_regdb, SyntheticSettings(8, images=4, trials=2, **_SMALL)),
    "sysu_mm01": ("SYSU-MM01", write_sysu_mm01, SyntheticSettings(10, images=3, **_SMALL)),
    "llcm": ("LLCM", write_llcm, SyntheticSettings(10, images=3, **_SMALL)),
    "market1501": ("market1501/Market-1501-v15.09.15", write_market1501, SyntheticSettings(12, images=3, cameras=3, **_SMALL)),
    "dukemtmcreid": ("dukemtmc-reid/DukeMTMC-reID", write_dukemtmcreid, SyntheticSettings(12, images=3, cameras=3, **_SMALL)),
}
SETS = tuple(_WRITERS)
"""Names of the data sets that are generated."""
Random = np.random.Generator
_SMOOTH = Image.Resampling.BICUBIC


def write(name: str, root: Path, seed: int, **other: int) -> Path:
    """Generate a clean data set below a root and return its folder; ``other`` settings replace the usual ones."""
    folder, writer, settings = _WRITERS[name]
    writer(root, dataclasses.replace(settings, seed=seed, **other))
    return root / folder


def of(data: Data, part: str = "", modality: str = "") -> list[str]:
    """Return the images of a part and a modality, of persons."""
    return sorted({r.path for r in data.records if r.person and part in ("", r.part) and modality in ("", r.modality)})


def some(paths: list[str], draw: Random, number: int = 2) -> list[str]:
    return draw.choice(paths, number, replace=False).tolist()


def change(path: str, how: Callable[[Image.Image], Image.Image], **save: object) -> None:
    with Image.open(path) as image:
        changed = how(image.convert("RGB"))
    changed.save(path, **save)



def each(part: str, how: Callable[[str, Random], None], modality: str = "") -> Callable[[Data, Random], list[str]]:
    """Spoil two images, one by one."""
    def plant(data: Data, draw: Random) -> list[str]:
        chosen = some(of(data, part, modality), draw)
        for path in chosen:
            how(path, draw)
        return chosen
    return plant


def cut(path: str, draw: Random) -> None:
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * draw.uniform(0.3, 0.8))])


def deep(path: str, draw: Random) -> None:
    grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    Path(path).write_bytes(file.getvalue())


def turned(path: str, draw: Random) -> None:
    exif = Image.Exif()
    exif[0x0112] = int(draw.choice([3, 6, 8]))
    change(path, lambda image: image, exif=exif)


def one_bit(path: str, draw: Random) -> None:
    file = io.BytesIO()
    Image.open(path).convert("1").save(file, "PNG")
    Path(path).write_bytes(file.getvalue())


def grey(path: str, draw: Random) -> None:
    change(path, lambda image: image.convert("L").convert("RGB"))


def near(image: Image.Image, draw: Random) -> Image.Image:
    """Return the picture as another program saves it: other size, light and compression."""
    size = image.size
    smaller = image.resize([round(side * draw.uniform(0.8, 0.95)) for side in size], _SMOOTH)
    lit = ImageEnhance.Brightness(smaller.resize(size, _SMOOTH)).enhance(draw.uniform(0.95, 1.05))
    file = io.BytesIO()
    lit.save(file, "JPEG", quality=int(draw.integers(60, 90)))
    return Image.open(file).convert("RGB")


def copied(source: str, target: str, same_person: bool | None, how: str) -> Callable[[Data, Random], list[str]]:
    """Replace an image of one part by a copy of an image of another part, or of another person."""
    def plant(data: Data, draw: Random) -> list[str]:
        persons = {record.path: record.person for record in data.records}
        first = some(of(data, source), draw, 1)[0]
        others = [
            path for path in of(data, target)
            if path != first and same_person in (None, persons[path] == persons[first])
        ]
        second = some(others, draw, 1)[0]
        if how == "bytes":
            shutil.copyfile(first, second)
        elif how == "pixels":
            with Image.open(first) as image:
                file = io.BytesIO()
                image.convert("RGB").save(file, "PNG")
            Path(second).write_bytes(file.getvalue())
        else:
            with Image.open(first) as image:
                near(image.convert("RGB"), draw).save(second, quality=90)
        return [second]
    return plant


def shared_person(data: Data, draw: Random) -> list[str]:
    """Give an image of a test person to the training part."""
    path = Path(some(of(data, "gallery"), draw, 1)[0])
    target = path.parent.parent / "bounding_box_train" / path.name
    picture = Image.open(some(of(data, "train"), draw, 1)[0]).convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture.save(target, quality=95)
    return [str(target)]


def lone_query(data: Data, draw: Random) -> list[str]:
    """Remove a query's person from the gallery."""
    query = some(of(data, "query"), draw, 1)[0]
    person = next(record.person for record in data.records if record.path == query)
    for record in data.part("gallery"):
        if record.person == person:
            Path(record.path).unlink()
    return [query]


def no_gallery(data: Data, draw: Random) -> list[str]:
    """Remove all persons from the gallery but one without a query."""
    for record in data.part("gallery"):
        path = Path(record.path)
        path.rename(path.with_name(f"1400{path.name[4:]}") if record.person else path)
    return of(data, "query")


def renamed(old: str, new: str) -> Callable[[Data, Random], list[str]]:
    """Rename two training images of Market-1501."""
    def plant(data: Data, draw: Random) -> list[str]:
        changed = []
        for path in some(of(data, "train"), draw):
            name = Path(path).name
            start, camera, rest = name[:4], name[4:7], name[7:]
            target = Path(path).with_name({"person": f"{new}{camera}{rest}", "camera": f"{start}{new}{rest}", "all": new}[old])
            if old == "all":
                target = target.with_name(f"{target.stem}{len(changed)}.jpg")
            Path(path).rename(target)
            changed.append(str(target))
        return changed
    return plant


def lone_camera(data: Data, draw: Random) -> list[str]:
    """Leave a training person with the images of one camera."""
    person = some(sorted({record.person for record in data.part("train")}), draw, 1)[0]
    own = [record for record in data.part("train") if record.person == person]
    for record in own:
        if record.camera != own[0].camera:
            Path(record.path).unlink()
    return [record.path for record in own if record.camera == own[0].camera]


def lone_image(data: Data, draw: Random) -> list[str]:
    person = some(sorted({record.person for record in data.part("train")}), draw, 1)[0]
    own = [record.path for record in data.part("train") if record.person == person]
    for path in own[1:]:
        Path(path).unlink()
    return own[:1]


def many_images(data: Data, draw: Random) -> list[str]:
    first = some(of(data, "train"), draw, 1)[0]
    with Image.open(first) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    added = []
    for number in range(150):
        path = Path(first).with_name(f"{Path(first).name[:7]}s9_{number:06d}_00.jpg")
        noisy = pixels + draw.normal(0, 25, pixels.shape) + draw.normal(0, 20, (1, 1, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
        added.append(str(path))
    return added


def rare_camera(data: Data, draw: Random) -> list[str]:
    """Leave one image of the third camera among many of the others."""
    own = [record.path for record in data.records if record.camera == 2]
    for path in own[1:]:
        Path(path).unlink()
    many_images(dataclasses.replace(data, records=[record for record in data.records if record.camera != 2]), draw)
    return own[:1]


def unpaired(data: Data, draw: Random) -> list[str]:
    """Remove the infrared images of a training person of SYSU-MM01, folder by folder."""
    person = some(sorted({record.person for record in data.part("train")}), draw, 1)[0]
    own = [record for record in data.part("train") if record.person == person]
    for record in own:
        if record.modality == "infrared":
            Path(record.path).unlink()
    return [record.path for record in own if record.modality == "visible"]


def moved_image(modality: str) -> Callable[[Data, Random], list[str]]:
    """Overwrite an image with one of the other modality, changed so that it is no copy."""
    def plant(data: Data, draw: Random) -> list[str]:
        other = "visible" if modality == "infrared" else "infrared"
        target, source = some(of(data, "train", modality), draw, 1)[0], some(of(data, "train", other), draw, 1)[0]
        with Image.open(source) as image:
            image.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(target)
        return [target]
    return plant


def swapped(data: Data, draw: Random) -> list[str]:
    """Exchange the two folders of RegDB; the names of the files keep their lists in order."""
    visible, infrared = (sorted(of(data, "", word)) for word in ("visible", "infrared"))
    for first, second in zip(visible, infrared):
        content = Path(first).read_bytes()
        Path(first).write_bytes(Path(second).read_bytes())
        Path(second).write_bytes(content)
    return [*visible, *infrared]


def removed(data: Data, draw: Random) -> list[str]:
    chosen = some(of(data, "train"), draw)
    for path in chosen:
        Path(path).unlink()
    return chosen


def added(data: Data, draw: Random) -> list[str]:
    path = Path(some(of(data, "train", "visible"), draw, 1)[0])
    target = path.with_name(f"extra_{path.name}")
    with Image.open(path) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(target)
    return [str(target)]


def bad_line(data: Data, draw: Random) -> list[str]:
    index = data.root / "idx" / "train_visible_1.txt"
    lines = index.read_text().splitlines()
    lines[int(draw.integers(len(lines)))] = "Visible/1/no_label.bmp"
    index.write_text("\n".join(lines))
    return [str(index)]


def mixed_trials(data: Data, draw: Random) -> list[str]:
    """Test the second trial on the persons of the first one's training."""
    for word in ("visible", "thermal"):
        shutil.copyfile(data.root / "idx" / f"train_{word}_2.txt", data.root / "idx" / f"test_{word}_2.txt")
    return []


def missing_person(data: Data, draw: Random) -> list[str]:
    person = some(sorted({record.person for record in data.part("train")}), draw, 1)[0]
    for record in data.part("train"):
        if record.person == person:
            Path(record.path).unlink()
    return [person]


def surplus(data: Data, draw: Random) -> list[str]:
    return renamed("person", "1400")(data, draw)


def stray(data: Data, draw: Random) -> list[str]:
    path = Path(of(data)[0]).with_name("Thumbs.db")
    path.write_bytes(b"x")
    return [str(path)]


def listed_twice(data: Data, draw: Random) -> list[str]:
    """List images of a test person for training, under the name of nobody else: the person is on both sides."""
    index = data.root / "idx" / "train_visible_1.txt"
    line = some(of(data, "query"), draw, 1)[0]
    index.write_text(f"{index.read_text().rstrip()}\n{data.shown(line)} 99\n")
    return [line]


PLANTS: dict[str, tuple[str, Callable[[Data, Random], list[str]]]] = {
    "incomplete": ("sysu_mm01", missing_person),
    "surplus": ("market1501", surplus),
    "shared_person": ("market1501", shared_person),
    "leaked_image": ("market1501", copied("train", "gallery", None, "bytes")),
    "nothing_scored": ("market1501", no_gallery),
    "swapped_modalities": ("regdb", swapped),
    "colour_in_infrared": ("sysu_mm01", moved_image("infrared")),
    "listed_missing": ("regdb", removed),
    "bad_line": ("regdb", bad_line),
    "list_disagrees": ("regdb", mixed_trials),
    "empty_file": ("market1501", each("train", lambda path, draw: Path(path).write_bytes(b""))),
    "truncated": ("market1501", each("train", cut)),
    "unreadable": ("market1501", each("", lambda path, draw: Path(path).write_bytes(draw.bytes(500)))),
    "deep": ("market1501", each("", deep)),
    "two_labels": ("market1501", copied("train", "train", False, "pixels")),
    "camera_range": ("market1501", renamed("camera", "_c9")),
    "person_range": ("market1501", renamed("person", "1999")),
    "bad_name": ("market1501", renamed("all", "IMG_00")),
    "near_leak": ("market1501", copied("train", "query", None, "near")),
    "near_two_labels": ("market1501", copied("train", "train", False, "near")),
    "no_match": ("market1501", lone_query),
    "unpaired": ("sysu_mm01", unpaired),
    "grey_in_visible": ("sysu_mm01", moved_image("visible")),
    "turned": ("market1501", each("", turned)),
    "wide": ("market1501", each("", lambda path, draw: change(path, lambda image: image.rotate(90, expand=True)))),
    "constant": ("market1501", each("", lambda path, draw: Image.new("RGB", (32, 64), (90,) * 3).save(path))),
    "one_bit": ("market1501", each("", one_bit)),
    "huge": ("market1501", each("", lambda path, draw: change(path, lambda image: image.resize((1500, 3000))))),
    "tiny": ("market1501", each("", lambda path, draw: change(path, lambda image: image.resize((10, 20))))),
    "dark_or_bright": (
        "market1501", each("", lambda path, draw: change(path, lambda image: ImageEnhance.Brightness(image).enhance(0.08))),
    ),
    "blurred": (
        "market1501",
        each("", lambda path, draw: change(path, lambda image: image.resize((3, 6)).resize(image.size, _SMOOTH)))
    ),
    "duplicate": ("market1501", copied("train", "train", True, "bytes")),
    "query_in_gallery": ("market1501", copied("query", "gallery", True, "bytes")),
    "not_listed": ("regdb", added),
    "one_image": ("market1501", lone_image),
    "one_camera": ("market1501", lone_camera),
    "many_images": ("market1501", many_images),
    "rare_camera": ("market1501", rare_camera),
    "near_duplicate": ("market1501", copied("train", "train", True, "near")),
    "other_files": ("regdb", stray),
}
"""Kind -> data set, and what spoils it."""

# They change what the whole set holds.
_WHOLE = {"surplus", "nothing_scored", "rare_camera"}
TOGETHER = tuple(kind for kind, (name, _) in PLANTS.items() if name == "market1501" and kind not in _WHOLE)
"""Kinds that may stand side by side in one Market-1501, on different persons."""
