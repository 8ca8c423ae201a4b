"""``task: classification``: whose method a model then has, which keys it heeds, and which of the other task it refuses."""
from __future__ import annotations

import pytest
import torch

from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.methods import make_method
from torchreid_nas.methods.cdnet import CDNetMethod
from torchreid_nas.methods.classification import BaselineClassification, CDNetClassification
from torchreid_nas.methods.effects import without_effect

CPU = torch.device("cpu")
CLASSES = ["task", "classification", "model.pretrained", "False"]


@pytest.mark.parametrize(("model", "kind"), [
    ("cdnet", CDNetClassification), ("cnet", CDNetClassification), ("osnet_x0_25", BaselineClassification),
    ("cdnet_x0_25", BaselineClassification),
])
def test_the_task_decides_the_method_of_a_model(model, kind):
    assert type(make_method(load_config(None, [*CLASSES, "model.name", model]), CPU)) is kind


def test_a_reid_keeps_its_method():
    assert type(make_method(load_config(None, ["model.name", "cdnet"]), CPU)) is CDNetMethod


@pytest.mark.parametrize("model", ["two_stream_resnet50", "ecn_resnet18"])
def test_a_network_for_reid_alone_is_refused(model):
    with pytest.raises(InputError, match=f"model.name {model} is for re-identification alone"):
        make_method(load_config(None, [*CLASSES, "model.name", model]), CPU)


@pytest.mark.parametrize(("overrides", "message"), [
    (["classification.cutout", "8"], "classification.cutout is 8, which task reid would not heed"),
    (["classification.download", "True"], "classification.download is True, which task reid"),
    ([*CLASSES, "test.rerank", "True"], "test.rerank is True, which task classification would not heed; .* set task reid"),
    ([*CLASSES, "loss.triplet.margin", "0.3"], "loss.triplet.margin is 0.3, which task classification"),
    ([*CLASSES, "sampler.num_instances", "2"], "sampler.num_instances is 2, which task classification"),
    (["task", "classify"], 'task to .classify., expected one of "reid", "classification"'),
])
def test_keys_of_the_other_task_are_one_sentence(overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(None, overrides)


def test_the_note_names_the_task_for_keys_of_the_other_one():
    cfg = load_config(None, [*CLASSES, "model.name", "cdnet", "data.transforms", '["pad_crop"]'])
    assert without_effect(cfg, ["train.lr", "classification.padding", "model.neck"]) == ""
    assert without_effect(cfg, ["loss.triplet.margin"]) == "loss.triplet.margin (task is classification)"
    assert without_effect(cfg, ["classification.cutout"]) == "classification.cutout (data.transforms is pad_crop)"
    assert without_effect(load_config(None, ["model.name", "cdnet"]), ["classification.padding"]) != ""


def test_a_test_of_retrieval_alone_is_refused():
    method = make_method(load_config(None, [*CLASSES, "model.name", "cdnet", "test.precision", "bf16"]), CPU)
    with pytest.raises(InputError, match="test.precision is bf16"):
        method.check_batch()


@pytest.mark.parametrize("model", ["hacnn", "pcb_p4"])
def test_a_network_without_one_classifier_is_refused(model):
    method = make_method(load_config(None, [*CLASSES, "model.name", model, "model.architecture", "none"]), CPU)
    with pytest.raises(InputError, match="has no single classifier"):
        method.build_model(3, "none")


def test_the_folder_of_a_run_means_its_trained_weights(tmp_path):
    cfg = load_config(None, ["model.name", "cdnet", "model.pretrained", str(tmp_path)])
    with pytest.raises(InputError, match=r'is no folder of a trained run: ".*train/model.pth" does not exist'):
        make_method(cfg, CPU).pretrained()
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "model.pth").write_bytes(b"")
    assert make_method(cfg, CPU).pretrained() == tmp_path / "train" / "model.pth"
