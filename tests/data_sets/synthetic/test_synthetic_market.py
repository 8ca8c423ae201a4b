"""The synthetic Market-1501: torchreid's own reader, seeded bytes, cameras that differ, a valid protocol."""
from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchreid
from digests import digests
from PIL import Image

from torchreid_nas.cli.synthetic import main
from torchreid_nas.data.synthetic import (
    Camera,
    Person,
    Pose,
    Scene,
    SyntheticSettings,
    camera_network,
    contact_sheet,
    photograph,
    write_dataset,
    write_market1501,
    write_regdb,
    write_sysu_mm01,
)
from torchreid_nas.data.synthetic.market1501 import MARKET1501
from torchreid_nas.data.synthetic.settings import domain_seed, generator
from torchreid_nas.errors import InputError

SMALL = SyntheticSettings(identities=12, images=3, height=48, width=24)
PARTS = ("bounding_box_train", "query", "bounding_box_test")
NAME = re.compile(r"(-1|\d{4})_c(\d)s[1-6]_(\d{6})_(\d\d)\.jpg")


def names(folder: Path, part: str) -> list[tuple[str, int, int, int]]:
    """Return label, camera, frame and detection of every file of ``part``; all names must be real ones."""
    files = sorted((folder / "Market-1501-v15.09.15" / part).iterdir())
    return [(m[1], int(m[2]), int(m[3]), int(m[4])) for m in (NAME.fullmatch(file.name) for file in files)]


def read(folder: Path) -> torchreid.data.ImageDataset:
    return torchreid.data.datasets.init_image_dataset("market1501", root=str(folder.parent), verbose=False)


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market1501(tmp_path_factory.mktemp("market"), SMALL)


# Layout and protocol


def test_layout(market: Path) -> None:
    assert market.name == "market1501"
    assert sorted(path.name for path in market.iterdir()) == ["Market-1501-v15.09.15", "synthetic.json"]
    train, query, gallery = (names(market, part) for part in PARTS)
    identities = [{label for label, *_ in part} for part in (train, query, gallery)]
    assert len(identities[0]) == len(identities[1]) == 6
    assert identities[0] | identities[1] == {f"{identity:04d}" for identity in range(1, 13)}
    assert identities[2] == identities[1] | {"0000", "-1"}
    # One query per test identity and camera, drawn by hand; the other images of both are detections.
    assert len({(label, camera) for label, camera, *_ in query}) == len(query)
    assert {detection for *_, detection in query} == {0}
    assert all(1 <= detection <= 5 for *_, detection in train + gallery)
    seen = {(label, camera) for label, camera, *_ in train}
    assert len(train) == 3 * len(seen)
    good = [name for name in gallery if name[0] not in ("0000", "-1")]
    assert len(good) == 2 * len(query)
    assert {name[:2] for name in good} == {name[:2] for name in query}
    # Two images never share identity, camera and frame.
    assert len({name[:3] for name in train + query + good}) == len(train + query + good)
    for label, share in (("0000", 2798 / 13115), ("-1", 3819 / 13115)):
        assert sum(name[0] == label for name in gallery) == round(share * len(good))
    for file in market.rglob("*.jpg"):
        with Image.open(file) as image:
            assert image.format == "JPEG" and image.mode == "RGB" and image.size == (24, 48)


def test_torchreid_reads_it(market: Path) -> None:
    data = read(market)
    train, query, gallery = (names(market, part) for part in PARTS)
    assert (len(data.train), len(data.query)) == (len(train), len(query))
    # Its reader leaves junk out and keeps distractors as identity 0.
    assert len(data.gallery) == sum(label != "-1" for label, *_ in gallery) < len(gallery)
    assert sum(pid == 0 for _, pid, *_ in data.gallery) == sum(label == "0000" for label, *_ in gallery) > 0
    assert data.num_train_pids == 6 and data.num_train_cams == 6
    assert {camera for _, _, camera, *_ in data.query} == set(range(6))
    assert 0 not in {pid for _, pid, *_ in data.query}


def test_every_query_has_a_match_in_another_camera(tmp_path: Path) -> None:
    # Two images and few cameras are the tightest case.
    settings = SyntheticSettings(identities=40, images=2, height=32, width=16, cameras=3)
    data = read(write_market1501(tmp_path, settings))
    seen: dict[int, set[int]] = {}
    for _, pid, camera, *_ in data.query:
        seen.setdefault(pid, set()).add(camera)
    assert {len(cameras) for cameras in seen.values()} == {2, 3}
    for _, pid, camera, *_ in data.query:
        assert any(pid == other and camera != elsewhere for _, other, elsewhere, *_ in data.gallery)
    pids, cams = (
        [np.array([item[place] for item in part]) for part in (data.query, data.gallery)] for place in (1, 2)
    )
    perfect = (pids[0][:, None] != pids[1][None, :]).astype(np.float32)
    cmc, mean_ap = torchreid.metrics.evaluate_rank(perfect, *pids, *cams, use_cython=False)
    assert cmc[0] == 1.0 and mean_ap == 1.0


