"""Does the doctor find what is planted? Each kind of defect in generated data × 20 seeds, and 50 clean sets.

The data are generated persons in the layouts of RegDB, SYSU-MM01 and Market-1501. A defect counts as found where the
finding of its kind names what was planted: each planted file, or each planted person. Label suspects are judged by a file of
ImageNet weights, and left out without one.

    OMP_NUM_THREADS=1 python benchmarks/doctor.py [--seeds 20] [--clean 50] [--weights mobilenet_v2-b0353104.pth]
"""
from __future__ import annotations

import argparse
import dataclasses
import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from harness import add_json, machine
from PIL import Image, ImageEnhance
from results import Report

import torchreid_nas
from torchreid_nas.data.synthetic import SyntheticSettings, write_market1501, write_regdb, write_sysu_mm01
from torchreid_nas.doctor.examine import examine
from torchreid_nas.doctor.kinds import Severity
from torchreid_nas.doctor.reading import read_data
from torchreid_nas.doctor.records import Data, Expected
from torchreid_nas.doctor.scan import measure_all
from torchreid_nas.doctor.suspects import Judge

SMALL = {"height": 64, "width": 32}
SETS = {
    "regdb": ("RegDB", lambda root, seed: write_regdb(root, SyntheticSettings(8, images=4, trials=2, seed=seed, **SMALL))),
    "sysu_mm01": ("SYSU-MM01", lambda root, seed: write_sysu_mm01(root, SyntheticSettings(10, images=3, seed=seed, **SMALL))),
    "market1501": (
        "market1501/Market-1501-v15.09.15",
        lambda root, seed: write_market1501(root, SyntheticSettings(12, images=3, cameras=3, seed=seed, **SMALL)),
    ),
}
Random = np.random.Generator
SMOOTH = Image.Resampling.BICUBIC


def of(data: Data, part: str = "", modality: str = "") -> list[str]:
    """Return the images of a part and a modality, of persons."""
    return sorted({r.path for r in data.records if r.person and part in ("", r.part) and modality in ("", r.modality)})


def some(paths: list[str], draw: Random, number: int = 2) -> list[str]:
    return draw.choice(paths, number, replace=False).tolist()


def change(path: str, how: Callable[[Image.Image], Image.Image], **save: object) -> None:
    with Image.open(path) as image:
        changed = how(image.convert("RGB"))
    changed.save(path, **save)


# -- what is planted: each spoils the files and returns what a finding must name -------------

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
    smaller = image.resize([round(side * draw.uniform(0.8, 0.95)) for side in size], Image.Resampling.BICUBIC)
    lit = ImageEnhance.Brightness(smaller.resize(size, Image.Resampling.BICUBIC)).enhance(draw.uniform(0.95, 1.05))
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
    target = path.parent.parent / "bounding_box_train" / path.name.replace("_c", "_c", 1)
    change(str(path), lambda image: image)
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


# kind -> data set, what is planted
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
        each("", lambda path, draw: change(path, lambda image: image.resize((3, 6)).resize(image.size, SMOOTH)))
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


def complete(data: Data) -> tuple[Expected, ...]:
    """Return what a copy as complete as this one has."""
    people = Expected("training identities", (0,), ("train",), "persons")
    listed = frozenset(record.person for record in data.part("train"))
    return (dataclasses.replace(people, complete=(people.count(data.records),), listed=listed),)


def generated(name: str, seed: int, store: Path) -> Path:
    """Return the root of a clean set; it is generated once."""
    root = store / f"{name}-{seed}"
    SETS[name][1](root, seed)
    return root


