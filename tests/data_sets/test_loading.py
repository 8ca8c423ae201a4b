"""load_dataset: torchreid's own data sets in a fixed order, and a sentence wherever its readers stop."""
from __future__ import annotations

import glob
import re
import shutil

import pytest
import torchreid
from msmt17 import write_msmt17

from torchreid_nas.data import use_full_names
from torchreid_nas.data.full_names import FULL_READERS
from torchreid_nas.data.loading import load_dataset
from torchreid_nas.data.synthetic import SyntheticSettings, write_market1501
from torchreid_nas.errors import InputError
from torchreid_nas.host import IMAGE_DATASETS


@pytest.fixture
def market(data_root, tmp_path):
    """A Market-1501 that a test may spoil."""
    shutil.copytree(data_root / "market1501", tmp_path / "market1501")
    return tmp_path


def test_torchreids_own_data_sets_do_not_depend_on_how_the_file_system_lists_them(market, monkeypatch):
    expected = load_dataset("market1501", {"root": str(market)})
    assert [item[1] for item in expected.train] == sorted(item[1] for item in expected.train)
    assert {item[1] for item in expected.train} == set(range(expected.num_train_pids))
    listed = glob.glob
    # Others in other order, and with it the set that torchreid numbers.
    monkeypatch.setattr(glob, "glob", lambda *args: sorted(listed(*args), key=lambda path: path[::-1]))
    monkeypatch.setitem(IMAGE_DATASETS, "market1501", type("Shuffled", (IMAGE_DATASETS["market1501"],), {
        "process_dir": lambda self, path, relabel=False: [
            (path, 7 - pid if relabel else pid, camid)
            for path, pid, camid in super(type(self), self).process_dir(path, relabel)
        ],
    }))
    found = load_dataset("market1501", {"root": str(market)})
    for part in ("train", "query", "gallery_pool"):
        assert getattr(found, part) == getattr(expected, part)


@pytest.mark.parametrize("name", [
    "contact.jpg", "0002_c0s1_000451_03.jpg", "-2_c1s1_000451_03.jpg", "copy_0002_c1s1.jpg", "0002_c1s1_000451_03.png",
    "0002_c.jpg", f"{'9' * 30}_c1.jpg",
])
def test_an_image_whose_name_does_not_match_the_rule_is_named(market, name):
    (next(market.rglob("bounding_box_train")) / name).touch()
    with pytest.raises(InputError, match=f'bounding_box_train" the image "{name}" does not match <identity>_c<camera>'):
        load_dataset("market1501", {"root": str(market)})


def test_a_folder_without_images_is_named(market):
    folder = next(market.rglob("bounding_box_train"))
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "Thumbs.db").touch()
    with pytest.raises(InputError, match='bounding_box_train" holds no images'):
        load_dataset("market1501", {"root": str(market)})


@pytest.mark.parametrize("name", ["market1501", "dukemtmcreid"])
def test_cameras_of_two_digits_are_cameras_of_their_own(data_root, tmp_path, name):
    folder = IMAGE_DATASETS[name].dataset_dir
    shutil.copytree(data_root / folder, tmp_path / folder)
    expected = load_dataset(name, {"root": str(tmp_path)})
    for path in list((tmp_path / folder).rglob("*_c[13]*.jpg")):
        path.rename(path.with_name(re.sub(r"_c([13])", lambda found: f"_c{9 + int(found[1])}", path.name)))
    renamed = load_dataset(name, {"root": str(tmp_path)})
    new = {0: 9, 2: 11}
    for part in ("train", "query", "gallery"):
        cameras = sorted(new.get(item[2], item[2]) for item in getattr(expected, part))
        assert sorted(item[2] for item in getattr(renamed, part)) == cameras


def test_identities_beyond_torchreids_range_are_read(market):
    for path in list(market.rglob("[0-9]*.jpg")):
        path.rename(path.with_name("7" + path.name))
    pids = {item[1] for item in load_dataset("market1501", {"root": str(market)}).query}
    assert pids and min(pids) >= 70000


def test_torchreids_own_manager_reads_whole_names_when_told_to(market):
    torchreids = IMAGE_DATASETS["market1501"]
    path = next(market.rglob("query/*.jpg"))
    path.rename(path.with_name("0001_c12s1_000001_00.jpg"))
    with use_full_names():
        manager = torchreid.data.ImageDataManager(root=str(market), sources="market1501", use_gpu=False, workers=0)
        cameras = {camid for *_, camid, _ in manager.test_dataset["market1501"]["query"]}
        assert 11 in cameras
    assert IMAGE_DATASETS["market1501"] is torchreids


