from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from torchreid_nas.data import SYSUMM01
from torchreid_nas.errors import InputError, InputWarning

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "sysu_gallery_draws.json").read_text())


def short(dataset, items):
    """Paths under the data set's folder, as the golden file writes them."""
    return [Path(os.path.relpath(item[0], dataset.dataset_dir)).as_posix() for item in items]


@pytest.fixture(scope="module")
def golden_root(tmp_path_factory):
    """The listing of the golden file in the real layout; reading the images is not needed here."""
    folder = tmp_path_factory.mktemp("golden") / "SYSU-MM01"
    (folder / "exp").mkdir(parents=True)
    listing = {**GOLDEN["listing"], "0001": {"cam1": 1, "cam3": 1}, "0002": {"cam2": 1, "cam6": 1}}
    for person, cameras in listing.items():
        for camera, count in {"cam3": 2, "cam6": 2, **cameras}.items():
            (folder / camera / person).mkdir(parents=True)
            for number in range(1, count + 1):
                (folder / camera / person / f"{number:04d}.jpg").touch()
            # Strays that lie in circulating copies.
            (folder / camera / person / "Thumbs.db").touch()
            (folder / camera / person / ".0001.jpg.swp").touch()
        (folder / "cam1" / "Thumbs.db").touch()
    (folder / "exp" / "train_id.txt").write_text("1")
    (folder / "exp" / "val_id.txt").write_text("2\n")
    (folder / "exp" / "test_id.txt").write_text(",".join(str(int(person)) for person in reversed(GOLDEN["listing"])))
    return folder.parent


def write_permutations(folder, images, runs=10, shape=(6, 1), nested=True, seed=0):
    """Write rand_perm_cam.mat; ``images[camera][identity]`` counts; return the permutations by (camera, identity)."""
    generator = np.random.default_rng(seed)
    identities = max(max(cameras, default=0) for cameras in images.values())
    permutations = {}
    outer = np.empty(6, dtype=object)
    for camera in range(1, 7):
        inner = np.empty(identities, dtype=object)
        for identity in range(1, identities + 1):
            count = images.get(camera, {}).get(identity, 0)
            rows = np.array([generator.permutation(count) + 1 for _ in range(runs)]).reshape(runs, count)
            permutations[camera, identity] = rows
            inner[identity - 1] = rows.astype(np.uint8)
        inner = inner.reshape(-1, 1)
        if nested:
            wrapped = np.empty((1, 1), dtype=object)
            wrapped[0, 0] = inner
            inner = wrapped
        outer[camera - 1] = inner
    scipy.io.savemat(folder / "exp" / "rand_perm_cam.mat", {"rand_perm_cam": outer.reshape(shape)})
    return permutations


@pytest.mark.parametrize("search", ["all", "indoor"])
def test_random_draws_equal_the_common_code(golden_root, search):
    dataset = SYSUMM01(golden_root, search=search, verbose=False)
    compared = 0
    for key, expected in GOLDEN["draws"].items():
        mode, shot, trial = key.split("/")
        if mode == search:
            assert short(dataset, dataset.draw_gallery(int(trial), shot=int(shot))) == expected, key
            compared += 1
    assert compared == 20


def test_the_gallery_is_the_draw_of_split_id_with_the_constructors_shot(golden_root):
    dataset = SYSUMM01(golden_root, split_id=3, shot=10, verbose=False)
    assert short(dataset, dataset.gallery) == GOLDEN["draws"]["all/10/3"]
    assert short(dataset, dataset.draw_gallery(3)) == GOLDEN["draws"]["all/10/3"]
    assert dataset.gallery[0][1:] == (6, 0, 0)


