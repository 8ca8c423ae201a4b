from __future__ import annotations

import functools
import os
import shutil

import numpy as np
import pytest

from torchreid_nas.data import RegDB
from torchreid_nas.errors import InputError

TEST_VISIBLE = "idx/test_visible_1.txt"


def edit(folder, name, number, line):
    """Replace line ``number`` (from 1) of an index file."""
    lines = (folder / name).read_text().splitlines()
    lines[number - 1] = line
    (folder / name).write_text("\n".join(lines) + "\n")


def test_parts_labels_and_cameras(regdb):
    dataset = RegDB(regdb, verbose=False)
    assert len(dataset.train) == 24 and len(dataset.query) == len(dataset.gallery) == 12
    assert dataset.num_train_pids == 4 and dataset.num_train_cams == 2
    assert {item[2] for item in dataset.query} == {0} and {item[2] for item in dataset.gallery} == {1}
    for path, _, camid, _ in [*dataset.train, *dataset.query, *dataset.gallery]:
        assert os.path.isfile(path) and ("Thermal" in path) == (camid == 1)

    def person(path):
        return os.path.basename(os.path.dirname(path))

    assert len({(person(path), pid) for path, pid, _, _ in dataset.train}) == 4
    assert {person(item[0]) for item in dataset.train}.isdisjoint(person(item[0]) for item in dataset.query)


def test_labels_with_gaps_become_consecutive_and_agree_across_modalities(regdb):
    folder = regdb / "RegDB"
    for word in ("visible", "thermal"):
        path = folder / f"idx/train_{word}_1.txt"
        lines = [line.rsplit(" ", 1) for line in path.read_text().splitlines()]
        path.write_text("".join(f"{image} {10 * int(label) + 7}\n" for image, label in reversed(lines)))
    dataset = RegDB(regdb, verbose=False)
    people = {(os.path.basename(os.path.dirname(path)), pid) for path, pid, _, _ in dataset.train}
    assert sorted(pid for _, pid in people) == [0, 1, 2, 3]


def test_reverse_direction_swaps_query_and_gallery(regdb):
    forward, backward = RegDB(regdb, verbose=False), RegDB(regdb, query_modality="infrared", verbose=False)
    assert backward.query == forward.gallery and backward.gallery == forward.query
    assert backward.train == forward.train
    assert {backward.modality_of(item[2]) for item in backward.query} == {1}
    with pytest.raises(InputError, match='"infared".*visible, infrared.*did you mean "infrared"'):
        RegDB(regdb, query_modality="infared")


def test_split_id_is_the_zero_based_trial(regdb):
    trials = [RegDB(regdb, split_id=trial, verbose=False) for trial in range(2)]
    assert {item[0] for item in trials[0].train} != {item[0] for item in trials[1].train}
    listed = (regdb / "RegDB/idx/train_visible_2.txt").read_text().split()[0]
    assert trials[1].train[0][0].endswith(listed)
    # As from np.arange(10).
    assert RegDB(regdb, split_id=np.int64(1), verbose=False).train == trials[1].train
    for split_id in (-1, 10, "1", True):
        with pytest.raises(InputError, match="split_id.*0 to 9"):
            RegDB(regdb, split_id=split_id)


def test_root_may_be_the_parent_the_folder_itself_renamed_or_home(regdb, monkeypatch):
    expected = RegDB(regdb, verbose=False).train
    assert RegDB(regdb / "RegDB", verbose=False).train == expected
    monkeypatch.setenv("HOME", str(regdb))
    assert RegDB("~", verbose=False).train == expected
    monkeypatch.chdir(regdb)
    assert RegDB("", verbose=False).train == expected
    shutil.move(regdb / "RegDB", regdb / "copy")
    assert len(RegDB(regdb / "copy", verbose=False).train) == len(expected)


def test_lines_are_parsed_by_words(regdb):
    folder = regdb / "RegDB"
    first = (folder / TEST_VISIBLE).read_text().splitlines()[0]
    expected = RegDB(regdb, verbose=False).query
    image, label = first.split()
    spaced = image.replace("Visible/", "Visible/a ")
    (folder / spaced).parent.mkdir()
    shutil.copy(folder / image, folder / spaced)
    for line in (f"  {image}\t{label}  ", image.replace("/", "\\") + f"   {label}\n\n", f"./{image} {label}\r"):
        edit(folder, TEST_VISIBLE, 1, line)
        assert RegDB(regdb, verbose=False).query[0] == expected[0]
        (folder / TEST_VISIBLE).write_text(first + "\n")
    (folder / TEST_VISIBLE).write_text("\ufeff" + f"{spaced} {label}\n", encoding="utf-8")
    assert RegDB(regdb, verbose=False).query[0][0].endswith(spaced)


