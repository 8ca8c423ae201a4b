"""Bad inputs of many kinds: each is answered by one sentence and an exit code, never by a traceback.

To add an input, add a row. In its command ``{tmp}`` is an empty folder with
the row's files, ``{root}`` holds the data sets, ``{run}`` is a finished run
that must not change, ``{copy}`` a copy of it with the row's files in place.
"""
from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY

from torchreid_nas.cli import main


@dataclasses.dataclass(frozen=True)
class Row:
    """A bad input.

    Attributes:
        kind: what is wrong.
        command: words of the command line; an experiment has the tiny config before them.
        sentence: regular expression that the sentence matches.
        files: content by path relative to ``{tmp}``, or to ``{copy}`` where the path begins with ``copy/``; a function
            takes the path and makes or spoils what is there.
        code: the exit code.
        bare: leave out the tiny config.
    """

    kind: str
    command: str
    sentence: str
    files: Mapping[str, str | bytes | Callable[[Path], None]] = dataclasses.field(default_factory=dict)
    code: int = 2
    bare: bool = False


def fifo(path):
    os.mkfifo(path)


def folder(path):
    path.unlink(missing_ok=True)
    path.mkdir()


def marked(content):
    """A function that makes a folder with a marker of generated data."""
    def make(path):
        path.mkdir()
        (path / "synthetic.json").write_bytes(content)
    return make


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def architecture(**changes):
    return json.dumps({"space": "norm_split", "choices": {"conv1": "share"}, "source": {}, **changes})


def npz(**changes):
    """Return a function that writes saved features with other arrays."""
    arrays = {
        "features": np.ones((1, 2), np.float32), "paths": np.array(["a.jpg"]), "labels": np.array([""]), "camids": np.array([0]),
        "model": np.array("m"), "modality": np.array("visible"), **changes,
    }
    return lambda path: np.savez(path, **arrays)


