"""The synthetic generator: real layouts on disk, seeded bytes, and settings that do what they say."""
from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from digests import digests
from generated import SMALL
from PIL import Image

from torchreid_nas.data.regdb import RegDB
from torchreid_nas.data.synthetic import (
    LAYOUTS,
    Camera,
    Person,
    Pose,
    Scene,
    SyntheticSettings,
    photograph,
    write_dataset,
    write_regdb,
)
from torchreid_nas.data.synthetic.settings import generator
from torchreid_nas.data.sysu_mm01 import SYSUMM01


def take(identity: int, image: int, spectrum: str = "visible", difficulty: float = 0.5, gap: float = 0.7) -> np.ndarray:
    camera = Camera.visible(0, 1) if spectrum == "visible" else Camera.infrared(0, 2, gap)
    rng = generator(0, "image", 1 if spectrum == "visible" else 2, identity, image)
    pose = Pose.sample(rng, difficulty)
    return photograph(Person.of(0, identity, difficulty), pose, Scene(0, 0), camera, rng, 64, 32, difficulty)


# Layouts


def test_regdb_layout(regdb: Path) -> None:
    assert regdb.name == "RegDB"
    for trial in (1, 2):
        parts = {}
        for part in ("train", "test"):
            for word in ("Visible", "Thermal"):
                lines = (regdb / f"idx/{part}_{word.lower()}_{trial}.txt").read_text().splitlines()
                pairs = [line.split(" ") for line in lines]
                assert len(pairs) == 3 * 2
                assert [int(label) for _, label in pairs] == [0, 0, 1, 1, 2, 2]
                assert all((regdb / name).is_file() and name.startswith(f"{word}/") for name, _ in pairs)
                identity = {int(label): Path(name).parent.name for name, label in pairs}
                # A label names the same identity in both modalities.
                assert parts.setdefault(part, identity) == identity
        assert set(parts["train"].values()).isdisjoint(parts["test"].values())
        assert set(parts["train"].values()) | set(parts["test"].values()) == set(map(str, range(1, 7)))
    assert not (regdb / "idx/train_visible_3.txt").exists()
    assert (regdb / "idx/train_visible_1.txt").read_text() != (regdb / "idx/train_visible_2.txt").read_text()


def test_regdb_images(regdb: Path) -> None:
    for word in ("Visible", "Thermal"):
        files = sorted((regdb / word).rglob("*.bmp"))
        assert len(files) == 6 * 2
        for file in files:
            sex, view, letter, _, identity = file.stem.split("_")
            assert sex in ("male", "female") and view in ("front", "back", "side")
            assert letter == word[0].lower() and identity == file.parent.name
            with Image.open(file) as image:
                assert image.format == "BMP" and image.size == (24, 48)
                pixels = np.asarray(image.convert("RGB"))
            assert (pixels == pixels[..., :1]).all() == (word == "Thermal")


def test_regdb_is_read_by_the_data_set(regdb: Path) -> None:
    data = RegDB(root=str(regdb.parent), split_id=1, verbose=False)
    assert (len(data.train), len(data.query), len(data.gallery)) == (12, 6, 6)


def test_sysu_layout(sysu: Path) -> None:
    assert sysu.name == "SYSU-MM01"
    lists = {}
    for part in ("train", "val", "test"):
        lines = (sysu / f"exp/{part}_id.txt").read_text().splitlines()
        assert len(lines) == 1
        lists[part] = [int(word) for word in lines[0].split(",")]
    assert sorted(sum(lists.values(), [])) == list(range(1, 21))
    assert [len(lists[part]) for part in ("train", "val", "test")] == [12, 4, 4]
    seen = {camera: {int(p.name) for p in (sysu / f"cam{camera}").iterdir()} for camera in range(1, 7)}
    for identity in range(1, 21):
        assert any(identity in seen[camera] for camera in (1, 2, 4, 5))
        assert any(identity in seen[camera] for camera in (3, 6))
    assert any(len(ids) < 20 for ids in seen.values())
    for file in sysu.glob("cam*/*/*"):
        assert len(file.parent.name) == 4 and file.name in ("0001.jpg", "0002.jpg", "0003.jpg")
        with Image.open(file) as image:
            pixels = np.asarray(image)
        assert pixels.shape == (48, 24, 3)
        assert (pixels == pixels[..., :1]).all() == (file.parts[-3] in ("cam3", "cam6"))