def test_smallest_set_has_junk_and_a_distractor(tmp_path: Path) -> None:
    settings = SyntheticSettings(identities=4, images=2, height=32, width=16, cameras=2)
    folder = write_market1501(tmp_path, settings)
    labels = [label for label, *_ in names(folder, "bounding_box_test")]
    assert len(labels) == 2 * 2 + 2 and labels.count("-1") == labels.count("0000") == 1


# Seeds


def test_same_seed_gives_the_same_bytes(market: Path, tmp_path: Path) -> None:
    assert digests(write_dataset("market1501", tmp_path / "a", SMALL)) == digests(market)
    other = set(digests(write_market1501(tmp_path / "b", replace(SMALL, seed=1))).values())
    assert other.isdisjoint(digests(market).values())


def test_images_do_not_depend_on_how_many_there_are(market: Path, tmp_path: Path) -> None:
    more = digests(write_market1501(tmp_path, replace(SMALL, identities=14, images=4)))
    good = {name: digest for name, digest in digests(market).items() if re.search(r"/0(?!000)\d{3}_", name)}
    assert len(good) > 100 and good.items() <= more.items()


def test_a_domain_is_like_no_other() -> None:
    market, duke = domain_seed(0, "market1501"), domain_seed(0, "dukemtmcreid")
    assert market == domain_seed(0, "market1501") and len({market, duke, domain_seed(1, "market1501"), 0}) == 4
    assert Person.of(market, 1, 0.5) != Person.of(duke, 1, 0.5)


def test_the_look_of_market_adds_nothing() -> None:
    look, rng = MARKET1501.look, np.random.default_rng(0)
    for number in range(1, 7):
        assert look.person(5, number, 0.5) == Person.of(5, number, 0.5)
        assert look.scene(5, number) == Scene(5, number, outdoor=number % 2 == 0)
        assert look.camera(5, number, 0.12) == Camera.visible(5, number, cast=0.12)
        pose = Pose.sample(rng, 0.5)
        assert look.frame(pose) == pose


# Cameras


def observe(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[Scene, set]:
    """Write a data set and return the cameras that looked at each place."""
    looked: dict[Scene, set] = {}

    def note(person: Person, pose: Pose, scene: Scene, camera: object, *arguments: object) -> np.ndarray:
        looked.setdefault(scene, set()).add(camera)
        return np.zeros((32, 16, 3), dtype=np.uint8)

    monkeypatch.setattr(camera_network, "photograph", note)
    write_market1501(folder, SyntheticSettings(identities=30, images=2, height=32, width=16))
    return looked


def test_each_camera_has_its_own_place_and_cast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = observe(monkeypatch, tmp_path)
    cameras = [camera for found in looked.values() for camera in found]
    assert len(looked) == len(cameras) == len(set(cameras)) == 6
    assert {camera.spectrum for camera in cameras} == {"visible"}
    # The same photograph by all six: only the colour cast differs, by at least 2 % of the levels.
    shots = []
    for camera in cameras:
        rng = generator(0, "image", 1)
        pose = Pose.sample(rng, 0.0)
        shots.append(photograph(Person.of(0, 1, 0.0), pose, Scene(0, 0), camera, rng, 64, 32, 0.0).mean((0, 1)))
    assert min(np.abs(one - other).max() for one, other in itertools.combinations(shots, 2)) > 5


def test_colours_of_the_files_tell_the_cameras_apart(market: Path) -> None:
    chroma: dict[int, list[np.ndarray]] = {}
    for file, _, camera, *_ in read(market).train:
        with Image.open(file) as image:
            mean = np.asarray(image, dtype=float).mean((0, 1))
        chroma.setdefault(camera, []).append(mean / mean.sum())
    means = np.array([np.mean(values, axis=0) for values in chroma.values()])
    within = np.mean([np.var(values, axis=0) for values in chroma.values()], axis=0)
    # An analysis of variance: without casts and places of their own the ratio would be near 1.
    ratio = means.var(axis=0, ddof=1) * np.mean([len(values) for values in chroma.values()]) / within
    assert ratio.min() > 5


# What is in a box


def test_bad_boxes_miss_the_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offsets = {stream: [] for stream in ("junk", "distractor")}
    missed = camera_network._missed

    def note(pose: Pose, rng: np.random.Generator, low: float, high: float) -> Pose:
        moved = missed(pose, rng, low, high)
        shift = moved.dx - pose.dx, moved.dy - pose.dy
        offsets["junk" if high < 1 else "distractor"].append(shift)
        assert replace(moved, dx=pose.dx, dy=pose.dy) == pose
        return moved

    monkeypatch.setattr(camera_network, "_missed", note)
    observe(monkeypatch, tmp_path)
    for stream, (low, high) in (("junk", (0.2, 0.5)), ("distractor", (0.0, 0.2))):
        distance = np.abs(offsets[stream])
        assert len(distance) > 10 and (distance.min(axis=1) == 0).all() and (distance.max(axis=0) > 0).all()
        distance = distance.max(axis=1)
        overlap = np.maximum(1 - distance, 0) / (1 + distance)
        assert low <= overlap.min() and overlap.max() <= high


# On disk, settings, errors


def test_only_settings_that_a_layout_uses_count(market: Path, tmp_path: Path) -> None:
    marker = json.loads((market / "synthetic.json").read_text())
    assert marker["settings"] == {
        "identities": 12, "images": 3, "height": 48, "width": 24, "difficulty": 0.5, "seed": 0, "cameras": 6
    }
    before = digests(market)
    assert write_market1501(market.parent, replace(SMALL, gap=0.1, trials=3)) == market
    with pytest.raises(InputError, match=r"cameras=6 instead of 4\); remove it or choose another root"):
        write_market1501(market.parent, replace(SMALL, cameras=4))
    assert digests(market) == before
    small = SyntheticSettings(identities=4, images=1, height=32, width=16, trials=1)
    for write in (write_regdb, write_sysu_mm01):
        folder = write(tmp_path, small)
        assert "cameras" not in json.loads((folder / "synthetic.json").read_text())["settings"]
        assert write(tmp_path, replace(small, cameras=4)) == folder


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": 1}, "images=1 must be at least 2; choose 2 or more"),
        ({"identities": 1502}, "identities=1502 must be at most 1501; choose 1501 or fewer"),
    ],
)
def test_what_market_cannot_hold(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"Market-1501.*{message}"):
        write_market1501(tmp_path, replace(SMALL, **change))
    assert not list(tmp_path.iterdir())


