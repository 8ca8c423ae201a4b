"""Label suspects: planted wrong labels come first, each modality is judged by itself, and which network judges."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchreid
from PIL import Image

from torchreid_nas.cli import main
from torchreid_nas.doctor import Data, Record
from torchreid_nas.doctor.examine import examine
from torchreid_nas.doctor.suspects import Judge, find_imagenet_weights, make_judge
from torchreid_nas.errors import InputError

PERSONS, SHOTS = 12, 6


class Stub:
    """A judge's network; its features are planted."""

    name = "a stub"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small picture per person, camera and shot: a coarse pattern of the person, with noise."""
    folder = tmp_path_factory.mktemp("persons")
    for person in range(PERSONS):
        pattern = np.random.default_rng(person).integers(30, 226, (6, 3, 3)).repeat(16, 0).repeat(16, 1)
        for shot in range(SHOTS):
            noise = np.random.default_rng([person, shot]).normal(0, 12, pattern.shape)
            path = folder / f"{person:02d}" / f"cam{shot % 2 + 1}" / f"{shot}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((pattern + noise).clip(0, 255).astype(np.uint8)).save(path)
    return folder


def records(folder, rename=lambda person, shot: f"{person:02d}", modality=""):
    return [
        Record(str(path), rename(int(path.parts[-3]), int(path.stem)), int(path.parts[-2][-1]) - 1, modality, "train")
        for path in sorted(folder.rglob("*.png"))
    ]


@pytest.fixture
def judge(monkeypatch):
    """Features that know the person who is really on a picture."""
    people = np.random.default_rng(0).standard_normal((PERSONS, 64))

    def features(self, files, modality):
        noise = np.random.default_rng(1).standard_normal((len(files), 64))
        return people[[int(Path(path).parts[-3]) for path in files]] + 0.4 * noise

    monkeypatch.setattr(Judge, "_features", features)
    return Judge(Stub(), progress=False)


def suspects(data, judge):
    found = examine(data, judge=judge, workers=1, progress=False).findings
    return {finding.name: finding for finding in found if finding.name in ("one_is_two", "two_are_one")}


def test_right_labels_have_no_suspect(folder, judge):
    assert suspects(Data("toy", folder, records(folder)), judge) == {}


def test_two_persons_under_one_label_are_shown_side_by_side(folder, judge):
    data = Data("toy", folder, records(folder, lambda person, shot: "03" if person == 7 else f"{person:02d}"))
    finding = suspects(data, judge)["one_is_two"]
    group = finding.groups[0]
    assert group.title.startswith("person 03: 6 and 6 images, unlikeness ")
    shown = {(Path(path).parts[-3], caption) for path, caption in zip(group.files, group.captions)}
    assert shown in ({("03", "group A"), ("07", "group B")}, {("03", "group B"), ("07", "group A")})
    assert "into two groups for a stub: 03" in finding.sentence


def test_one_person_under_two_labels_is_the_first_pair(folder, judge):
    data = Data("toy", folder, records(folder, lambda person, shot: "99" if person == 7 and shot > 2 else f"{person:02d}"))
    group = suspects(data, judge)["two_are_one"].groups[0]
    assert group.title.startswith("persons 07 and 99: unlikeness ")
    assert {Path(path).parts[-3] for path in group.files} == {"07"}


def test_persons_of_training_and_test_may_have_equal_names(folder, judge):
    trained = [record for record in records(folder) if int(record.person) < 6]
    tested = [
        Record(record.path, f"{int(record.person) - 6:02d}", record.camera, "", "gallery")
        for record in records(folder) if int(record.person) >= 6
    ]
    assert suspects(Data("toy", folder, [*trained, *tested]), judge) == {}


def test_imagenet_weights_do_not_judge_infrared_images(folder, judge):
    judge.visible_only = True
    data = Data("toy", folder, records(folder, lambda person, shot: "03", modality="infrared"))
    report = examine(data, judge=judge, workers=1, progress=False)
    assert "one_is_two" not in {finding.name for finding in report.findings}
    assert report.left_out == ["label suspects among infrared images: the weights are of visible images; give --model"]


def test_the_best_imagenet_weights_of_the_cache_judge(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert find_imagenet_weights() is None and make_judge(None) is None
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "checkpoints").mkdir()
    names = {}
    for network, file in (
        ("resnet18", "hub/checkpoints/resnet18-5c106cde.pth"), ("mobilenetv2_x1_0", "hub/checkpoints/mobilenet_v2-b0353104.pth"),
        ("osnet_x1_0", "checkpoints/osnet_x1_0_imagenet.pth"),
    ):
        (tmp_path / file).touch()
        names[network] = find_imagenet_weights()
    assert names == {
        "resnet18": ("resnet18", tmp_path / "hub/checkpoints/resnet18-5c106cde.pth"),
        "mobilenetv2_x1_0": ("mobilenetv2_x1_0", tmp_path / "hub/checkpoints/mobilenet_v2-b0353104.pth"),
        "osnet_x1_0": ("osnet_x1_0", tmp_path / "checkpoints/osnet_x1_0_imagenet.pth"),
    }


def test_a_model_that_nobody_has_is_refused():
    with pytest.raises(InputError, match="nobody"):
        make_judge("nobody")


@pytest.mark.slow
def test_the_command_judges_labels_by_weights_in_the_cache(folder, tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    model = torchreid.models.build_model("mobilenetv2_x1_0", 4, pretrained=False)
    weights = tmp_path / "checkpoints" / "mobilenet_v2-b0353104.pth"
    weights.parent.mkdir()
    torch.save(model.state_dict(), weights)
    table = tmp_path / "labels.csv"
    rows = [
        (record.path, record.person, f"cam{(record.camera or 0) + 1}")
        for record in records(folder, lambda person, shot: "03" if person == 7 else f"{person:02d}") if record.person < "06"
    ]
    table.write_text("path,pid,camid\n" + "".join(f"{','.join(row)}\n" for row in rows))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert main(["doctor", str(table), "--json", "--cache", "off", "--workers", "1", "--device", "cpu"]) == 1
    named = {finding["kind"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert named["one_is_two"]["groups"][0]["title"].startswith("person 03: 6 and 6 images")
    assert str(weights) in named["one_is_two"]["sentence"]
    asked = make_judge("mobilenetv2_x1_0", str(weights))
    assert not asked.visible_only and asked.trained.name == make_judge(None).trained.name
