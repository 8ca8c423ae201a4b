"""Reading own images: which layouts are recognised, which are asked for, and one sentence for each kind of bad input."""
from __future__ import annotations

import os

import pytest

from torchreid_nas.data.own import read_records
from torchreid_nas.data.own.folder import find_images
from torchreid_nas.errors import InputError


def make(folder, names):
    """Write empty files, for the reader opens none."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def table(folder, text, encoding="utf-8", images=("a.jpg", "b.jpg")):
    make(folder, images)
    (folder / "all.csv").write_text(text, encoding=encoding)
    return folder / "all.csv"


def facts(records):
    return [(row.pid, row.camid, row.modality, row.split, row.role) for row in records.rows]


def sentence(source, **options):
    with pytest.raises(InputError) as caught:
        read_records(source, **options)
    text = str(caught.value)
    assert "\n" not in text and "; " in text
    return text


@pytest.mark.parametrize("names, expected, said", [
    (["alice/1.jpg", "bob/1.png"], [("alice", "", "", "", ""), ("bob", "", "", "", "")], "person/image"),
    (["alice/cam2/1.jpg", "bob/cam1/1.jpg"], [("alice", "cam2", "", "", ""), ("bob", "cam1", "", "", "")], "person/camera/image"),
    (["cam2/alice/1.jpg", "cam1/bob/1.jpg"], [("alice", "cam2", "", "", ""), ("bob", "cam1", "", "", "")], "camera/person/image"),
    (["RGB/7/1.jpg", "Thermal/7/1.jpg"], [("7", "", "visible", "", ""), ("7", "", "infrared", "", "")], "modality/person/image"),
    (["7/ir/1.jpg", "7/vis/1.jpg"], [("7", "", "visible", "", ""), ("7", "", "infrared", "", "")], "person/modality/image"),
    (["train/7/1.jpg", "query/8/1.jpg"], [("7", "", "", "train", ""), ("8", "", "", "test", "query")], "split/person/image"),
    (["0002_c1s1_000451_03.jpg", "0003_c2.jpg"],
     [("0002", "1", "", "", ""), ("0003", "2", "", "", "")], "names as in Market-1501"),
    (["bounding_box_train/2_c1.jpg", "bounding_box_test/3_c2.jpg"],
     [("2", "1", "", "train", ""), ("3", "2", "", "test", "gallery")], "names as in Market-1501"),
    (["cam1/a.jpg", "cam2/a.jpg"], [("", "cam1", "", "", ""), ("", "cam2", "", "", "")], "camera/image (no labels)"),
    (["a.jpg", "b.jpg"], [("", "", "", "", "")] * 2, "image (no labels)"),
])
def test_a_clear_layout_is_recognised(tmp_path, names, expected, said):
    records = read_records(f"folder:{make(tmp_path, names)}")
    assert facts(records) == expected
    assert records.layout == said and not records.unmatched


@pytest.mark.parametrize("names, part", [
    (["0001/1/a.jpg", "0002/2/b.jpg"], "2 levels of folders whose meaning is not clear"),
    (["train/RGB/7/1.jpg", "train/thermal/7/x/1.jpg"], "different depths"),
    (["20240501/a.jpg", "20240502/a.jpg"], "named as days"),
    (["0001_c1_1.jpg", "other.jpg"], "1 of 2 images have names as in Market-1501"),
    (["alice/0001_c1.jpg", "bob/0002_c1.jpg"], "a folder that is not its person's"),
    (["rgb/ir/1.jpg", "rgb/rgb/1.jpg"], "2 levels of folders that name a modality"),
])
def test_an_unclear_layout_is_asked_for(tmp_path, names, part):
    text = sentence(f"folder:{make(tmp_path, names)}")
    assert part in text and "--layout" in text and "data.layout" in text


def test_a_pattern_reads_what_the_rules_cannot(tmp_path):
    make(tmp_path, ["set1/ir_alice_c2-0007.jpg", "set1/vis_alice_c1-0003.jpg", "set1/vis_bob-0003.jpg", "notes.txt"])
    records = read_records(f"folder:{tmp_path}", layout="{}/{modality}_{pid}_{camid}-{frame}")
    assert facts(records) == [("alice", "c1", "visible", "", ""), ("alice", "c2", "infrared", "", "")]
    assert records.unmatched == ("set1/vis_bob-0003.jpg",) and records.other_files == ("notes.txt",)


@pytest.mark.parametrize("layout, part", [
    ("{pid", "a brace without a partner"), ("photos", "no field"), ("{pid}{camid}", "two fields without text between them"),
    ("{pid}/{pid}", 'the field "pid" twice'), ("{person}/{frame}", 'the field "person"'),
    ("{pid}/{camid}/{frame}", "none of the 1 images"), ("{modality}/{frame}", '"alice" is no modality'),
])
def test_a_pattern_that_cannot_serve_gets_one_sentence(tmp_path, layout, part):
    make(tmp_path, ["alice/1.jpg"])
    with pytest.raises(InputError, match=".*") as caught:
        read_records(f"folder:{tmp_path}", layout=layout)
    assert part in str(caught.value)


def test_hidden_files_pipes_and_circles_of_links_are_no_images(tmp_path):
    make(tmp_path, ["p/1.jpg", "p/.hidden.jpg", ".cache/2.jpg", "p/Thumbs.db"])
    (tmp_path / "p" / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "p" / "pipe.jpg")
    assert find_images(tmp_path) == (["p/1.jpg"], ["p/Thumbs.db", "p/pipe.jpg"])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("text", [
    "path,pid,camid,modality,split,role\na.jpg,jörg,2,ir,test,query\nb.jpg,jörg,1,RGB,test,gallery\n",
    "role;split;Modality;PID;camid;path\n\ngallery;;vis;jörg;1;./b.jpg\nquery;test;thermal;jörg;2;a.jpg\n",
])
def test_a_csv_is_read_in_any_order_with_or_without_bom(tmp_path, text, encoding):
    records = read_records(f"csv:{table(tmp_path, text, encoding)}")
    assert facts(records) == [("jörg", "1", "visible", "test", "gallery"), ("jörg", "2", "infrared", "test", "query")]
    assert [records.name_of(row.path) for row in records.rows] == ["b.jpg", "a.jpg"]


@pytest.mark.parametrize("text, part", [
    ("path,camid\na.jpg,1\n", 'has no column "pid"'),
    ("path,pid\n", "names no image"),
    ("", 'has no column "path"'),
    ("path,pid\na.jpg,1\n./a.jpg,2\n", 'line 3 of'),
    ("path,pid\na.jpg,1,2\n", "has 3 values, expected 2"),
    ("path,pid\na.jpg,1\nc.jpg,2\n", "does not exist or is no regular file (1 of the 2"),
    ("path,pid,modality\na.jpg,1,infrard\n", 'the modality "infrard"'),
    ("path,pid,split\na.jpg,1,trian\n", 'the split "trian"'),
    ("path,pid,split,role\na.jpg,1,train,query\n", "contradict each other"),
    ("path,pid\na.jpg,1\nb.jpg,\n", "says no person (pid) of"),
    ("path,pid,camid\na.jpg,1,1\nb.jpg,2,\n", "says no camera (camid) of"),
    ("path,pid\na.jpg,Anna\nb.jpg,anna\n", 'the persons "Anna" and "anna"'),
    ("path,pid\na.jpg,7\nb.jpg,007\n", 'the persons "007" and "7"'),
    ("path,pid,cam_id\na.jpg,1,1\n", 'the column "cam_id"'),
    ("path,pid,pid\na.jpg,1,1\n", 'the column "pid" twice'),
    ("path,pid\n,1\n", "has no path"),
])
def test_a_bad_csv_gets_one_sentence(tmp_path, text, part):
    assert part in sentence(f"csv:{table(tmp_path, text)}")


def test_a_csv_of_bytes_gets_one_sentence(tmp_path):
    (tmp_path / "all.csv").write_bytes(b"path,pid\n\xff\xfe,1\n")
    assert "save it as CSV in UTF-8" in sentence(f"csv:{tmp_path / 'all.csv'}")


@pytest.mark.parametrize("names, part", [([], "holds no image"), (["p/notes.txt"], "it holds 1 other files, the first: p/")])
def test_a_folder_without_images_gets_one_sentence(tmp_path, names, part):
    assert part in sentence(f"folder:{make(tmp_path, names)}")


@pytest.mark.parametrize("names", [["Anna/1.jpg", "anna/2.jpg"], ["visible/001/1.jpg", "infrared/1/1.jpg"]])
def test_persons_alike_but_for_case_or_zeros_are_refused(tmp_path, names):
    assert "differ in case or in leading zeros only" in sentence(f"folder:{make(tmp_path, names)}")


def test_an_unreadable_folder_or_file_gets_one_sentence(tmp_path, monkeypatch):
    make(tmp_path, ["alice/1.jpg", "bob/1.jpg"])
    scandir = os.scandir

    def failing(path):
        if str(path).endswith("bob"):
            raise OSError(5, "Input/output error", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    assert 'bob" cannot be read (Input/output error)' in sentence(f"folder:{tmp_path}")
    file = table(tmp_path, "path,pid\na.jpg,1\n")
    monkeypatch.setattr(type(file), "read_bytes", lambda path: failing(f"{path}/bob"))
    assert "cannot be read (Input/output error)" in sentence(f"csv:{file}")


def test_a_path_that_is_missing_or_of_the_other_kind_is_named(tmp_path):
    make(tmp_path, ["alice/1.jpg"])
    assert "does not exist" in sentence(f"folder:{tmp_path / 'photos'}")
    assert f"write folder:{tmp_path}" in sentence(f"csv:{tmp_path}")
    with pytest.raises(InputError, match="write folder:PATH"):
        read_records("folder:")


def test_a_relative_path_is_sought_here_and_below_the_root(tmp_path, monkeypatch):
    here, root = tmp_path / "here", tmp_path / "root"
    make(root / "photos", ["alice/1.jpg"])
    here.mkdir()
    monkeypatch.chdir(here)
    assert len(read_records("folder:photos", root=root)) == 1
    make(here / "photos", ["alice/1.jpg"])
    assert "write the whole path" in sentence("folder:photos", root=root)