def test_more_cameras_than_market_has_fill_it(market: Path) -> None:
    before = digests(market)
    assert write_market1501(market.parent, replace(SMALL, cameras=8)) == market
    assert digests(market) == before


@pytest.mark.parametrize("cameras", [1, 10, 2.5])
def test_cameras_out_of_range(cameras: object) -> None:
    with pytest.raises(InputError, match=f"cameras is {cameras}, expected a whole number from 2 to 9"):
        SyntheticSettings(cameras=cameras)


# Contact sheet and command


def test_contact_sheet_has_a_column_per_camera(market: Path, tmp_path: Path) -> None:
    path = contact_sheet(market.parent, tmp_path / "sheet.png", identities=3, images=2)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    # 3 identities, distractors and junk in 3 rows of 2 blocks; a block is 6 cameras by 2 images.
    head = pixels.shape[0] - 3 * (2 * 48 + 8) - 8
    assert head >= 20 and pixels.shape[1] == max(2 * (6 * 24 + 8) + 8, 320)
    first = Path(read(market).train[0][0]).parents[1]
    for place, label in enumerate(("0001", "0002", "0003", "0000", "-1")):
        for camera in range(1, 7):
            files = sorted(first.glob(f"*/{label}_c{camera}s*"), key=lambda file: file.name)[:2]
            for row in range(2):
                top = head + place // 2 * 104 + row * 48
                left = 8 + place % 2 * 152 + (camera - 1) * 24
                shown = pixels[top : top + 48, left : left + 24]
                if row < len(files):
                    with Image.open(files[row]) as image:
                        assert (np.asarray(image) == shown).all()
                else:
                    assert (shown == 250).all()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["market1501", "--root", str(tmp_path), "--identities", "4", "--images", "2", "--cameras", "3"]
    arguments += ["--height", "32", "--width", "16", "--sheet", str(tmp_path / "sheet.png")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    images = len(list((tmp_path / "market1501").rglob("*.jpg")))
    assert f"4 synthetic identities, {images} images of 16 x 32" in said and "no substitute" in said
    assert (tmp_path / "sheet.png").is_file()
    assert read(tmp_path / "market1501").num_train_cams <= 3


def test_camera_styles_made_since_are_no_generated_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["market1501", "--root", str(tmp_path), "--identities", "4", "--images", "2", "--cameras", "3"]
    arguments += ["--height", "32", "--width", "16", "--sheet", str(tmp_path / "sheet.png")]
    assert main(arguments) == 0
    said, drawn = capsys.readouterr().out, (tmp_path / "sheet.png").read_bytes()
    part = tmp_path / "market1501" / "Market-1501-v15.09.15"
    styles = part / "bounding_box_train_camstyle"
    styles.mkdir()
    for file in (part / "bounding_box_train").iterdir():
        Image.new("RGB", (16, 32)).save(styles / f"{file.stem}_fake_1to2.jpg")
    assert main(arguments) == 0
    assert capsys.readouterr().out == said and (tmp_path / "sheet.png").read_bytes() == drawn
