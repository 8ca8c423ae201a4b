"""The synthetic DukeMTMC-reID: torchreid's own reader, a valid protocol, and a domain that is not Market-1501's."""
from __future__ import annotations

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
    Pose,
    Scene,
    SyntheticSettings,
    contact_sheet,
    photograph,
    write_dataset,
    write_dukemtmcreid,
    write_market1501,
)
from torchreid_nas.data.synthetic.camera_network import CameraNetwork
from torchreid_nas.data.synthetic.dukemtmcreid import DUKEMTMCREID
from torchreid_nas.data.synthetic.market1501 import MARKET1501
from torchreid_nas.data.synthetic.person import Person, Wardrobe
from torchreid_nas.data.synthetic.settings import domain_seed, generator
from torchreid_nas.errors import InputError

SMALL = SyntheticSettings(identities=14, images=3, height=48, width=24, cameras=8)
PARTS = ("bounding_box_train", "query", "bounding_box_test")
NAME = re.compile(r"(\d{4})_c([1-8])_f(\d{7})\.jpg")
LONE = 5000


def names(folder: Path, part: str) -> list[tuple[int, int, int]]:
    """Return identity, camera and frame of every file of ``part``; all names must be real ones."""
    files = sorted((folder / "DukeMTMC-reID" / part).iterdir())
    return [tuple(map(int, NAME.fullmatch(file.name).groups())) for file in files]


def read(folder: Path) -> torchreid.data.ImageDataset:
    return torchreid.data.datasets.init_image_dataset("dukemtmcreid", root=str(folder.parent), verbose=False)


@pytest.fixture(scope="module")
def duke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dukemtmcreid(tmp_path_factory.mktemp("duke"), SMALL)


# Layout and protocol


def test_layout(duke: Path) -> None:
    assert duke.name == "dukemtmc-reid"
    assert sorted(path.name for path in duke.iterdir()) == ["DukeMTMC-reID", "synthetic.json"]
    train, query, gallery = (names(duke, part) for part in PARTS)
    identities = [{identity for identity, *_ in part} for part in (train, query, gallery)]
    assert len(identities[0]) == len(identities[1]) == 7
    assert identities[0] | identities[1] == set(range(1, 15))
    # 408 of 702, and each of these persons in one camera only.
    assert identities[2] - identities[1] == {LONE, LONE + 1, LONE + 2, LONE + 3}
    lone = [name for name in gallery if name[0] >= LONE]
    assert len({name[:2] for name in lone}) == 4 and len(lone) == 4 * 3
    assert len({name[:2] for name in query}) == len(query)
    asked = [name for name in gallery if name[0] < LONE]
    assert len(asked) == 2 * len(query) and {name[:2] for name in asked} == {name[:2] for name in query}
    assert len(train) == 3 * len({name[:2] for name in train})
    # Two images never share identity, camera and frame, and frames are two seconds apart.
    every = train + query + gallery
    assert len(set(every)) == len(every) and {frame % 120 for *_, frame in every} == {1}
    for file in duke.rglob("*.jpg"):
        with Image.open(file) as image:
            assert image.format == "JPEG" and image.mode == "RGB" and image.size == (24, 48)


def test_torchreid_reads_it(duke: Path) -> None:
    data = read(duke)
    assert [len(part) for part in (data.train, data.query, data.gallery)] == [len(names(duke, part)) for part in PARTS]
    assert data.num_train_pids == 7
    cameras = {camera for part in (data.train, data.query, data.gallery) for _, _, camera, *_ in part}
    assert cameras == set(range(8))


@pytest.mark.parametrize("cameras", [2, 8])
def test_every_query_has_a_match_in_another_camera(tmp_path: Path, cameras: int) -> None:
    settings = SyntheticSettings(identities=40, images=2, height=32, width=16, cameras=cameras)
    data = read(write_dukemtmcreid(tmp_path, settings))
    seen: dict[int, set[int]] = {}
    for _, pid, camera, *_ in data.query:
        seen.setdefault(pid, set()).add(camera)
    assert len(seen) == 20 and min(map(len, seen.values())) == 2
    # Half of eight cameras on average, within four standard errors of their number.
    assert cameras == 2 or abs(np.mean([*map(len, seen.values())]) - 4) < 4 * np.sqrt(8 / 4 / 20)
    for _, pid, camera, *_ in data.query:
        assert any(pid == other and camera != elsewhere for _, other, elsewhere, *_ in data.gallery)
    pids, cams = (
        [np.array([item[place] for item in part]) for part in (data.query, data.gallery)] for place in (1, 2)
    )
    perfect = (pids[0][:, None] != pids[1][None, :]).astype(np.float32)
    cmc, mean_ap = torchreid.metrics.evaluate_rank(perfect, *pids, *cams, use_cython=False)
    assert cmc[0] == 1.0 and mean_ap == 1.0