def test_sysu_permutations_have_the_structure_of_the_real_file(sysu: Path) -> None:
    cells = scipy.io.loadmat(sysu / "exp/rand_perm_cam.mat")["rand_perm_cam"]
    assert cells.shape == (6, 1)
    for camera in range(1, 7):
        # The way the public code of MPANet reads it.
        permutations = cells[camera - 1][0].squeeze()
        assert permutations.shape == (20,)
        for identity in range(1, 21):
            runs = permutations[identity - 1]
            images = len(list((sysu / f"cam{camera}/{identity:04d}").glob("*.jpg")))
            assert runs.shape == (10, images) and runs.dtype.kind in "ui"
            assert (np.sort(runs, axis=1) == np.arange(1, images + 1)).all()
    drawn = [tuple(row) for camera in cells[:, 0] for cell in camera[:, 0] for row in cell if row.size]
    # Every order of three images turns up about equally often.
    counts = [drawn.count(order) for order in set(drawn)]
    assert len(counts) == 6 and min(counts) > 0.7 * len(drawn) / 6


@pytest.mark.parametrize("draw", ["random", "official"])
def test_sysu_is_read_by_the_data_set(sysu: Path, draw: str) -> None:
    data = SYSUMM01(root=str(sysu), gallery_draw=draw, verbose=False)
    assert len({pid for _, pid, *_ in data.train}) == 16
    assert data.draw_gallery(0) != data.draw_gallery(1)


# Seeds


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_same_settings_give_the_same_bytes(layout: str, tmp_path: Path) -> None:
    first, again = (write_dataset(layout, tmp_path / name, SyntheticSettings(**SMALL)) for name in "ab")
    assert digests(first) == digests(again)
    other = write_dataset(layout, tmp_path / "c", SyntheticSettings(**SMALL, seed=1))
    same = {name for name, digest in digests(first).items() if digests(other).get(name) == digest}
    assert not [name for name in same if name.endswith((".bmp", ".jpg"))]


def test_images_do_not_depend_on_how_many_there_are(regdb: Path, tmp_path: Path) -> None:
    more = write_regdb(tmp_path, SyntheticSettings(**{**SMALL, "identities": 8, "images": 3}))
    few, many = digests(regdb), digests(more)
    images = [name for name in few if name.endswith(".bmp")]
    assert len(images) == 24
    assert all(few[name] == many[name] for name in images)


def test_gap_touches_infrared_only(regdb: Path, tmp_path: Path) -> None:
    wide = write_regdb(tmp_path, SyntheticSettings(**SMALL, gap=1.0))
    before, after = digests(regdb), digests(wide)
    for name in (name for name in before if name.endswith(".bmp")):
        assert (before[name] == after[name]) == name.startswith("Visible")


# What the settings mean


def test_camera_is_the_stated_affine_map() -> None:
    still = Camera("infrared", gain=(0.5, 1.0, 2.0), offset=(0.1, 0.0, -0.2), blur=0.0, noise=0.0)
    levels = np.full((8, 4, 1), 0.6, dtype=np.float32)
    stored = still.expose(levels, np.random.default_rng(0), 0.0)
    expected = [round(255 * (0.5 + o + g * 0.1)) for g, o in zip(still.gain, still.offset)]
    assert (stored == np.array(expected, dtype=np.uint8)).all()


