"""load_dataset: torchreid's own data sets in a fixed order, and a sentence wherever its readers stop."""
from __future__ import annotations

import glob
import shutil

import pytest

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


@pytest.mark.parametrize("name", ["contact.jpg", "0002_c7s1_000451_03.jpg", ""])
def test_what_torchreids_reader_stumbles_over_is_said_in_a_sentence(market, name):
    folder = next(market.rglob("bounding_box_train"))
    if name:
        (folder / name).touch()
    else:
        shutil.rmtree(folder)
        folder.mkdir()
    with pytest.raises(InputError, match='torchreid\'s reader of "market1501" met .* unpack it again'):
        load_dataset("market1501", {"root": str(market)})


def test_an_error_in_a_users_own_data_set_is_not_explained_away(monkeypatch):
    def broken(**options):
        raise AttributeError("a bug")

    monkeypatch.setitem(IMAGE_DATASETS, "mine", broken)
    with pytest.raises(AttributeError, match="a bug"):
        load_dataset("mine", {"root": ""})


def test_a_root_that_torchreid_would_read_identities_from_is_refused(market, tmp_path):
    root = tmp_path / "run7_c1"
    root.mkdir()
    (market / "market1501").rename(root / "market1501")
    with pytest.raises(InputError, match='has "7_c1" in its path'):
        load_dataset("market1501", {"root": str(root)})
    (tmp_path / "linked").symlink_to(root)
    assert load_dataset("market1501", {"root": str(tmp_path / "linked")}).num_train_pids == 8


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