DIGITS = "1" * 400
TESTED = "--stages test model.architecture share model.load_weights {tmp}/w.pth"
FEATURES = "features {tmp} --device cpu --out {tmp}/out.npz"
VISIBLE = f"{FEATURES} --model {{run}} --modality visible"
BOXED = f"{VISIBLE} --boxes {{tmp}}/b.csv"
FOREIGN = f"{FEATURES} --weights {{tmp}}/w.pth"
MATCHED = "match {tmp}/q.npz {tmp}/q.npz --model {run} --query-modality visible --gallery-modality infrared"
STYLED = "camstyle --dataset market1501 --root {root} --output {tmp}"
# The checkpoint before is away, and so are the digests, which files of version 0.1 do not have.
ALONE = {f"copy/train/{name}": Path.unlink for name in ("checkpoint-1.pth", "checkpoints.json")}
ROWS = [
    # -- words of the command line
    Row("a command that does not exist", "featurs", 'no command "featurs".*did you mean "features"', bare=True),
    Row("a key that does not exist", "train.lrr 0.1", 'unknown key "train.lrr"; did you mean "train.lr"'),
    Row("a key without a value", "train.lr", '"train.lr" has no value; write KEY VALUE pairs'),
    Row("a file where a key stands", "demo.yaml 1", "write --config demo.yaml"),
    Row("text for a number", "train.lr fast", "sets train.lr to 'fast', expected"),
    Row("a number out of range", "train.lr -1", "train.lr to -1.*above 0"),
    Row("not a number", "train.lr nan", "train.lr"),
    Row("an infinite number", "train.lr 1e999", "train.lr"),
    Row("a whole number of 400 digits", f"train.lr {DIGITS}", "train.lr"),
    Row("a whole number of 400 digits for a budget", f"search.budget.latency {DIGITS}", "search.budget.latency"),
    Row("half a list", "train.stepsize [1,2", "train.stepsize"),
    Row("a list of 5,000 digits", f"train.stepsize [{'1' * 5000}]", "train.stepsize"),
    Row("a stage that does not exist", "--stages serach", '--stages names "serach".*did you mean "search"'),
    Row("no stage", "--stages ,", "--stages is empty"),
    Row("a trial that does not exist", "--trials 11", '--trials is "11", the split ids of regdb are 0 to 9'),
    Row("text for a trial", "--trials first", '--trials is "first", expected "all"'),
    Row("a device that does not exist", "--device gpu0", 'device "gpu0" is unknown to torch; use cpu'),
    Row("a GPU that is not here", "--device cuda", 'the device is "cuda", but torch sees no GPU here'),
    *(
        Row(f"a device of another machine, {name}", f"--device {name}", f'the device is "{name}", but torch cannot compute on it')
        for name in ("mps", "xpu", "hpu", "meta")
    ),
    Row("a model that does not exist", "model.name two_stream_resnet5", 'did you mean "two_stream_resnet50"'),
    Row("a data set that does not exist", "data.sources regdbb", 'regdbb.*did you mean "regdb"'),
    Row("a target that does not exist", "data.targets regdbb", "regdbb"),
    Row("no target", "data.targets []", "data.targets names no data set to test on"),
    Row("a split that does not exist", "data.split_id 12", "12"),
    Row("a transform that does not exist", "data.transforms random_flipp", "random_flipp"),
    Row("a batch that fits no identity", "train.batch_size 10", "train.batch_size is 10, expected a multiple of 4"),
    Row("a search of which nothing is used", "--stages search model.architecture share", "model.architecture.*--stages"),
    # -- folders
    Row("an output that is a file", "--output {tmp}/file", '--output: the folder ".*file" cannot be made', {"file": "kept"}),
    Row("an output below a file", "--output {tmp}/file/run", "--output: the folder", {"file": "kept"}),
    Row("a root without data", "--root {tmp}", "RegDB.*torchreid-nas synthetic regdb --root"),
    Row("a run that is there", "--output {copy}", "already holds a search stage; add --resume", {"copy/a": ""}),
    Row("a test without weights", "--stages test", "there are no weights to test"),
    Row("a training without its architecture", "--stages train", "run the search stage first"),
    # -- configs
    Row("a config that is not there", "--config {tmp}/c.yaml", "c.yaml.*is neither a file nor the name of a shipped config"),
    Row("a config that is a folder", "--config {tmp}/c.yaml", "c.yaml.*is neither a file nor the name", {"c.yaml": folder}),
    Row("a config of bytes", "--config {tmp}/c.yaml", "c.yaml.*not valid YAML", {"c.yaml": b"\xff\xfe\x00"}),
    Row("a config that is a list", "--config {tmp}/c.yaml", "c.yaml.*holds no keys", {"c.yaml": "- 1\n"}),
    Row("a config that is text", "--config {tmp}/c.yaml", "c.yaml.*holds no keys", {"c.yaml": "train"}),
    Row("a config that ends early", "--config {tmp}/c.yaml", "c.yaml.*line 2 is not valid YAML", {"c.yaml": "train: {lr: 1,\n"}),
    Row("a config in itself", "--config {tmp}/c.yaml", "c.yaml", {"c.yaml": "train: &a {lr: *a}\n"}),
    Row("a config of 3,000 brackets", "--config {tmp}/c.yaml", "c.yaml", {"c.yaml": "[" * 3000}),
    Row("a config with 5,000 digits", "--config {tmp}/c.yaml", "c.yaml", {"c.yaml": f"train: {{lr: {'1' * 5000}}}\n"}),
    Row("a config with an unknown key", "--config {tmp}/c.yaml", 'c.yaml.*"train.lrr"', {"c.yaml": "train: {lrr: 1}\n"}),
    Row("a config with a list for a section", "--config {tmp}/c.yaml", "c.yaml", {"c.yaml": "train: [1]\n"}),
    # -- architectures
    Row("an architecture that is not there", "model.architecture {tmp}/a.json", "a.json.*cannot be read"),
    Row("an architecture that is no preset", "model.architecture firts-3", "firts-3.*preset"),
    Row("an architecture that is no JSON", "model.architecture {tmp}/a.json", "a.json", {"a.json": "{"}),
    Row("an architecture of 3,000 brackets", "model.architecture {tmp}/a.json", "a.json", {"a.json": '{"a": ' * 3000}),
    Row("an architecture of words", "model.architecture {tmp}/a.cfg", "a.cfg.*neither JSON", {"a.cfg": "share split"}),
    Row("an architecture of too many digits", "model.architecture {tmp}/a.cfg", "a.cfg", {"a.cfg": "0 1 " + "1" * 5000}),
    Row("an architecture of no choices", "model.architecture {tmp}/a.json", "a.json", {"a.json": architecture(choices={})}),
    Row("an architecture with a number for a source", "model.architecture {tmp}/a.json", "a.json",
        {"a.json": architecture(source=5)}),
    Row("an architecture whose choices are numbers", "model.architecture {tmp}/a.json", 'a.json.*lacks "space" or "choices"',
        {"a.json": architecture(choices={"conv1": 5})}),
    Row("an architecture of an unknown space", "model.architecture {tmp}/a.json", 'a.json.*space "other", expected "norm_split"',
        {"a.json": architecture(space="other")}),
    Row("an architecture that is no text", "model.architecture {tmp}/a.json", "a.json.*no text", {"a.json": b"\xff\xfe{"}),
    Row("a preset of 5,000 digits", "model.architecture first-" + "1" * 5000, "neither a file nor a preset"),
    Row("a search space that is none", "--stages search search.space norm_splits", "search.space"),
    Row("an architecture of another backbone", "model.architecture {tmp}/a.cfg", "53.*20", {"a.cfg": " ".join(["0"] * 53)}),
    # -- weights
    Row("weights that are not there", TESTED, "w.pth.*does not exist"),
    Row("weights of 300 letters", f"--stages test model.load_weights {'x' * 300}", "does not exist"),
    Row("weights to start from of 300 letters", f"model.pretrained {'x' * 300}", "does not exist"),
    Row("weights that are a folder", "--stages test model.load_weights {run}", "is a folder, expected a file"),
    Row("weights that are a pipe", TESTED, "no regular file", {"w.pth": fifo}),
    Row("weights of text", TESTED, "w.pth.*damaged", {"w.pth": "hello"}),
    Row("weights of an empty file", TESTED, "w.pth.*damaged", {"w.pth": ""}),
    Row("weights that stop torch's reader", TESTED, "w.pth.*damaged",
        {"w.pth": b"\x80\x02."}),
    Row("weights of a list", TESTED, "w.pth", {"w.pth": saved([1])}),
    Row("weights of nothing", TESTED, "w.pth", {"w.pth": saved({})}),
    Row("weights of another model", TESTED, "w.pth",
        {"w.pth": saved({"state_dict": {"classifier.weight": torch.zeros(3, 4)}})}),
    Row("weights that --resume goes on from", "--stages test model.load_weights {run}/train/checkpoint.pth",
        "state that --resume goes on from"),
    Row("a zoo entry that does not exist", "--stages test model.load_weights zoo:cmnas_regbd", "cmnas_reg"),
    # -- a run's own files
    Row("a flipped bit", "--output {copy} --stages test", "model.pth.*damaged", {"copy/train/model.pth": flipped}),
    Row("a state of a list", "--output {copy} --resume", "checkpoint.pth.*no state of a training",
        {"copy/train/checkpoint.pth": saved([1]), **ALONE}),
    Row("a state with half an epoch", "--output {copy} --resume", "checkpoint.pth.*no state of a training",
        {"copy/train/checkpoint.pth": saved({"epoch": 0.5}), **ALONE}),
    Row("an empty config of a stage", "--output {copy} --resume", "config.yaml.*holds no keys", {"copy/train/config.yaml": ""}),
    Row("a found architecture of text", "--output {copy} --stages train", "architecture.json",
        {"copy/architecture.json": "hello", "copy/train": shutil.rmtree}),
    Row("another learning rate for a resumed run", "--output {run} --resume train.lr 0.5", "train.lr: 0.002 -> 0.5"),
    # -- commands that read a run
    Row("a report on no run", "report {tmp}", "is no folder of a run", bare=True),
    Row("a report on damaged results", "report {copy}", "results.json.*holds no list of results",
        {"copy/results.json": "[]"}, bare=True),
    Row("a report on a damaged history", "report {copy}", "history.jsonl.*line 1", {"copy/train/history.jsonl": "{"}, bare=True),
    Row("features with a model that is not there", "features {tmp} --model nothing", 'no folder "nothing" of a run', bare=True),
    Row("features of a folder that is not there", "features {tmp}/none --model {run} --modality visible", "none", bare=True),
    Row("features of no modality", "features {tmp} --model {run}", "modality", bare=True),
    Row("features of an empty folder", "features {tmp} --model {run} --modality visible --out {tmp}/f.npz", "", bare=True),
    Row("images of 16 bits with 12 of them used", "features {tmp} --model {run} --modality visible --out {tmp}/f.npz", "deep.png",
        {"deep.png": lambda path: cv2.imwrite(str(path), np.full((8, 4, 3), 4095, np.uint16))}, bare=True),
    Row("no whole number for a batch", "features {tmp} --model {run} --batch-size two", '--batch-size is "two"', bare=True),
    Row("an npz with features of text", MATCHED,
        "q.npz", {"q.npz": lambda path: np.savez(path, features=np.array(["a"]))}, bare=True),
    Row("a pipe named like an image", VISIBLE, "x.png.*is a named pipe", {"x.png": fifo}, bare=True),
    Row("a pipe named like a video", VISIBLE, "x.mp4.*is a named pipe", {"x.mp4": fifo}, bare=True),
    Row("a folder of other files", VISIBLE, "holds 1 other files, the first: notes.txt",
        {"notes.txt": "x"}, bare=True),
    Row("an image of a web page", VISIBLE, "x.jpg", {"x.jpg": "<html>"}, bare=True),
    Row("a name that steers the terminal", VISIBLE, r"a\\x1b\[31m.jpg",
        {"a\x1b[31m.jpg": "x"}, bare=True),
    Row("a height of 5,000 digits", f"{VISIBLE} --height {'1' * 5000}", "--height", {"a.jpg": ""},
        bare=True),
    Row("boxes that are not there", BOXED, "b.csv.*does not exist", {"a.png": ""}, bare=True),
    Row("boxes without a height", BOXED, 'no column "height"', {"a.png": "", "b.csv": "file,left,top,width\n"}, bare=True),
    Row("a box of no number", BOXED, 'line 1 holds "wide"', {"a.png": "", "b.csv": "1,1,2,3,wide,5\n"}, bare=True),
    Row("boxes of frames for several videos", BOXED, "name frames and no files",
        {"a.png": "", "a.mp4": "", "b.csv": "1,1,2,3,4,5\n"}, bare=True),
    Row("weights of no model's name", f"{FOREIGN} --model osnet_x025", 'did you mean "osnet_x0_25"',
        {"w.pth": saved({"net": {"a": torch.zeros(2)}})}, bare=True),
    Row("weights under a strange entry", f"{FOREIGN} --model osnet_x0_25", 'its entries: "epoch", "weights"',
        {"w.pth": saved({"epoch": 1, "weights": {"a": torch.zeros(2)}})}, bare=True),
    Row("weights of another architecture", f"{FOREIGN} --model osnet_x0_25", "of another model",
        {"w.pth": saved({"ema": {"a": torch.zeros(2)}})}, bare=True),
    Row("weights with a hostile key", f"{FOREIGN} --model osnet_x0_25", r"its entries: \"\\x1b\[2J\\n\"",
        {"w.pth": saved({"\x1b[2J\n": 1})}, bare=True),
    Row("an npz that is a pipe", MATCHED, "q.npz.*no regular file", {"q.npz": fifo}, bare=True),
    Row("an npz that ends early", MATCHED, "q.npz.*truncated or no .npz file", {"q.npz": b"PK\x03\x04"}, bare=True),
    Row("an npz with text for features", MATCHED, 'q.npz.*an array "features".*expected 2 and floating-point numbers',
        {"q.npz": npz(features=np.array([["a"]]))}, bare=True),
    Row("an npz with cameras of text", MATCHED, 'an array "camids".*whole numbers',
        {"q.npz": npz(camids=np.array(["1"]))}, bare=True),
    Row("an npz with Python objects", MATCHED, "q.npz.*truncated or no .npz file",
        {"q.npz": npz(paths=np.array([{"a": 1}], dtype=object))}, bare=True),
    Row("boxes for saved features", f"{MATCHED} --query-boxes x.csv", "--query-boxes.*extracted already",
        {"q.npz": npz()}, bare=True),
    Row("a checkpoint of no known layout", "zoo convert {tmp}/w.pth", "w.pth.*has a layout that is not known",
        {"w.pth": saved({"a": torch.zeros(2)})}, bare=True),
    Row("a checkpoint to convert of a list", "zoo convert {tmp}/w.pth", "holds no state dict .it holds a list",
        {"w.pth": saved([1])},
        bare=True),
    Row("a checkpoint to convert that is ours", "zoo convert {run}/train/model.pth", "layout of this package already", bare=True),
    Row("a run to add that is none", "zoo add {tmp}", "no finished run", bare=True),
    Row("a layout that does not exist", "synthetic regbd --root {tmp}", 'did you mean "regdb"', bare=True),
    # -- exports, generated data and camera styles
    Row("an export format that does not exist", "export --model {run} --format onx", 'format is "onx".*did you mean "onnx"',
        bare=True),
    Row("a quantisation that does not exist", "export --model {run} --quantize statik", 'did you mean "static"', bare=True),
    Row("an opset for another format", "export --model {run} --format torch --opset 18", "--opset is for --format onnx",
        bare=True),
    Row("an opset out of range", "export --model {run} --opset 5", "--opset is 5, expected 18 to 23", bare=True),
    Row("a batch of no image", "export --model {run} --batch-sizes 1 0", "--batch-sizes has 0, expected at least 1", bare=True),
    Row("an odd number of persons", "synthetic regdb --root {tmp} --identities 7", "identities=7 must be even", bare=True),
    Row("images too narrow", "synthetic regdb --root {tmp} --width 2", "width is 2, expected a whole number from 16", bare=True),
    Row("a sheet that is no PNG", "synthetic regdb --root {tmp} --sheet a.jpg", "a.jpg.*must end in .png", bare=True),
    Row("a folder that was not generated", "synthetic regdb --root {tmp} --identities 4", "RegDB.*is no generated data set",
        {"RegDB": folder}, bare=True),
    Row("a marker of another content", "synthetic regdb --root {tmp} --identities 4", "synthetic.json.*not valid JSON",
        {"RegDB": marked(b"{")}, bare=True),
    Row("a marker of other settings", "synthetic regdb --root {tmp} --identities 4", "generated with other settings",
        {"RegDB": marked(b'{"layout": [], "settings": {"identities": "4"}}')}, bare=True),
    Row("camera styles of an unknown data set", "camstyle --dataset market1502 --root {root} --output {tmp}",
        'did you mean "market1501"', bare=True),
    Row("camera styles of a height of 30", f"{STYLED} --height 30", "height is 30, expected a multiple of 4", bare=True),
    Row("camera styles without a network", f"{STYLED} --only-generate", "holds no checkpoint.pth to generate with", bare=True),
    Row("camera styles by another checkpoint", f"{STYLED} --only-generate", "checkpoint.pth.*is not of a StarGAN",
        {"checkpoint.pth": saved({"settings": {}, "dataset": 1, "camids": 3, "images": 2, "iteration": "a"})}, bare=True),
    Row("camera styles by other settings", f"{STYLED} --resume", "settings of a StarGAN are height.*choose another --output",
        {"checkpoint.pth": saved({
            "settings": {"height": 8}, "dataset": "market1501", "camids": [0, 1], "images": 2, "iteration": 1, "history": [],
            "sums": {},
        })}, bare=True),
    Row("a zoo entry to download that does not exist", "zoo info nothing", "nothing", bare=True),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.kind for row in ROWS])
