"""torchreid-nas data: what it writes reads as the same data, and trains, tests and refuses other images on a resume."""
from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from commands import arguments, refused
from PIL import Image
from tiny import TINY, TINY_CDNET

from torchreid_nas.cli import main
from torchreid_nas.data import read_records
from torchreid_nas.data.own.split import divide
from torchreid_nas.data.own.write import write_table

ONE = {**TINY_CDNET, "model.architecture": "cdnet", "train.max_epoch": 1, "train.num_batches": 1}
TWO = {**TINY, "model.architecture": "split", "train.max_epoch": 1, "train.num_batches": 1, "train.batch_size": 8}


def photos(folder, words):
    """Eight persons with two images per word, in a layout that no rule knows."""
    for person in range(8):
        for word in words:
            for number in range(2):
                path = folder / "shots" / f"{word}.{number}.person{person}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng([person, len(word), number]).integers(0, 256, (32, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    return folder


@pytest.mark.parametrize("words, layout, config", [
    (("a",), "{}/{}.{frame}.{pid}", ONE), (("rgb", "ir"), "{}/{modality}.{frame}.{pid}", TWO),
])
def test_an_unknown_layout_goes_from_import_to_figures(tmp_path, capsys, words, layout, config):
    source = photos(tmp_path / "photos", words)
    assert main(["data", "import", str(source), "--out", str(tmp_path / "mine"), "--layout", layout, "--seed", "1"]) == 0
    said = capsys.readouterr().out
    assert "train: 4 persons, " in said and "shuffled by NumPy" in said
    command = shlex.split(said.split("next:")[1])
    keys = dict(zip(command[3:9:2], command[4:9:2]))
    # Four persons to train on do not fill the batches of the configs.
    assert keys.pop("train.batch_size") == str(4 * 4 * len(words))
    run = tmp_path / "run"
    call = arguments(config, tmp_path, run, "--stages", "train,test", **keys)
    assert main(call) == 0
    assert "quick checks of the data: nothing found" in capsys.readouterr().out
    results = json.loads((run / "results.json").read_text())["results"]
    assert len({row["dataset"] for row in results}) == len(words)
    parts = json.loads((run / "data.json").read_text())["parts"]
    file = tmp_path / "mine" / "split.csv"
    train = parts[f"train of csv:{file}"]
    assert (train["images"], train["identities"], train["cameras"]) == (8 * len(words), 4, None)
    assert train["modalities"] == ["visible", "infrared"][:len(words)]
    # One image less than the run was made with.
    lines = file.read_text().splitlines(keepends=True)
    gone = next(place for place, line in enumerate(lines) if ",train" in line)
    file.write_text("".join(lines[:gone] + lines[gone + 1:]))
    error = refused(capsys, *call, "--resume")
    assert "is not what the run in" in error and "choose another --output" in error


def test_a_table_reads_as_the_data_that_it_was_written_from(tmp_path):
    records = divide(read_records(str(photos(tmp_path / "photos", ["rgb", "ir"])), "{}/{modality}.{frame}.{pid}"))
    again = read_records(str(write_table(records, tmp_path / "a" / "split.csv")))
    assert again.rows == records.rows and divide(again).rows == again.rows


def test_a_run_keeps_the_division_of_its_persons(tmp_path, capsys):
    source = photos(tmp_path / "photos", ["a"])
    run = tmp_path / "run"
    keys = {"data.sources": f"folder:{source}", "data.targets": f"folder:{source}", "data.layout": "{}/{}.{frame}.{pid}"}
    assert main(arguments(ONE, tmp_path, run, "--stages", "train", **keys)) == 0
    kept = read_records(str(run / "split.csv"))
    assert {(row.pid, row.split) for row in kept.rows} == {
        (row.pid, row.split) for row in divide(read_records(str(source), "{}/{}.{frame}.{pid}")).rows
    }


def test_show_counts_and_lists_what_is_left_out(tmp_path, capsys):
    source = photos(tmp_path / "photos", ["a"])
    (source / "notes.txt").touch()
    assert main(["data", "show", str(source), "--layout", "{}/a.{frame}.person{pid}"]) == 0
    said = capsys.readouterr().out
    assert "16 images, 8 persons, no cameras" in said and "    notes.txt" in said


def test_import_without_labels_or_over_a_table_gets_one_sentence(tmp_path, capsys):
    source = photos(tmp_path / "photos", ["a"])
    call = ["data", "import", source / "shots", "--out", tmp_path / "mine"]
    assert "have no labels, which a table needs" in refused(capsys, *call)
    assert not (tmp_path / "mine").exists()
    call += ["--layout", "a.{frame}.{pid}"]
    assert main(list(map(str, call))) == 0
    assert "exists already" in refused(capsys, *call)
