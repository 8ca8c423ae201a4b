"""The doctor's reader of LLCM, on generated files: what the lists, the folders and the names say of each other."""
from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from torchreid_nas.data.synthetic import SyntheticSettings, write_llcm
from torchreid_nas.doctor import quick_checks, read_data


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write_llcm(tmp_path_factory.mktemp("clean"), SyntheticSettings(6, images=1, height=32, width=16))


@pytest.fixture
def copied(clean, tmp_path):
    """A copy that a test may spoil; its root carries the mark of a generated set."""
    return Path(shutil.copytree(clean.parent, tmp_path / "root")) / "LLCM"


def found(folder):
    """Kind -> sentence of what reading and the quick checks find."""
    data = read_data(folder)
    return {finding.name: finding.sentence for finding in (*data.found, *quick_checks(data))}


def lines(folder, word="vis"):
    index = folder / "idx" / f"train_{word}.txt"
    return index, index.read_text().splitlines()


def test_parts_modalities_and_cameras_are_those_of_the_files(clean):
    data = read_data(clean)
    assert found(clean) == {} and data.name == "LLCM"
    assert {(record.part, record.modality) for record in data.records} == {
        ("train", "visible"), ("train", "infrared"), ("query", "visible"), ("gallery", "infrared"),
    }
    assert len(data.records) == len(list(clean.rglob("*.jpg")))
    for record in data.records:
        name = Path(record.path).name
        assert (int(name[:4]), int(name[6:8])) == (int(record.person), (record.camera or 0) + 1)


def test_it_is_read_by_its_name_and_by_its_path(clean):
    assert read_data("llcm_ir2vis", clean.parent).records == read_data(clean).records == read_data(clean.parent).records


def test_a_listed_image_that_is_gone_is_named(copied):
    _, listed = lines(copied)
    gone = listed[0].split()[0]
    (copied / gone).unlink()
    finding, = (finding for finding in read_data(copied).found if finding.name == "listed_missing")
    assert finding.files == (f"{copied}/{gone}",) and "train_vis.txt" in finding.sentence


def test_a_person_without_an_image_is_named(copied):
    index = copied / "idx" / "test_id.txt"
    index.write_text(f"{index.read_text().strip()},999\n")
    assert found(copied) == {"listed_missing": "The images of 1 person (999) in idx/test_id.txt are not on the disk."}


def test_images_of_the_other_modality_in_a_list_are_an_error(copied):
    (index, visible), (_, infrared) = lines(copied), lines(copied, "nir")
    index.write_text("\n".join([*visible, infrared[0]]))
    assert "idx/train_vis.txt names 1 image of the other modality" in found(copied)["list_disagrees"]


def test_a_label_of_two_persons_is_an_error(copied):
    index, listed = lines(copied)
    other = next(line.split()[1] for line in listed if line.split()[1] != listed[0].split()[1])
    index.write_text("\n".join([f"{listed[0].split()[0]} {other}", *listed[1:]]))
    assert found(copied)["list_disagrees"].startswith("The training lists disagree on 1 label: label ")


def test_a_test_image_in_the_folder_of_another_person_is_named(copied):
    first, second = sorted(copied.glob("test_vis/*/*"), key=lambda path: path.name)[:: len(list(copied.glob("test_vis/*/*"))) - 1]
    image = next(second.iterdir())
    image.rename(first / image.name)
    finding = next(finding for finding in read_data(copied).found if finding.name == "list_disagrees")
    assert finding.files == (f"{first}/{image.name}",)
    assert finding.sentence == "The names of 1 test image tell another person or camera than their folders."


def test_images_in_no_list_and_bad_lines_are_named(copied):
    index, listed = lines(copied)
    index.write_text("\n".join([*listed[1:], "train_vis/0001/nobody.jpg 0", "no label"]))
    said = found(copied)
    assert listed[0].split()[0] in said["not_listed"]
    assert said["bad_line"].startswith("2 lines of idx/train_vis.txt cannot be read: ")


def test_a_real_copy_with_fewer_images_is_incomplete(copied):
    (copied / "synthetic.json").unlink()
    said = [finding.sentence for finding in quick_checks(read_data(copied)) if finding.name == "incomplete"]
    assert [" ".join(sentence.split()[1:]) for sentence in said] == [
        "of 46,767 images are missing.", "of 713 training identities are missing.", "of 351 test identities are missing.",
    ]