def test_parts_labels_and_cameras(sysu):
    dataset = SYSUMM01(sysu, verbose=False)
    assert dataset.num_train_pids == 5 and len(dataset.train) == 5 * 6 * 2 and dataset.num_train_cams == 6
    assert dataset.val_pids == {3, 4}
    assert {os.path.basename(os.path.dirname(item[0])) for item in dataset.train if item[1] in dataset.val_pids} == {
        "0004", "0005"
    }
    for path, _, camid, _ in [*dataset.train, *dataset.query, *dataset.gallery_pool]:
        assert f"cam{camid + 1}/" in path
        assert dataset.modality_of(camid) == (camid in (2, 5))
    assert [(item[1], item[2]) for item in dataset.query[::2]] == [(6, 2), (6, 5), (7, 2), (7, 5), (9, 5)]
    assert {item[1:3] for item in dataset.gallery_pool} == {
        (pid, camid) for pid in (6, 7) for camid in (0, 1, 3, 4)
    } | {(9, 3), (9, 4)}
    assert len(dataset.gallery_pool) == 20 and len(dataset.gallery) == 10


def test_indoor_search_keeps_all_queries_and_two_cameras(sysu):
    everywhere, indoor = SYSUMM01(sysu, verbose=False), SYSUMM01(sysu, search="indoor", verbose=False)
    assert indoor.query == everywhere.query
    assert {item[1:3] for item in indoor.gallery_pool} == {(6, 0), (6, 1), (7, 0), (7, 1)}
    combined = SYSUMM01(sysu, search="indoor", combineall=True, verbose=False)
    assert combined.num_train_pids == 8
    assert len(combined.train) == len(indoor.train) + len(indoor.query) + len(indoor.gallery_pool)


def test_a_gallery_takes_all_images_where_there_are_fewer_than_shot(sysu):
    dataset = SYSUMM01(sysu, verbose=False)
    drawn = dataset.draw_gallery(0, shot=10)
    assert sorted(item[0] for item in drawn) == sorted(item[0] for item in dataset.gallery_pool)
    assert dataset.draw_gallery(0, shot=1) == dataset.draw_gallery(0)
    assert any(dataset.draw_gallery(0) != dataset.draw_gallery(trial) for trial in range(1, 10))


@pytest.mark.parametrize("shape", [(6, 1), (1, 6)])
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("shot", [1, 10])
def test_official_draws_follow_the_permutations(golden_root, tmp_path, shape, nested, shot):
    shutil.copytree(golden_root / "SYSU-MM01", tmp_path / "SYSU-MM01")
    images = {camera: {} for camera in range(1, 7)}
    for person, cameras in GOLDEN["listing"].items():
        for camera, count in cameras.items():
            images[int(camera[3:])][int(person)] = count
    permutations = write_permutations(tmp_path / "SYSU-MM01", images, shape=shape, nested=nested)
    dataset = SYSUMM01(tmp_path, gallery_draw="official", shot=shot, verbose=False)
    for trial in (0, 7):
        expected = [
            f"cam{camera}/{person}/{number:04d}.jpg"
            for person, cameras in sorted(GOLDEN["listing"].items())
            for camera in (1, 2, 4, 5) if f"cam{camera}" in cameras
            for number in permutations[camera, int(person)][trial, :shot]
        ]
        assert short(dataset, dataset.draw_gallery(trial)) == expected
    with pytest.raises(InputError, match="rand_perm_cam.mat.*trial 10"):
        dataset.draw_gallery(10)


def test_official_draws_that_do_not_fit(sysu):
    folder = sysu / "SYSU-MM01"
    file = folder / "exp" / "rand_perm_cam.mat"
    with pytest.raises(InputError, match='rand_perm_cam.mat" does not exist.*"random"'):
        SYSUMM01(sysu, gallery_draw="official")
    file.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(InputError, match="rand_perm_cam.mat.*no MATLAB file"):
        SYSUMM01(sysu, gallery_draw="official")
    scipy.io.savemat(file, {"other": np.zeros(3)})
    with pytest.raises(InputError, match="no variable rand_perm_cam"):
        SYSUMM01(sysu, gallery_draw="official")
    scipy.io.savemat(file, {"rand_perm_cam": np.zeros(6)})
    with pytest.raises(InputError, match="a cell for each of the 6 cameras"):
        SYSUMM01(sysu, gallery_draw="official")
    scipy.io.savemat(file, {"rand_perm_cam": np.array([["one"] * 6], dtype=object)})
    with pytest.raises(InputError, match="does not hold an array of image numbers"):
        SYSUMM01(sysu, gallery_draw="official")
    write_permutations(folder, {camera: {6: 2, 7: 2} for camera in range(1, 7)})
    with pytest.raises(InputError, match="no draw of trial 0 for identity 9 in camera 4"):
        SYSUMM01(sysu, gallery_draw="official")
    write_permutations(folder, {camera: {6: 30, 7: 30, 9: 30} for camera in range(1, 7)})
    with pytest.raises(InputError, match="draws image .* of identity 6 in camera 1, which does not exist"):
        SYSUMM01(sysu, gallery_draw="official")
    whole = file.read_bytes()
    for share in np.linspace(0.05, 0.95, 40):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match="truncated"):
            SYSUMM01(sysu, gallery_draw="official")