def test_lines_of_msmt17_are_read_whole(tmp_path):
    folder = write_msmt17(tmp_path)
    path = folder / "list_train.txt"
    first, rest = path.read_text().split("\n", 1)
    name, label = first.split(" ")
    (folder / "train" / name).rename(folder / "train" / name.replace("_01_", "_15_"))
    path.write_text(f"{name.replace('_01_', '_15_')} {label}\n\n{rest}")
    assert max(item[2] for item in load_dataset("msmt17", {"root": str(tmp_path)}).train) == 14
    for line, message in (
        ("0000/0000_000_xx_a.jpg 0", r'line 1 of ".*list_train.txt" the image "0000_000_xx_a.jpg" does not match <identity>_'),
        ("0000/0000_000_01_a.jpg", "line 1 of .* is '0000/0000_000_01_a.jpg', expected an image path and a label"),
        ("0000/0000_000_01_a.jpg x1", "line 1 of .*expected an image path and a label"),
    ):
        path.write_text(f"{line}\n{rest}")
        with pytest.raises(InputError, match=message):
            load_dataset("msmt17", {"root": str(tmp_path)})


def test_splits_of_cuhk03_must_say_what_the_names_say(tmp_path, monkeypatch):
    def read(self, root="", **kwargs):
        self.dataset_dir = root
        self.train, self.query, self.gallery = ([(name, 0, camid)] for name, camid in images)

    monkeypatch.setattr(torchreid.data.datasets.image.CUHK03, "__init__", read)
    good = [("x/1_001_1_01.png", 0), ("x/1_001_2_06.png", 1), ("x/1_002_2_06.png", 1)]
    images = good
    FULL_READERS[torchreid.data.datasets.image.CUHK03](root="here")
    images = [*good[:2], ("x/1_002_2_06.png", 0)]
    with pytest.raises(InputError, match='give the image "x/1_002_2_06.png" camera 1, its name says 2'):
        FULL_READERS[torchreid.data.datasets.image.CUHK03](root="here")
    images = [*good[:2], ("x/1_002_3_06.png", 2)]
    with pytest.raises(InputError, match='the image "1_002_3_06.png" does not match <camera pair>'):
        FULL_READERS[torchreid.data.datasets.image.CUHK03](root="here")


def test_an_error_in_a_users_own_data_set_is_not_explained_away(monkeypatch):
    def broken(**options):
        raise AttributeError("a bug")

    monkeypatch.setitem(IMAGE_DATASETS, "mine", broken)
    with pytest.raises(AttributeError, match="a bug"):
        load_dataset("mine", {"root": ""})


def test_identities_are_not_read_from_the_folders_of_a_path(market, tmp_path):
    expected = load_dataset("market1501", {"root": str(market)})
    root = tmp_path / "run7_c1"
    root.mkdir()
    (market / "market1501").rename(root / "market1501")
    found = load_dataset("market1501", {"root": str(root)})
    assert [item[1:] for item in found.train] == [item[1:] for item in expected.train]


@pytest.mark.parametrize("name, folder", [("market1501", "market1501"), ("dukemtmcreid", "dukemtmc-reid")])
def test_a_missing_one_is_neither_downloaded_nor_half_made(tmp_path, monkeypatch, name, folder):
    root = tmp_path / "my data"
    with monkeypatch.context() as patch:
        patch.setattr(IMAGE_DATASETS[name], "download_dataset", lambda *args: pytest.fail("asked for a download"))
        with pytest.raises(InputError, match=f"{folder}\" does not exist; .*synthetic {name} --root '.*my data'$"):
            load_dataset(name, {"root": str(root)})
    assert not root.exists()
    # The way out that the message names.
    if name == "market1501":
        write_market1501(root, SyntheticSettings(identities=4, images=2, height=32, width=16))
        assert load_dataset(name, {"root": str(root)}).num_train_pids == 2


@pytest.mark.parametrize("there", [(), ("data",), ("data", "data/other"), ("data", "data/other", "data/other/list.txt")])
def test_the_folders_of_a_failed_download_are_removed_and_no_others(tmp_path, monkeypatch, there):
    class Other:
        dataset_dir = "other"

        def __init__(self, root, **options):
            (tmp_path / "data/other").mkdir(parents=True, exist_ok=True)
            raise RuntimeError("HTTP Error 404: Not Found")

    monkeypatch.setitem(IMAGE_DATASETS, "other", Other)
    for entry in there:
        (tmp_path / entry).touch() if entry.endswith(".txt") else (tmp_path / entry).mkdir()
    with pytest.raises(InputError, match='"other" is missing or incomplete: HTTP Error 404'):
        load_dataset("other", {"root": str(tmp_path / "data")})
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == list(there)
