"""``torchreid-nas match`` end to end."""
import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import refused

from torchreid_nas.cli import main
from torchreid_nas.features import FeatureExtractor, FeatureSet, compute_roc, pairwise_distances
from torchreid_nas.features.matching import unit

PNG = b"\x89PNG"


def match(query, gallery, model, *more):
    return [
        "match", str(query), str(gallery), "--model", str(model), "--query-modality", "infrared", "--gallery-modality",
        "visible", "--device", "cpu", *map(str, more),
    ]


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def sides(trained, infrared, visible):
    """Features of all infrared and of all visible images, extracted apart from the command."""
    return [
        FeatureExtractor(trained, modality, "cpu").extract(folder)
        for modality, folder in (("infrared", infrared), ("visible", visible))
    ]


@pytest.fixture(scope="module")
def saved(sides, tmp_path_factory):
    """The same in files."""
    folder = tmp_path_factory.mktemp("saved")
    return [part.save(folder / f"{name}.npz") for part, name in zip(sides, ("infrared", "visible"))]


def test_an_identity_against_a_gallery(run_folder, infrared, visible, sides, tmp_path, capsys):
    query = infrared / "1"
    assert main(match(query, visible, run_folder, "--top", 3, "--out", tmp_path / "out", "--batch-size", 20)) == 0
    shown = capsys.readouterr().out
    rows = read(tmp_path / "out" / "matches.csv")
    assert len(rows) == 4 * 3 and "4 queries, 128 gallery images" in shown
    left, right = sides
    distances = pairwise_distances(unit(left.features), unit(right.features))
    for start, path in zip(range(0, 12, 3), sorted(query.iterdir())):
        expected = distances[left.paths.index(str(path))].sort()
        for rank, row in enumerate(rows[start:start + 3]):
            assert row["query"] == str(path) and row["rank"] == str(rank + 1)
            assert float(row["distance"]) == pytest.approx(expected.values[rank].item(), abs=1e-4)
            label = Path(row["gallery"]).parent.name
            assert row["gallery_label"] == label and row["query_label"] == "1"
            assert row["same_person"] == ("yes" if label == "1" else "no") and "verdict" not in row
            assert Path(row["gallery"]).name in shown and f"{float(row['distance']):.4f}"[:5] in shown
    assert (tmp_path / "out" / "ranked_001.png").read_bytes().startswith(PNG)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["matches.csv", "ranked_001.png"]


def test_saved_features_give_the_same_lists(run_folder, infrared, visible, saved, tmp_path):
    assert main(match(infrared / "2", saved[1], run_folder, "--out", tmp_path / "a", "--pictures", 0)) == 0
    assert main(match(infrared / "2", visible, run_folder, "--out", tmp_path / "b", "--pictures", 0)) == 0
    rows = [[(row["query"], row["gallery"]) for row in read(tmp_path / name / "matches.csv")] for name in "ab"]
    assert rows[0] == rows[1] and not list((tmp_path / "a").glob("*.png"))


def test_a_threshold_as_a_number(run_folder, saved, tmp_path, capsys):
    for metric, column, sign in (("euclidean", "distance", 1), ("cosine", "similarity", -1)):
        assert main(match(*saved, run_folder, "--metric", metric, "--out", tmp_path, "--pictures", 0)) == 0
        scores = sorted(float(row[column]) for row in read(tmp_path / "matches.csv"))
        middle = (scores[640] + scores[641]) / 2
        call = match(*saved, run_folder, "--metric", metric, "--threshold", middle, "--out", tmp_path, "--pictures", 0)
        assert main(call) == 0
        rows = read(tmp_path / "matches.csv")
        for row in rows:
            assert row["verdict"] == ("match" if sign * float(row[column]) <= sign * middle else "no match")
        assert {row["verdict"] for row in rows} == {"match", "no match"}
        assert "queries have no match" in capsys.readouterr().out


def test_a_threshold_by_false_accept_rate(run_folder, saved, sides, infrared, tmp_path, capsys):
    call = match(
        *saved, run_folder, "--threshold", "far=0.05", "--validation", *saved, "--out", tmp_path, "--pictures", 2
    )
    assert main(call) == 0
    shown = capsys.readouterr()
    point = compute_roc(*sides).at_far(0.05)
    assert f"distance {point.distance:.6f} accepts {point.tar:.1%} of 512 pairs of the same person" in shown.out
    assert f"({point.false_accepts:,}) of 15,872 pairs of different persons" in shown.out and not shown.err
    assert (tmp_path / "roc.png").read_bytes().startswith(PNG)
    for row in read(tmp_path / "matches.csv"):
        assert (row["verdict"] == "match") == (float(row["distance"]) <= point.distance + 1e-6)
    assert "pictures of the first 2 of 128 queries" in shown.out


def test_a_rate_finer_than_the_pairs_is_warned_of(run_folder, saved, capsys):
    assert main(match(*saved, run_folder, "--threshold", "far=0.00001", "--validation", *saved)) == 0
    warning, = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]
    assert "one in 100,000" in warning and "only 15,872" in warning


def test_one_modality_needs_one_validation_folder(run_folder, visible, saved, capsys):
    call = ["match", str(saved[1]), str(saved[1]), "--model", str(run_folder), "--query-modality", "visible",
            "--gallery-modality", "visible", "--threshold", "far=0.05", "--validation", str(visible)]
    assert main(call) == 0
    # 32 persons with 4 images: 6 pairs each; no image is its own match.
    shown = capsys.readouterr().out
    assert "of 192 pairs of the same person" in shown and "of 7,936 pairs of different persons" in shown
    assert " 0.0000" not in shown