@pytest.mark.parametrize(
    "content, complaint",
    [
        ("1,2\n3,x4", "line 2 of .*test_id.txt.*'x4'"),
        ("6,,7", "line 1 of .*test_id.txt.*''"),
        ("6,0", "line 1 of .*test_id.txt.*'0'"),
        ("6 7", "line 1 of .*'6 7'"),
        ("6,-7", "line 1 of .*'-7'"),
        ("6,1", "test_id.txt.* lists 1 identities that are also for training .such as 1"),
        ("30,31", "none of the 2 identities of .*test_id.txt"),
        ("\n", "test_id.txt.*lists no identities"),
        ("", "has an empty exp/test_id.txt"),
    ],
)
def test_a_corrupt_list_names_file_and_line(sysu, content, complaint):
    (sysu / "SYSU-MM01" / "exp" / "test_id.txt").write_text(content)
    with pytest.raises(InputError, match=complaint):
        SYSUMM01(sysu)


def test_identities_without_images_are_reported_and_labels_stay_consecutive(sysu):
    (sysu / "SYSU-MM01" / "exp" / "train_id.txt").write_text("1, 2,3 ,300,\n")
    with pytest.warns(InputWarning, match="1 of the 4 identities of .*train_id.txt.*left out: 300"):
        dataset = SYSUMM01(sysu, verbose=False)
    assert {item[1] for item in dataset.train} == set(range(5)) and dataset.val_pids == {3, 4}


def test_no_overlap_of_query_and_gallery(sysu):
    (sysu / "SYSU-MM01" / "exp" / "test_id.txt").write_text("9")
    SYSUMM01(sysu, verbose=False)
    with pytest.raises(InputError, match="test_id.txt.*gallery cameras 1, 2 .0 images"):
        SYSUMM01(sysu, search="indoor")


def test_arguments_out_of_range(sysu):
    with pytest.raises(InputError, match='search is "inddor".*did you mean "indoor"'):
        SYSUMM01(sysu, search="inddor")
    with pytest.raises(InputError, match='gallery_draw is "oficial".*did you mean "official"'):
        SYSUMM01(sysu, gallery_draw="oficial")
    dataset = SYSUMM01(sysu, verbose=False)
    with pytest.raises(InputError, match="trial is -1"):
        dataset.draw_gallery(-1)
    with pytest.raises(InputError, match="shot is 0"):
        dataset.draw_gallery(0, shot=0)


@pytest.mark.parametrize("entry", ["cam4", "exp/val_id.txt"])
def test_missing_data_says_what_how_and_where(sysu, entry):
    folder = sysu / "SYSU-MM01"
    for root, gone in ((sysu, folder / entry), (folder, None), (sysu, folder)):
        if gone is not None:
            shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        with pytest.raises(InputError, match="does not exist" if gone == folder else f"lacks {entry}") as caught:
            SYSUMM01(root)
        message = str(caught.value)
        assert "https://github.com/wuancong/SYSU-MM01" in message
        assert f"torchreid-nas synthetic sysu_mm01 --root {sysu}\n" in message
        assert f"{folder}/\n    cam1/<identity>/<number>.jpg" in message and "exp/rand_perm_cam.mat" in message


@pytest.mark.parametrize("name", ["cam1/0006/copy of 0001.jpg", "cam1/0006/0001a.jpg", "cam3/0006 old/0001.jpg"])
def test_an_image_whose_name_does_not_match_is_named(sysu, name):
    path = sysu / "SYSU-MM01" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(InputError, match=f"{name}\" does not match cam<camera>/<identity>/<number>.jpg"):
        SYSUMM01(sysu, verbose=False)