@pytest.mark.parametrize(
    "line, complaint",
    [
        ("Visible/1/v_0.bmp", "expected an image path and a label"),
        ("7", "expected an image path and a label"),
        ("Visible/1/v_0.bmp one", "expected an image path and a label"),
        ("Visible/1/v_0.bmp -1", "expected an image path and a label"),
        ("Visible/1/v_0.bmp 1.5", "expected an image path and a label"),
        ("Thermal/1/t_0.bmp 0", "expected an image under Visible/"),
    ],
)
def test_a_corrupt_line_names_file_and_number(regdb, line, complaint):
    edit(regdb / "RegDB", TEST_VISIBLE, 5, line)
    with pytest.raises(InputError, match=f"line 5 of .*test_visible_1.txt.*{complaint}"):
        RegDB(regdb)


def test_a_line_that_is_no_text_or_listed_twice(regdb):
    path = regdb / "RegDB" / TEST_VISIBLE
    content = path.read_bytes()
    path.write_bytes(content + b"\xff\xfe\x00 0\n")
    with pytest.raises(InputError, match="line 13 of .*test_visible_1.txt.*not text"):
        RegDB(regdb)
    path.write_bytes(content + content.splitlines()[1])
    with pytest.raises(InputError, match="line 13 of .*which line 2 already does"):
        RegDB(regdb)


def test_missing_images_are_named_and_counted(regdb):
    folder = regdb / "RegDB"
    lines = (folder / TEST_VISIBLE).read_text().splitlines()
    for number in (3, 4):
        (folder / lines[number - 1].split()[0]).unlink()
    with pytest.raises(InputError, match=r"v_2.bmp.*line 3 of .*test_visible_1.txt.*2 of the 12 listed"):
        RegDB(regdb)


def test_an_empty_list_and_lists_without_a_common_identity(regdb):
    folder = regdb / "RegDB"
    path = folder / "idx/train_thermal_1.txt"
    content = path.read_text()
    path.write_text("\n\n")
    with pytest.raises(InputError, match="train_thermal_1.txt.*lists no images"):
        RegDB(regdb)
    path.write_text(content)
    path = folder / "idx/test_thermal_1.txt"
    path.write_text("".join(f"{line[:-1]}{int(line[-1]) + 10}\n" for line in path.read_text().splitlines()))
    with pytest.raises(InputError, match="test_visible_1.txt.*test_thermal_1.txt.*share no identity"):
        RegDB(regdb)


def assert_says_all(message, folder, root):
    assert "http://dm.dongguk.edu/link.html" in message
    assert f"torchreid-nas synthetic regdb --root {root}" in message
    assert f"{folder}/\n    Visible/<identity>/*.bmp\n    Thermal/" in message and "idx/{train,test}" in message


def test_missing_data_says_what_how_and_where(tmp_path, make_regdb):
    folder = tmp_path / "RegDB"
    with pytest.raises(InputError, match=f'"{folder}" does not exist') as caught:
        RegDB(tmp_path)
    assert_says_all(str(caught.value), folder, tmp_path)
    with pytest.raises(InputError, match="does not exist") as caught:
        RegDB(folder)
    assert_says_all(str(caught.value), folder, tmp_path)

    make_regdb(tmp_path, trials=1)
    for entry, split_id in (("idx/test_visible_2.txt", 1), ("Thermal", 0)):
        if (folder / entry).exists():
            shutil.rmtree(folder / entry)
        for root in (tmp_path, folder):
            # The first of the four lists of a trial is the one that is named.
            with pytest.raises(InputError, match=r"lacks (idx/train_visible_2.txt|Thermal)") as caught:
                RegDB(root, split_id=split_id)
            assert_says_all(str(caught.value), folder, tmp_path)
    (folder / "Thermal").mkdir()
    with pytest.raises(InputError, match="has an empty Thermal"):
        RegDB(tmp_path)
    shutil.rmtree(folder / "Visible")
    with pytest.raises(InputError, match=f'"{folder}" lacks Visible') as caught:
        RegDB(folder)
    assert_says_all(str(caught.value), folder, tmp_path)


def test_registers_as_a_partial_and_ignores_torchreids_other_keywords(regdb):
    dataset = functools.partial(RegDB, query_modality="infrared")(
        root=str(regdb), mode="query", cuhk03_labeled=False, market1501_500k=False, verbose=False
    )
    assert len(dataset) == 12 and dataset.data is dataset.query


@pytest.mark.parametrize("image", ["Visible/v_0.bmp", "Visible//v_0.bmp", "Visible/1/2/v_0.bmp"])
def test_a_path_that_does_not_match_the_rule_is_named(regdb, image):
    index = regdb / "RegDB" / "idx" / "train_visible_1.txt"
    index.write_text(f"{image} 0\n")
    with pytest.raises(InputError, match=f'line 1 of ".*train_visible_1.txt" names "{image}", which does not match'):
        RegDB(regdb, verbose=False)