def test_a_video_as_query_and_a_broken_gallery_image(run_folder, visible, video, tmp_path, capsys):
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    for path in sorted(visible.rglob("*.bmp"))[:5]:
        shutil.copy(path, gallery)
    (gallery / "broken.jpg").write_bytes(b"")
    assert main(match(video, gallery, run_folder, "--stride", 3, "--out", tmp_path / "out", "--top", 9)) == 0
    rows = read(tmp_path / "out" / "matches.csv")
    assert {row["query"] for row in rows} == {f"{video}#{number}" for number in (0, 3, 6)} and len(rows) == 15
    assert {row["same_person"] for row in rows} == {""}
    assert "broken.jpg" in capsys.readouterr().err
    assert (tmp_path / "out" / "ranked_001.png").exists()


# -- bad input ------------------------------------------------------------------


@pytest.mark.parametrize("more, words", [
    (["--top", "0"], ["--top", "at least 1"]),
    (["--pictures", "-1"], ["--pictures"]),
    (["--metric", "euclidian"], ['did you mean "euclidean"']),
    (["--threshold", "far=2"], ["far=2", "between 0 and 1"]),
    (["--threshold", "near"], ["near", "from 0 to 2", "far=0.01"]),
    (["--threshold", "3"], ['"3"', "from 0 to 2"]),
    (["--threshold", "nan"], ["nan"]),
    (["--metric", "cosine", "--threshold", "1.5"], ["from -1 to 1"]),
    (["--threshold", "far=0.01"], ["far=0.01", "--validation DIR"]),
    (["--validation", "x"], ["--threshold far=0.01"]),
    (["--threshold", "far=0.01", "--validation", "x"], ["1 folders", "two where query and gallery differ"]),
    (["--query-modality", "thermal"], ["thermal", "visible or infrared"]),
    (["--device", "tpu9"], ["tpu9"]),
])
def test_a_bad_word_is_answered_by_one_sentence(more, words, run_folder, saved, tmp_path, capsys):
    error = refused(capsys, *match(*saved, run_folder, "--out", tmp_path / "out", *more))
    for word in words:
        assert word in error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused_before_the_table(run_folder, saved, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    assert main(match(*saved, run_folder, "--out", tmp_path / "file")) == 2
    shown = capsys.readouterr()
    assert f'--out: the folder "{tmp_path / "file"}" cannot be made' in shown.err and shown.out == ""


def test_a_missing_modality_names_its_option(run_folder, saved, capsys):
    call = ["match", saved[0], saved[1], "--model", run_folder, "--query-modality", "infrared"]
    assert "--gallery-modality" in refused(capsys, *call)


def test_an_empty_gallery(run_folder, saved, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    error = refused(capsys, *match(saved[0], tmp_path / "empty", run_folder, "--out", tmp_path / "out"))
    assert "empty" in error and "no image" in error and not (tmp_path / "out").exists()


def test_features_of_another_model_or_modality(run_folder, saved, sides, tmp_path, capsys):
    error = refused(capsys, *match(saved[1], saved[1], run_folder))
    assert "for visible images" in error and "for infrared images" in error
    other = FeatureSet(torch.rand(2, 64), ("a", "b"), ("", ""), np.array([-1, -1]), "runs/other", "visible")
    error = refused(capsys, *match(saved[0], other.save(tmp_path / "other.npz"), run_folder))
    assert '"runs/other"' in error and str(run_folder) in error


def test_saved_features_go_with_the_weights_and_not_with_the_name(run_folder, saved, tmp_path, capsys):
    moved = shutil.copytree(run_folder, tmp_path / "moved")
    assert main(match(*saved, moved)) == 0
    weights = moved / "train" / "model.pth"
    state = torch.load(weights, weights_only=True)
    state["state_dict"]["classifier.weight"] += 1  # of which features know nothing
    torch.save(state, weights)
    assert main(match(*saved, moved)) == 0
    again = [FeatureExtractor(moved, side, "cpu").extract([path]).save(tmp_path / f"{side}.npz") for side, path in (
        ("infrared", FeatureSet.load(saved[0]).paths[0]), ("visible", FeatureSet.load(saved[1]).paths[0]),
    )]
    state["state_dict"]["bnneck.running_mean"] += 1
    torch.save(state, weights)
    error = refused(capsys, *match(*again, moved))
    assert f'made by the model "{moved}" when it had other weights; extract them again' in error


def test_saved_features_of_versions_that_knew_the_name_alone(run_folder, saved, sides, tmp_path):
    left, _ = sides
    older = FeatureSet(left.features, left.paths, left.labels, left.camids, left.model, left.modality)
    path = older.save(tmp_path / "older.npz")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file if name != "fingerprint"}
    np.savez(path, **arrays)
    assert main(match(path, saved[1], run_folder)) == 0


def test_validation_without_labels(run_folder, saved, sides, tmp_path, capsys):
    left, _ = sides
    plain = FeatureSet(left.features, left.paths, ("",) * len(left), left.camids, left.model, left.modality)
    validation = [plain.save(tmp_path / "plain.npz"), saved[1]]
    error = refused(capsys, *match(*saved, run_folder, "--threshold", "far=0.1", "--validation", *validation))
    assert "no pair of the same person" in error and "sub-folder" in error