def planted(kind: str, seed: int, store: Path) -> tuple[bool, list[str]]:
    """Plant one defect; return whether it was found, and which findings of errors it was not."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(shutil.copytree(generated(PLANTS[kind][0], seed, store), Path(place) / "set"))
        return spoiled(kind, seed, root)


def spoiled(kind: str, seed: int, root: Path) -> tuple[bool, list[str]]:
    """Plant one defect in the set below a root, which is spoiled; see :func:`planted`."""
    name, plant = PLANTS[kind]
    folder = SETS[name][0]
    clean = read_data(root / folder)
    wanted = plant(clean, np.random.default_rng(seed))
    data = read_data(root / folder)
    if kind in ("incomplete", "surplus"):
        data.expected = complete(clean)
    data.persons = (1, 1501) if kind == "person_range" else data.persons
    report = examine(data, workers=1, progress=False)
    found = [finding for finding in report.findings if finding.name == kind]
    named = {path for finding in found for path in finding.files}
    sentences = " ".join(finding.sentence for finding in found)
    complete_list = all(path in named or path in sentences for path in wanted)
    return bool(found) and (complete_list or kind == "surplus"), [
        finding.name for finding in report.findings if finding.severity == Severity.ERROR and finding.name != kind
    ]


def of_seed(seed: int, store: str) -> dict[str, tuple[bool, list[str]]]:
    """Plant every kind in the sets of one seed."""
    return {kind: planted(kind, seed, Path(store)) for kind in PLANTS}


def recall(seeds: int, processes: int) -> list[list[str]]:
    with tempfile.TemporaryDirectory() as store, ProcessPoolExecutor(processes) as pool:
        outcomes = list(pool.map(of_seed, range(seeds), [store] * seeds))
    rows = []
    for kind in PLANTS:
        hits = sum(outcome[kind][0] for outcome in outcomes)
        beside = {name for outcome in outcomes for name in outcome[kind][1]}
        rows.append([kind, f"{hits}/{seeds}", f"{hits / seeds:.0%}", ", ".join(sorted(beside)) or "–"])
    return rows


def clean_sets(number: int) -> list[list[str]]:
    rows = []
    totals = dict.fromkeys(SETS, 0)
    alarms: dict[str, list[str]] = {name: [] for name in SETS}
    errors = dict.fromkeys(SETS, 0)
    for seed in range(number):
        name = list(SETS)[seed % len(SETS)]
        with tempfile.TemporaryDirectory() as root:
            folder, write = SETS[name]
            write(root, 1000 + seed)
            report = examine(read_data(Path(root) / folder), workers=1, progress=False)
        totals[name] += 1
        errors[name] += report.severity == Severity.ERROR
        alarms[name] += [finding.name for finding in report.findings if finding.severity == Severity.WARNING]
    for name in SETS:
        warned = ", ".join(f"{kind} × {alarms[name].count(kind)}" for kind in sorted(set(alarms[name])))
        rows.append([name, f"{totals[name]}", f"{errors[name]}", warned or "–"])
    return rows


def suspects(seeds: int, weights: Path) -> list[list[str]]:
    """Two persons under one label, and one person under two, judged by ImageNet weights."""
    from torchreid_nas.zoo.trained import load_trained

    trained = load_trained("mobilenetv2_x1_0", weights)
    places: dict[str, list[int | None]] = {"one_is_two": [], "two_are_one": []}
    named: dict[str, list[int]] = {"one_is_two": [], "two_are_one": []}
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as root:
            write_market1501(root, SyntheticSettings(32, images=3, cameras=4, seed=seed))
            data = read_data(Path(root) / SETS["market1501"][0])
            data.records = data.part("train")
            clean = list(data.records)
            draw = np.random.default_rng(seed)
            one, two = some(sorted({record.person for record in clean}), draw)
            judge = Judge(trained, "cpu", progress=False)
            for kind in places:
                if kind == "one_is_two":
                    data.records = [dataclasses.replace(r, person=one) if r.person == two else r for r in clean]
                    wanted = f"person {one}:"
                else:
                    moved = {r.path for r in clean if r.person == one and draw.random() < 0.5}
                    data.records = [dataclasses.replace(r, person="9999") if r.path in moved else r for r in clean]
                    wanted = f"persons {one} and 9999:"
                report = examine(data, judge=judge, workers=1, progress=False)
                groups = [group for finding in report.findings if finding.name == kind for group in finding.groups]
                titles = [group.title.startswith(wanted) for group in groups]
                places[kind].append(titles.index(True) + 1 if any(titles) else None)
                named[kind].append(len(groups))
    rows = []
    for kind, found in places.items():
        hits = [place for place in found if place is not None]
        rows.append([
            kind, f"{len(hits)}/{seeds}", f"{len(hits) / seeds:.0%}", f"{sum(place == 1 for place in hits)}",
            f"{statistics.median(named[kind]):g}",
        ])
    return rows


def speed(images: int = 1500) -> str:
    """Return what an image costs, in seconds of a core, and what 100,000 images then take."""
    with tempfile.TemporaryDirectory() as root:
        write_market1501(root, SyntheticSettings(40, images=5, cameras=6, height=128, width=64))
        data = read_data(Path(root) / SETS["market1501"][0])
        paths = sorted(record.path for record in data.records)
        paths = (paths * (images // len(paths) + 1))[:images]
        measure_all(paths[:50], workers=1, progress=False)
        start = time.process_time()
        measure_all(paths, Path(root) / "store.sqlite", workers=1, progress=False)
        each = (time.process_time() - start) / images
    return (
        f"Reading, decoding, measuring and keeping one image of 128 × 64 pixels takes {1000 * each:.2f} ms of a core "
        f"({images:,} images, CPU time of one process); 100,000 such images on 2 cores would take {100_000 * each / 2:.0f} s "
        "(extrapolated, the disk not counted)."
    )


def search_speed(number: int = 100_000) -> str:
    """Return what the search for near-copies takes among random hashes, a tenth of them in crowds."""
    from torchreid_nas.doctor.hashes import close_hashes

    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 2**63, number, dtype=np.uint64)
    # One byte in eight is the same.
    hashes[: number // 10] = hashes[: number // 10] & ~np.uint64(255)
    start = time.process_time()
    pairs = close_hashes(hashes)
    return (
        f"Searching {number:,} hashes, a tenth of which agree in 8 of 64 bits, takes "
        f"{time.process_time() - start:.1f} s of a core ({len(pairs):,} pairs)."
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="planted sets per kind")
    parser.add_argument("--clean", type=int, default=50, help="clean sets")
    parser.add_argument("--processes", type=int, default=1, help="sets that are examined at once")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="torchvision's MobileNetV2 of ImageNet, for label suspects")
    add_json(parser)
    options = parser.parse_args()
    torchreid_nas.register()
    with Report(machine(), options.json) as report:
        report.table(
            recall(options.seeds, options.processes), ["kind", "found", "recall", "errors named beside"],
            f"Planted defects, {options.seeds} generated sets per kind",
        )
        report.table(
            clean_sets(options.clean), ["layout", "clean sets", "sets with an error", "warnings"],
            f"{options.clean} clean generated sets",
        )
        if options.weights is not None:
            report.table(
                suspects(options.seeds, options.weights), ["kind", "named", "recall", "named first", "named in all (median)"],
                f"Label suspects by MobileNetV2 of ImageNet, {options.seeds} generated sets of about 16 persons",
            )
        report.text(speed())
        report.text(search_speed())


if __name__ == "__main__":
    main()
