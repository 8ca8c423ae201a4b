"""Own images by one name: written in the layouts of data sets, looked at, searched, adapted to, matched."""
from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import arguments, refused
from PIL import Image
from tiny import TINY, TINY_ECN

from torchreid_nas.cli import main
from torchreid_nas.data import read_records
from torchreid_nas.data.loading import load_dataset
from torchreid_nas.features import FeatureSet

LAYOUT = "{modality}/{camid}_{pid}_{frame}"
SCENE = np.random.default_rng(0).integers(0, 256, (4, 60, 80, 3), dtype=np.uint8)


def draw(path, *seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 16, 3), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Eight persons by two cameras of each modality, two images each, in a layout that no rule knows."""
    folder = tmp_path_factory.mktemp("two")
    for person in range(8):
        for camera, word in enumerate(("rgb", "rgb", "ir", "ir"), 1):
            for frame in range(2):
                draw(folder / word / f"{camera}_p{person}_{frame}.png", person, camera, frame)
    return folder


@pytest.fixture(scope="module")
def one(two):
    """The visible ones alone."""
    return two / "rgb"


def imported(capsys, *arguments):
    assert main(["data", "import", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def contents(items):
    return sorted((label, Path(path).read_bytes()) for path, label, *_ in items)


def test_a_written_regdb_is_the_data_that_it_was_written_from(two, tmp_path, capsys):
    said = imported(capsys, two, "--out", tmp_path, "--as", "regdb", "--layout", LAYOUT, "--seed", "3")
    assert f"--root {tmp_path}" in said and "baseline_split_regdb" in said
    for trial in (0, 4):
        ours = load_dataset(f"folder:{two}", {"root": "", "layout": LAYOUT, "split_seed": 3 + trial})
        named = load_dataset("regdb", {"root": str(tmp_path), "split_id": trial})
        assert contents(named.train) == contents(ours.train)
        assert sorted(data for _, data in contents(named.query)) == sorted(data for _, data in contents(ours.query))
        assert sorted(data for _, data in contents(named.gallery)) == sorted(data for _, data in contents(ours.gallery))
    error = refused(capsys, "data", "import", two, "--out", tmp_path, "--as", "regdb", "--layout", LAYOUT)
    assert "exists already; choose another folder" in error


def test_a_written_market_is_the_data_that_it_was_written_from(one, tmp_path, capsys):
    imported(capsys, one, "--out", tmp_path, "--as", "market1501", "--layout", "{camid}_{pid}_{frame}")
    ours = load_dataset(f"folder:{one}", {"root": "", "layout": "{camid}_{pid}_{frame}"})
    named = load_dataset("market1501", {"root": str(tmp_path)})
    for part in ("train", "query", "gallery"):
        own, other = getattr(ours, part), getattr(named, part)
        assert [Path(item[0]).read_bytes() for item in sorted(own, key=lambda item: Path(item[0]).read_bytes())] == sorted(
            Path(item[0]).read_bytes() for item in other
        )
    assert {item[2] for item in named.query} == {0, 1} and len({item[1] for item in named.train}) == 4


@pytest.mark.parametrize(("call", "said"), [
    (["{two}", "--as", "market1501", "--layout", LAYOUT], "has infrared images, and the layout market1501 is of visible"),
    (["{one}", "--as", "regdb", "--layout", "{camid}_{pid}_{frame}"], "has visible images only, and the layout regdb"),
    (["{one}", "--as", "market1501", "--layout", "{}_{pid}_{frame}"], "captures, which take the place of cameras, and the"),
    (["{one}", "--as", "market", "--layout", "{}_{pid}_{frame}"], '--as is "market", expected csv, market1501, regdb; did you'),
    (["{one}", "--boxes", "boxes.csv", "--layout", "{pid}"], "with --boxes the boxes say them"),
    (["{one}", "--picture", "sheet.jpg", "--layout", "{}_{pid}_{frame}"], "must end in .png"),
])
def test_what_has_no_place_is_one_sentence_and_leaves_nothing(call, said, one, two, tmp_path, capsys):
    call = [word.format(one=one, two=two) if word in ("{one}", "{two}") else word for word in call]
    assert said in refused(capsys, "data", "import", "--out", tmp_path / "out", *call)
    assert not (tmp_path / "out").exists()


def test_persons_are_cut_out_of_a_video(tmp_path, capsys):
    video = cv2.VideoWriter(str(tmp_path / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (80, 60))
    for frame in SCENE:
        video.write(frame)
    video.release()
    lines = [f"{frame},{person},{10 * person},5,12,40" for frame in range(1, 5) for person in range(1, 5)]
    (tmp_path / "gt.txt").write_text("\n".join([*lines, "1,-1,0,0,9,9"]))
    said = imported(capsys, tmp_path / "clip.avi", "--boxes", tmp_path / "gt.txt", "--out", tmp_path / "mine")
    assert "16 images, 4 persons, no cameras" in said
    rows = read_records(str(tmp_path / "mine" / "split.csv")).rows
    assert {row.frame for row in rows} == {"0", "1", "2", "3"} and {row.sequence for row in rows} == {""}
    assert Image.open(rows[0].path).size == (12, 40) and len(list((tmp_path / "mine").rglob("*.png"))) == 16
    # One person cannot be divided: the pictures go again.
    (tmp_path / "gt.txt").write_text("\n".join(line for line in lines if ",1,10" in line))
    call = ["data", "import", tmp_path / "clip.avi", "--boxes", tmp_path / "gt.txt", "--out", tmp_path / "other"]
    assert "has 1 person, expected at least 2" in refused(capsys, *call)
    assert not (tmp_path / "other" / "images").exists()


def test_boxes_without_identities_are_a_target_without_labels(tmp_path, capsys):
    for frame, pixels in enumerate(SCENE):
        Image.fromarray(pixels).save(tmp_path / f"{frame}.png")
    (tmp_path / "boxes.csv").write_text("file,left,top,width,height\n" + "".join(f"{n}.png,4,4,20,40\n" for n in range(4)))
    said = imported(capsys, tmp_path, "--boxes", tmp_path / "boxes.csv", "--out", tmp_path / "mine")
    assert "4 images without labels, to which ECN adapts as folder:" in said
    assert not (tmp_path / "mine" / "split.csv").exists()
    assert len(read_records(str(tmp_path / "mine" / "images"), "{}/{frame}").rows) == 4


def test_a_contact_sheet_shows_every_person(two, tmp_path, capsys):
    call = ["data", "show", str(two), "--layout", LAYOUT, "--picture", str(tmp_path / "sheet.png")]
    assert main(call) == 0 and "written: " in capsys.readouterr().out
    sheet = Image.open(tmp_path / "sheet.png")
    # Blocks of four images of 48x96 in two rows, four blocks beside each other, two below.
    assert sheet.width == 4 * (4 * 48 + 8) + 8 and sheet.height > 2 * 2 * 96


def test_a_search_and_its_training_run_on_own_images(two, tmp_path):
    targets = f'["folder:{two}", "folder_ir2vis:{two}"]'
    keys = {**TINY, "data.sources": f"folder:{two}", "data.targets": targets, "data.layout": LAYOUT,
            "search.max_epoch": 1, "search.val_fraction": 0.5, "train.max_epoch": 1, "train.num_batches": 1,
            "train.batch_size": 8}
    assert main(arguments(keys, tmp_path, tmp_path / "run")) == 0
    assert (tmp_path / "run" / "architecture.json").exists()
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert len({row["dataset"] for row in rows}) == 2


def test_ecn_adapts_to_a_folder_without_labels(one, two, tmp_path):
    for number, path in enumerate(sorted((two / "ir").iterdir())):
        (tmp_path / "unknown").mkdir(exist_ok=True)
        (tmp_path / "unknown" / f"{number}.png").write_bytes(path.read_bytes())
    table = tmp_path / "mine"
    assert main(["data", "import", str(one), "--out", str(table), "--layout", "{camid}_{pid}_{frame}"]) == 0
    keys = {**TINY_ECN, "ecn.camstyle": "none", "data.sources": f"csv:{table / 'split.csv'}",
            "data.targets": f"folder:{tmp_path / 'unknown'}"}
    assert main(arguments(keys, tmp_path, tmp_path / "run", "--stages", "train")) == 0
    parts = json.loads((tmp_path / "run" / "data.json").read_text())["parts"]
    assert parts["unlabelled target"]["images"] == 32


def test_features_and_matches_take_the_names_of_own_images(two, tmp_path, capsys):
    table = tmp_path / "mine" / "split.csv"
    assert main(["data", "import", str(two), "--out", str(table.parent), "--layout", LAYOUT]) == 0
    keys = {**TINY, "data.sources": f"csv:{table}", "data.targets": f"csv:{table}", "model.architecture": "split",
            "train.max_epoch": 1, "train.num_batches": 1, "train.batch_size": 8}
    run = tmp_path / "run"
    assert main(arguments(keys, tmp_path, run, "--stages", "train")) == 0
    model = ["--model", str(run), "--device", "cpu"]
    assert main(["features", f"csv:{table}", "--modality", "infrared", "--out", str(tmp_path / "f.npz"), *model]) == 0
    features = FeatureSet.load(tmp_path / "f.npz")
    assert len(features) == 32 and features.known_identities() == {f"p{n}" for n in range(8)} and set(features.camids) == {2, 3}
    # A camera has one number in every source.
    part = tmp_path / "mine" / "part.csv"
    head, *rows = table.read_text().splitlines(keepends=True)
    camera = head.strip().split(",").index("camid")
    part.write_text("".join([head, *(row for row in rows if row.split(",")[camera] == "4")]))
    assert main(["features", f"csv:{part}", "--modality", "infrared", "--out", str(tmp_path / "g.npz"), *model]) == 0
    assert set(FeatureSet.load(tmp_path / "g.npz").camids) == {3}
    capsys.readouterr()
    call = ["match", f"csv:{table}", f"csv:{table}", "--query-modality", "infrared", "--gallery-modality", "visible", *model]
    assert main(call) == 0
    assert "32 queries, 32 gallery images" in capsys.readouterr().out
