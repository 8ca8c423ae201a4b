"""``torchreid-nas index`` end to end."""
import csv
import json

import pytest
from commands import refused

from torchreid_nas.cli import main
from torchreid_nas.features import FeatureExtractor
from torchreid_nas.index import GalleryIndex


@pytest.fixture(scope="module")
def built(run_folder, visible, tmp_path_factory):
    """An index of the first 24 visible persons, made and added to by the command."""
    folder = tmp_path_factory.mktemp("index") / "gallery"
    persons = sorted(visible.iterdir(), key=lambda path: int(path.name))
    options = ["--modality", "visible", "--device", "cpu"]
    assert main(["index", "build", *map(str, persons[:20]), "--out", str(folder), "--model", str(run_folder), *options]) == 0
    assert main(["index", "add", str(folder), *map(str, persons[20:24]), *options]) == 0
    return folder


def test_an_index_answers_as_match_does(built, run_folder, visible, infrared, tmp_path, capsys):
    """Single files have the number of their folder as label, among folders that are numbers."""
    query = ["--query-modality", "infrared", "--gallery-modality", "visible", "--device", "cpu"]
    files = [str(path) for path in sorted(infrared.glob("[1-3]/*"))]
    assert main(["index", "search", str(built), *files, "--modality", "infrared", "--top", "3", "--device", "cpu",
                 "--out", str(tmp_path / "index.csv")]) == 0
    shown = capsys.readouterr().out
    assert f"{len(files)} queries, 96 gallery images" in shown and "same person" in shown
    call = ["match", str(infrared / "1"), str(built), "--model", str(run_folder), *query, "--top", "3", "--out", str(tmp_path)]
    assert main(call) == 0
    found, expected = (list(csv.DictReader((tmp_path / name).open())) for name in ("index.csv", "matches.csv"))
    assert found[:len(expected)] == [{**row, "query_label": "1", "same_person": ours["same_person"]}
                                     for row, ours in zip(expected, found)]
    extractor = FeatureExtractor(str(run_folder), "infrared", "cpu")
    matches = extractor.search(files, GalleryIndex(built), 3)
    assert [path for row in matches.paths for path in row] == [row["gallery"] for row in found]


def test_calibrate_says_nobody_and_at_which_rate(built, visible, infrared, capsys):
    strangers = [str(visible / str(person)) for person in range(26, 33)]
    assert main(["index", "calibrate", str(built), *strangers, "--modality", "visible", "--far", "0.25", "--device", "cpu"]) == 0
    assert "25.0% of 28 images of 7 strangers are accepted" in capsys.readouterr().out
    assert main(["index", "search", str(built), str(infrared / "2"), "--modality", "infrared", "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "nobody: " in shown and "the threshold accepts 25.0% of 28 images of strangers\n" in shown
    assert main(["index", "info", str(built)]) == 0
    assert "96 images (96 visible) of 24 identities" in capsys.readouterr().out
    assert main(["index", "info", str(built), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["calibration"]["far"] == 0.25


def test_a_person_is_removed_and_an_index_merged(built, run_folder, visible, tmp_path, capsys):
    call = ["index", "build", str(visible / "30"), str(visible / "31"), "--out", str(tmp_path / "one"),
            "--model", str(run_folder), "--modality", "visible", "--device", "cpu"]
    assert main(call) == 0 and main(["index", "remove", str(tmp_path / "one"), "--pid", "30"]) == 0
    assert "4 images of 30 removed, 4 left" in capsys.readouterr().out
    assert main(["index", "merge", str(tmp_path / "one"), str(built)]) == 0
    assert "96 images added, 100 in all" in capsys.readouterr().out
    assert "holds an index already" in refused(capsys, *call)


@pytest.mark.parametrize(("call", "said"), [
    (["info", "none"], "holds no index"),
    (["build", "x", "--out", "y", "--model", "m", "--engine", "flat"], 'the engine is "flat", expected exact, ivfpq, hnsw'),
    (["calibrate", "none", "x", "--far", "often"], '--far is "often"'),
    (["search", "none", "x", "--top", "0"], '--top is "0"'),
    (["remove", "none", "--pid", "1"], "holds no index"),
])
def test_bad_input_is_one_sentence(call, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, "index", *call)
    assert not list(tmp_path.iterdir())