def test_gap_from_none_to_strong() -> None:
    none = Camera.infrared(3, 6, 0.0)
    assert none.gain == (1.0,) * 3 and none.offset == (0.0,) * 3 and none.contrast == 1.0
    strong = [Camera.infrared(seed, 6, 1.0) for seed in range(50)]
    assert all(0.21 < camera.gain[0] < 0.29 and -0.26 < camera.offset[0] < -0.14 for camera in strong)
    assert len({camera.gain for camera in strong}) == 50
    spread = [np.mean([take(i, 1, "infrared", gap=gap).std() for i in range(6)]) for gap in (0, 0.35, 0.7, 1.0)]
    assert all(wider > 1.3 * narrower for wider, narrower in zip(spread, spread[1:]))


def test_infrared_is_independent_of_colour() -> None:
    people = [Person.of(0, identity, 0.5) for identity in range(600)]
    for part in ("upper", "lower"):
        worn = [getattr(person, part) for person in people]
        grey, grey2 = (np.array([np.mean(getattr(m, name)) for m in worn]) for name in ("rgb", "rgb2"))
        heat = np.array([m.emission for m in worn])
        step = np.array([m.emission2 - m.emission for m in worn])
        # Four standard errors of a correlation of independent values.
        limit = 4 / math.sqrt(len(people))
        assert abs(np.corrcoef(grey, heat)[0, 1]) < limit
        assert abs(np.corrcoef(grey2 - grey, step)[0, 1]) < limit
        assert (heat + np.minimum(step, 0)).min() >= 0 and (heat + np.maximum(step, 0)).max() <= 1.2


def test_persons_differ_and_draw_together_with_difficulty() -> None:
    def spread(difficulty: float) -> tuple[float, int]:
        people = [Person.of(1, identity, difficulty) for identity in range(300)]
        looks = {(p.sex, p.top, p.bottom, p.hair, p.bag, p.upper.pattern, p.lower.pattern) for p in people}
        return float(np.std([p.shoulder for p in people])), len(looks)

    shoulders, looks = zip(*(spread(difficulty) for difficulty in (0.0, 0.5, 1.0)))
    assert shoulders[0] > 1.2 * shoulders[1] > 1.2**2 * shoulders[2]
    assert looks[0] > looks[1] > looks[2] > 100
    # A small step changes a person a little: no attribute is drawn from shifted random numbers.
    near, far = Person.of(1, 5, 0.5), Person.of(1, 5, 0.5 + 1e-6)
    assert abs(near.stride - far.stride) < 1e-5 and abs(near.bag_material.period - far.bag_material.period) < 1e-5


@pytest.mark.parametrize("spectrum", ["visible", "infrared"])
def test_images_of_a_person_differ_more_with_difficulty(spectrum: str) -> None:
    def change(difficulty: float) -> float:
        pairs = [[take(i, image, spectrum, difficulty).astype(float) for image in (1, 2)] for i in range(40)]
        return float(np.mean([np.abs(one - other).mean() for one, other in pairs]))

    easy, medium, hard = (change(difficulty) for difficulty in (0.0, 0.5, 1.0))
    assert medium > 1.08 * easy and hard > 1.08 * medium


def test_patterns_stand_out_less_from_what_does_not_carry_over() -> None:
    def prominence(difficulty: float) -> float:
        worn = [Person.of(2, identity, difficulty).upper for identity in range(300)]
        steps = [abs(material.emission2 - material.emission) for material in worn]
        return float(np.mean(steps) / np.std([material.emission for material in worn]))

    easy, medium, hard = (prominence(difficulty) for difficulty in (0.0, 0.5, 1.0))
    assert easy > 1.5 * medium and medium > 1.5 * hard


def test_pose_view_is_the_yaw() -> None:
    pose = Pose.sample(np.random.default_rng(0), 0.5)
    views = {yaw: type(pose)(**{**pose.__dict__, "yaw": yaw}).view for yaw in (0.0, math.pi, math.pi / 2, -math.pi / 2)}
    assert list(views.values()) == ["front", "back", "side", "side"]