def test_smallest_set_has_one_person_of_one_camera(tmp_path: Path) -> None:
    settings = SyntheticSettings(identities=4, images=2, height=32, width=16, cameras=2)
    gallery = names(write_dukemtmcreid(tmp_path, settings), "bounding_box_test")
    assert len({name[:2] for name in gallery if name[0] >= LONE}) == 1


# Seeds


def test_same_seed_gives_the_same_bytes(duke: Path, tmp_path: Path) -> None:
    assert digests(write_dataset("dukemtmcreid", tmp_path / "a", SMALL)) == digests(duke)
    other = set(digests(write_dukemtmcreid(tmp_path / "b", replace(SMALL, seed=1))).values())
    assert other.isdisjoint(digests(duke).values())


def test_images_do_not_depend_on_how_many_there_are(duke: Path, tmp_path: Path) -> None:
    more = digests(write_dukemtmcreid(tmp_path, replace(SMALL, identities=16, images=4)))
    few = {name: digest for name, digest in digests(duke).items() if name.endswith(".jpg")}
    assert len(few) > 100 and few.items() <= more.items()


# The number of cameras serves both layouts


def test_more_cameras_than_a_layout_has_fill_it(duke: Path, tmp_path: Path) -> None:
    market = write_market1501(tmp_path, replace(SMALL, images=2))
    used = [json.loads((folder / "synthetic.json").read_text())["settings"] for folder in (market, duke)]
    assert [settings["cameras"] for settings in used] == [6, 8] and used[0].keys() == used[1].keys()
    before = digests(duke)
    assert write_dukemtmcreid(duke.parent, replace(SMALL, cameras=9, gap=0.1, trials=3)) == duke
    assert digests(duke) == before
    with pytest.raises(InputError, match=r"cameras=8 instead of 6\); remove it or choose another root"):
        write_dukemtmcreid(duke.parent, replace(SMALL, cameras=6))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": 1}, "images=1 must be at least 2; choose 2 or more"),
        ({"identities": 5000}, "identities=5000 must be at most 4999; choose 4999 or fewer"),
    ],
)
def test_what_duke_cannot_hold(change: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"DukeMTMC-reID.*{message}"):
        write_dukemtmcreid(tmp_path, replace(SMALL, **change))
    assert not list(tmp_path.iterdir())


# Two domains


def test_the_domains_share_neither_person_nor_camera_nor_place() -> None:
    found = []
    for network in (MARKET1501, DUKEMTMCREID):
        seed = domain_seed(0, network.domain)
        found.append({
            # What a person wears aside, even the bodies are others.
            *(Person.of(seed, identity, 0.5).stature for identity in range(1, 100)),
            *(network.look.camera(seed, number, network.cast).gain for number in range(1, 7)),
            *(network.look.scene(seed, number) for number in range(1, 7)),
        })
    assert len(found[0]) == len(found[1]) == 99 + 6 + 6 and found[0].isdisjoint(found[1])


def test_the_same_person_and_place_look_different_in_the_other_domain() -> None:
    def take(network: CameraNetwork, place: int) -> np.ndarray:
        look, rng = network.look, generator(0, "image", place)
        pose = look.frame(Pose.sample(rng, 0.0))
        shown = look.person(0, place, 0.0), pose, look.scene(0, place), look.camera(0, place, cast=0.0)
        return photograph(*shown, rng, 64, 32, 0.0).astype(float)

    for place in range(2, 14, 2):
        market, duke = (take(network, place) for network in (MARKET1501, DUKEMTMCREID))
        warmth = [image[..., 0].mean() / image[..., 2].mean() for image in (market, duke)]
        assert warmth[1] < 0.9 * warmth[0] and np.abs(duke - market).mean() > 10


def test_the_illuminant_is_a_factor_on_all_that_a_camera_sees() -> None:
    def take(illuminant: tuple[float, float, float], spectrum: str = "visible") -> np.ndarray:
        camera = Camera(spectrum, gain=(0.4,) * 3, offset=(-0.2,) * 3, noise=0.0)
        pose = Pose.sample(np.random.default_rng(1), 0.0)
        rng, scene = generator(0, "image", 1), Scene(0, 1, illuminant=illuminant)
        # Stored is 0.1 + 0.4 * level, so nothing is clipped below a level of 2; no noise at difficulty 0.
        return (photograph(Person.of(0, 1, 0.0), pose, scene, camera, rng, 64, 32, 0.0) / 255 - 0.1) / 0.4

    white, blue = take((1, 1, 1)), take((0.5, 0.75, 1.25))
    # Each of both is rounded to a step of 1 / 255 / 0.4.
    np.testing.assert_allclose(blue, white * [0.5, 0.75, 1.25], rtol=0, atol=(0.5 + 0.5 * 1.25) / 255 / 0.4 + 1e-6)
    assert white.std() > 0.1
    np.testing.assert_array_equal(take((0.5, 0.75, 1.25), "infrared"), take((1, 1, 1), "infrared"))


