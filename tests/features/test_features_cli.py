"""``torchreid-nas features`` end to end."""
import shutil

import numpy as np
import pytest
from commands import refused

from torchreid_nas.cli import main
from torchreid_nas.features import FeatureExtractor


def test_a_folder_into_a_file(run_folder, infrared, tmp_path, capsys):
    out = tmp_path / "features.npz"
    call = ["features", infrared, "--model", run_folder, "--modality", "infrared", "--out", out, "--device", "cpu"]
    assert main(list(map(str, call))) == 0
    assert "128 features of length 64, 128 of them labelled (32 identities)" in capsys.readouterr().out
    with np.load(out) as file:
        assert file["features"].shape == (128, 64)


def test_precision_and_compilation_reach_the_extractor(run_folder, infrared, tmp_path, monkeypatch):
    from torchreid_nas.features import extractor

    asked = []
    original = extractor.optimize_network
    monkeypatch.setattr(extractor, "optimize_network", lambda network, precision, compile, *rest: (
        asked.append((precision, compile)), original(network, precision, False, *rest))[1])
    out = tmp_path / "features.npz"
    model = ["--model", run_folder, "--modality", "infrared", "--precision", "bf16", "--compile"]
    assert main(list(map(str, ["features", infrared, *model, "--out", out]))) == 0
    model[2:4] = ["--query-modality", "infrared", "--gallery-modality", "infrared"]
    assert main(list(map(str, ["match", out, infrared, *model]))) == 0
    assert asked == [("bf16", True)] * 2


def test_a_video_and_images_with_a_broken_one_among_them(run_folder, infrared, video, tmp_path, capsys):
    good = next(infrared.rglob("*.bmp"))
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(good, folder / "a.bmp")
    (folder / "b.bmp").write_bytes(b"BM")
    out = tmp_path / "features.npz"
    call = ["features", folder, video, "--model", run_folder, "--modality", "visible", "--out", out, "--stride", "3"]
    assert main(list(map(str, call))) == 0
    shown = capsys.readouterr()
    assert "4 features" in shown.out
    unreadable, wide = [line for line in shown.err.splitlines() if line.startswith("warning:")]
    assert "b.bmp" in unreadable and "extractor.py" not in shown.err
    assert "3 images are wider than high" in wide and "--boxes FILE" in wide


@pytest.mark.parametrize("change, words", [
    ({"--model": "runs/nowhere"}, ["runs/nowhere", "zoo"]),
    ({"--modality": None}, ["--modality", "visible or infrared"]),
    ({"--modality": "infrarde"}, ['did you mean "infrared"']),
    ({"--out": "features.pth"}, ["--out", ".npz"]),
    ({"--stride": "0"}, ["--stride", "at least 1"]),
    ({"--batch-size": "many"}, ["--batch-size", "at least 1"]),
    ({"--device": "gpu"}, ["gpu", "cpu"]),
    ({"--precision": "bf61"}, ["bf61", 'did you mean "bf16"']),
    ({"source": "nowhere"}, ["nowhere", "does not exist"]),
])
def test_a_bad_word_is_answered_by_one_sentence(change, words, run_folder, infrared, tmp_path, capsys):
    options = {
        "source": infrared, "--model": run_folder, "--modality": "infrared", "--out": tmp_path / "f.npz", **change
    }
    source = options.pop("source")
    error = refused(capsys, "features", source, *(x for item in options.items() if item[1] is not None for x in item))
    for word in words:
        assert word in error
    assert not (tmp_path / "f.npz").exists()


def test_a_file_that_cannot_be_written_is_refused_before_the_extraction(run_folder, infrared, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(FeatureExtractor, "batches", lambda *arguments: pytest.fail("extracted"))
    (tmp_path / "file").write_text("kept")
    out = tmp_path / "file" / "features.npz"
    error = refused(capsys, "features", infrared, "--model", run_folder, "--modality", "infrared", "--out", out)
    assert f'--out: the folder "{out.parent}" cannot be made' in error
