"""LLCM: its layout, the authors' draws, and what keeps it from being read."""
from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from torchreid_nas.data import LLCM, dataset_facts
from torchreid_nas.data.synthetic import SyntheticSettings, write_llcm
from torchreid_nas.errors import InputError
from torchreid_nas.metrics import PROTOCOLS

GOLDEN = json.loads((Path(__file__).parents[1] / "data" / "llcm_draws.json").read_text())
LINES = {
    "vis": ["train_vis/0001/0001_c03_s1_f1_vis.jpg 4", "train_vis/0002/0002_c09_s2_f1_vis.jpg 9"],
    "nir": ["train_nir/0002/0002_c01_s3_f1_nir.jpg 9", "train_nir/0001/0001_c02_s4_f1_nir.jpg 4"],
}


def short(dataset, items):
    """Paths under the data set's folder, as the golden file writes them."""
    return [Path(os.path.relpath(item[0], dataset.dataset_dir)).as_posix() for item in items]


@pytest.fixture(scope="module")
def golden_root(tmp_path_factory):
    """The listing of the golden file; reading the images is not needed here."""
    folder = tmp_path_factory.mktemp("golden") / "LLCM"
    names = [name for names in GOLDEN["listing"].values() for name in names]
    for name in [*names, *(line.split()[0] for lines in LINES.values() for line in lines)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    # A stray file that lies in circulating copies of such data.
    (folder / names[0]).with_name("Thumbs.db").touch()
    (folder / "idx").mkdir()
    for word, lines in LINES.items():
        (folder / "idx" / f"train_{word}.txt").write_text("\n".join(lines) + "\n")
    (folder / "idx" / "test_id.txt").write_text(",".join(map(str, reversed(GOLDEN["test_id"]))) + "\n")
    return folder.parent


@pytest.fixture
def copied_root(golden_root, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(golden_root / "LLCM", tmp_path / "LLCM")
    return tmp_path


@pytest.mark.parametrize("query, gallery", [("vis", "nir"), ("nir", "vis")])
def test_queries_and_ten_galleries_equal_the_authors(golden_root, query, gallery):
    dataset = LLCM(golden_root, query_modality={"vis": "visible", "nir": "infrared"}[query], verbose=False)
    assert short(dataset, dataset.query) == GOLDEN["draws"][f"query_{query}"]
    for trial in range(10):
        drawn = dataset.draw_gallery(trial)
        assert short(dataset, drawn) == GOLDEN["draws"][f"gallery_{gallery}_{trial}"]
        for path, pid, camid in drawn:
            assert re.search(r"cam(\d)/(\d{4})/", path).groups() == (str(camid + 1), f"{pid:04d}")


def test_the_sensors_of_a_camera_are_told_apart_and_are_one_camera(golden_root):
    dataset = LLCM(golden_root, split_id=3, verbose=False)
    for path, _, camid, _ in [*dataset.query, *dataset.gallery_pool]:
        infrared = "test_nir" in path
        assert dataset.modality_of(camid) == infrared and f"cam{camid - 9 * infrared + 1}/" in path
    assert short(dataset, dataset.gallery) == GOLDEN["draws"]["gallery_nir_3"] and dataset.direction == "visible → infrared"
    score = PROTOCOLS["llcm"].evaluate
    # The image of the other sensor of the query's camera is skipped where it shows the same person.
    assert score([[0.1, 0.3, 0.2]], [1], [1, 1, 2], [5], [14, 9, 10]).cmc[0] == 0
    assert score([[0.1, 0.3, 0.2]], [1], [1, 1, 2], [5], [13, 9, 10]).cmc[0] == 1


def test_training_labels_are_those_of_both_lists(golden_root):
    dataset = LLCM(golden_root, verbose=False)
    assert [(item[1], item[2]) for item in dataset.train] == [(0, 2), (1, 8), (1, 9), (0, 10)]
    assert dataset.num_train_pids == 2


def test_the_registry_names_both_directions_and_protocols():
    for name in ("llcm", "llcm_ir2vis"):
        facts = dataset_facts(name)
        assert [protocol.name for protocol in facts.protocols] == ["llcm", "llcm_repository"]
        assert facts.draws_gallery and facts.options == {"num_trials"} and facts.stand_in == "llcm"


def test_the_repository_transposes_visible_to_infrared_alone(golden_root):
    repository = PROTOCOLS["llcm_repository"]
    assert LLCM(golden_root, verbose=False).adapted(repository).transposed
    assert not LLCM(golden_root, query_modality="infrared", verbose=False).adapted(repository).transposed


@pytest.mark.parametrize("file, content, complaint", [
    ("train_vis", "train_vis/0001/0001_c03_s1_f1_vis.jpg", "line 1 of .*train_vis.txt.*expected an image path and a label"),
    ("train_vis", "train_vis/0001/0001_c12_s1_f1_vis.jpg 0", "of camera 12, expected cameras 1 to 9"),
    ("train_vis", "train_vis/0001/0001_c00_s1_f1_vis.jpg 0", "line 1 of .*of camera 0, expected cameras 1 to 9"),
    ("train_nir", "train_nir/cam4/0001_c02_s4_f1_nir.jpg 0", "of camera 2 in the folder of camera 4"),
    ("train_nir", "train_nir/0001/0001.jpg 0", "line 1 of .*train_nir.txt.*a name that tells the camera, such as 0351_c06"),
    ("train_nir", "train_vis/0001/0001_c03_s1_f1_vis.jpg 0", "an image of the other modality, expected one of nir"),
    ("train_vis", "train_vis/0001/0001_c03_s1_f9_vis.jpg 0", "does not exist .1 of the 1 listed images are missing"),
    ("train_vis", "test_vis/cam2/0031/0031_c02_s676622_f2353_vis.jpg 0", 'a person whom ".*test_id.txt" lists for the test'),
    ("train_vis", "\n", "lists no images"),
    ("train_nir", "", "has an empty idx/train_nir.txt"),
    ("test_id", "31,x", "line 1 of .*test_id.txt.*'x'"),
    ("test_id", "7000", "no identity of .*test_id.txt.* has images both in test_vis .0. and in test_nir .0."),
])
def test_a_corrupt_list_is_one_sentence_with_file_and_line(copied_root, file, content, complaint):
    (copied_root / "LLCM" / "idx" / f"{file}.txt").write_text(content)
    with pytest.raises(InputError, match=complaint) as error:
        LLCM(copied_root, verbose=False)
    assert "\n" not in str(error.value) or "Expected layout" in str(error.value)


@pytest.mark.parametrize("part", ["idx/train_vis.txt", "idx/train_nir.txt", "idx/test_id.txt", "test_nir"])
def test_a_missing_part_is_named_with_the_layout(copied_root, part):
    path = copied_root / "LLCM" / part
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=f"lacks {part}.*synthetic llcm"):
        LLCM(copied_root, verbose=False)


def test_a_test_image_in_the_folder_of_another_is_refused(copied_root):
    name = copied_root / "LLCM" / GOLDEN["draws"]["query_nir"][0]
    for other, complaint in (("c09", "in the folder of camera"), ("0032", "of another person")):
        wrong = name.with_name(re.sub("c0[0-9]" if other[0] == "c" else "^[0-9]{4}", other, name.name))
        wrong.touch()
        with pytest.raises(InputError, match=complaint):
            LLCM(copied_root, verbose=False)
        wrong.unlink()


def test_arguments_out_of_range(golden_root):
    with pytest.raises(InputError, match='query_modality is "nir".*visible, infrared'):
        LLCM(golden_root, query_modality="nir", verbose=False)
    for trial in (-1, 0.5, True):
        with pytest.raises(InputError, match="gallery trial is"):
            LLCM(golden_root, verbose=False).draw_gallery(trial)


def test_the_stand_in_has_nine_dark_cameras_with_two_sensors(tmp_path):
    import numpy as np
    from PIL import Image

    folder = write_llcm(tmp_path, SyntheticSettings(identities=24, images=1, height=32, width=16))
    dataset = LLCM(tmp_path, verbose=False)
    everything = [*dataset.train, *dataset.query, *dataset.gallery_pool]
    assert {item[2] for item in everything} == set(range(18)) - {11}
    assert dataset.num_train_pids == 16 and not (folder / "test_nir" / "cam3").exists()
    for name in ("llcm", "llcm_repository"):
        protocol = PROTOCOLS[name]
        labels = [[item[place] for item in items] for place in (1, 2) for items in (dataset.query, dataset.gallery)]
        expected = len(dataset.gallery if protocol.transposed else dataset.query)
        assert protocol.count_valid(*labels) == expected
    light = [np.asarray(Image.open(item[0])).mean() for item in dataset.query]
    assert np.mean(light) < 90