def test_paint_and_foliage_colour_the_place_only_in_visible_light() -> None:
    def mean(spectrum: str, **colours: tuple[float, float, float]) -> np.ndarray:
        return Scene(3, 2, outdoor=True, **colours).background(np.random.default_rng(0), spectrum, 64, 32).mean((0, 1))

    plain = mean("visible")
    assert (mean("visible", paint=(0.5, 0.5, 0.5)) < 0.9 * plain).all()
    red = mean("visible", foliage=(0.9, 0.0, 0.0)) - plain
    assert red[0] > 0 > red[1] and red[2] < 0
    for colours in ({"paint": (0.5, 0.5, 0.5)}, {"foliage": (0.9, 0.0, 0.0)}):
        np.testing.assert_array_equal(mean("infrared", **colours), mean("infrared"))


def test_a_wardrobe_decides_what_is_worn() -> None:
    winter = DUKEMTMCREID.look.wardrobe
    usual, cold = ([Person.of(0, i, 0.5, wardrobe) for i in range(300)] for wardrobe in (Wardrobe(), winter))
    assert usual == [Person.of(0, i, 0.5) for i in range(300)]
    warm = [sum(person.top in ("open", "coat") for person in people) for people in (usual, cold)]
    bare = [sum(person.bottom in ("shorts", "skirt") for person in people) for people in (usual, cold)]
    packs = [sum(person.bag == "backpack" for person in people) for people in (usual, cold)]
    assert warm[1] > 1.5 * warm[0] and bare[1] < 0.6 * bare[0] and packs[1] > 1.2 * packs[0]
    assert not any(person.top == "sleeveless" for person in cold)
    colours = [np.array([person.upper.rgb for person in people]) for people in (usual, cold)]
    # The same garment is darker on each.
    assert (colours[1].max(axis=1) < colours[0].max(axis=1)).all()
    # The same people in other clothes: nothing but the wardrobe changes.
    assert [(p.sex, p.stature, p.hair, p.skin) for p in usual] == [(p.sex, p.stature, p.hair, p.skin) for p in cold]


def test_looser_boxes_keep_the_person_in_the_middle() -> None:
    pose = replace(Pose.sample(np.random.default_rng(0), 0.0), scale=1.0, dx=0.0, dy=0.0)
    loose = DUKEMTMCREID.look.frame(pose)
    zoom = DUKEMTMCREID.look.zoom
    assert loose.scale == zoom < 1 and replace(loose, scale=1.0, dy=0.0) == pose
    # Feet at 0.965 of the height, and a body of 0.95 of it at zoom 1.
    feet = 0.965 + loose.dy
    assert feet - 0.95 * zoom / 2 == pytest.approx(0.965 - 0.95 / 2)


# Contact sheet and command


def test_contact_sheet_has_a_column_per_camera(duke: Path, tmp_path: Path) -> None:
    path = contact_sheet(duke, tmp_path / "sheet.png", identities=3, images=2)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    # 3 identities and one block of persons of one camera in 2 rows of 2 blocks; a block is 8 cameras by 2 images.
    head = pixels.shape[0] - 2 * (2 * 48 + 8) - 8
    assert head >= 20 and pixels.shape[1] == 2 * (8 * 24 + 8) + 8
    for place, label in enumerate(("0001", "0002", "0003", "5")):
        for camera in range(1, 9):
            files = sorted(duke.glob(f"*/*/{label}*_c{camera}_*"), key=lambda file: file.name)[:2]
            for row in range(2):
                top, left = head + place // 2 * 104 + row * 48, 8 + place % 2 * 200 + (camera - 1) * 24
                shown = pixels[top : top + 48, left : left + 24]
                if row < len(files):
                    with Image.open(files[row]) as image:
                        assert (np.asarray(image) == shown).all()
                else:
                    assert (shown == 250).all()


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["dukemtmcreid", "--root", str(tmp_path), "--identities", "4", "--images", "2", "--cameras", "3"]
    arguments += ["--height", "32", "--width", "16", "--sheet", str(tmp_path / "sheet.png")]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    images = len(list((tmp_path / "dukemtmc-reid").rglob("*.jpg")))
    assert f"4 synthetic identities, {images} images of 16 x 32" in said
    assert "no substitute for the real dukemtmc-reid" in said and (tmp_path / "sheet.png").is_file()
    assert len(read(tmp_path / "dukemtmc-reid").query) >= 4
    with pytest.raises(InputError, match='did you mean "dukemtmcreid"'):
        main(["dukemtmc", "--root", str(tmp_path)])