def test_a_bad_input_is_one_sentence_and_an_exit_code(row, data_root, finished, tmp_path, capsys):
    copy = tmp_path / "copy"
    if "{copy}" in row.command:
        shutil.copytree(finished, copy)
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name, content in row.files.items():
        path = tmp_path / name if name.startswith("copy/") else inputs / name
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    words = [word.format(tmp=inputs, root=data_root, run=finished, copy=copy) for word in row.command.split(" ")]
    assert main(words if row.bare else experiment(words, data_root, tmp_path / "run")) == row.code
    warnings, start, said = capsys.readouterr().err.rpartition("error: ")
    assert start and "Traceback" not in warnings + said
    # The sentence about missing data is followed by the layout that is expected.
    assert re.search(row.sentence, said, re.DOTALL), said
    assert len(said) < 1600
    # What is refused leaves no folder behind.
    assert not (tmp_path / "run").exists()


def experiment(words: Sequence[str], root: Path, output: Path) -> list[str]:
    """Return the words of an experiment after the tiny config, which leaves out what the words say themselves."""
    keys = [str(part) for key, value in TINY.items() if key not in words for part in (key, value)]
    options = {"--root": root, "--output": output}
    return [*(str(part) for name, value in options.items() if name not in words for part in (name, value)), *keys, *words]


def test_there_are_sixty_kinds():
    assert len({row.kind for row in ROWS}) == len(ROWS) >= 60
