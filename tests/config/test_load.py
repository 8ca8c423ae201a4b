"""The configuration: defaults, files, overrides, and what a wrong one says."""
from __future__ import annotations

import os

import pytest
import yaml

from torchreid_nas.config import changed_keys, config_to_yaml, default_config, load_config
from torchreid_nas.errors import InputError


@pytest.fixture
def write(tmp_path):
    """``write(text)``: the path of a YAML file with that text."""

    def write(text: str):
        path = tmp_path / "experiment.yaml"
        path.write_text(text)
        return path

    return write


# -- what is loaded -----------------------------------------------------------


def test_the_defaults_are_the_papers_recipe_and_pass_their_own_checks():
    cfg = load_config()
    assert cfg == default_config()
    assert (cfg.adam.beta1, cfg.adam.beta2, cfg.train.lr, cfg.train.weight_decay) == (0.5, 0.999, 0.01, 5e-4)
    assert (cfg.train.max_epoch, cfg.train.stepsize, cfg.train.warmup_epochs) == (120, [40, 70], 10)
    assert (cfg.loss.triplet.margin, cfg.loss.c3mmd.weight_correlation, cfg.loss.c3mmd.weight_mmd) == (0.4, 5.0, 0.05)
    assert cfg.train.batch_size == 128 and cfg.sampler.num_instances == 4


def test_every_default_survives_its_own_range_when_set_explicitly(write):
    assert load_config(write(config_to_yaml(default_config()))) == default_config()


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(write):
    path = write("train:\n  lr: 0.02\n  max_epoch: 7\nmodel:\n  name: two_stream_resnet18\n")
    cfg = load_config(path, ["train.lr", "0.5"])
    assert (cfg.train.lr, cfg.train.max_epoch, cfg.model.name) == (0.5, 7, "two_stream_resnet18")
    assert cfg.train.gamma == default_config().train.gamma


def test_an_empty_file_changes_nothing(write):
    assert load_config(write("")) == default_config()


def test_a_section_whose_keys_are_commented_out_changes_nothing(write):
    assert load_config(write("train:\n#  lr: 1\nsearch:\n  budget:\n")) == default_config()


def test_the_config_cannot_be_changed_after_loading():
    with pytest.raises(AttributeError):
        load_config().train.lr = 1.0


def test_numbers_that_yaml_reads_as_text_are_numbers(write):
    cfg = load_config(write("train:\n  weight_decay: 5e-4\n  lr: 1\nsearch:\n  arch_lr: 1e-2\n"))
    assert (cfg.train.weight_decay, cfg.train.lr, cfg.search.arch_lr) == (5e-4, 1.0, 0.01)
    assert type(cfg.train.lr) is float


@pytest.mark.parametrize(("key", "text", "value"), [
    ("train.weight_decay", "5e-4", 5e-4),
    ("train.staged_lr", "False", False),
    ("train.staged_lr", "true", True),
    ("train.stepsize", "[20]", [20]),
    ("train.stepsize", "(20, 30)", [20, 30]),
    ("data.sources", "sysu_mm01", ["sysu_mm01"]),
    ("data.sources", "['regdb', 'sysu_mm01']", ["regdb", "sysu_mm01"]),
    ("data.norm_mean", "[0, 0, 1]", [0.0, 0.0, 1.0]),
    ("data.save_dir", "runs/3", "runs/3"),
    ("data.save_dir", "3", "3"),
    ("data.save_dir", "1.10", "1.10"),
    ("data.save_dir", "7123e45", "7123e45"),
    ("data.save_dir", "~/runs", os.path.expanduser("~/runs")),
    ("model.pretrained", "False", ""),
    ("model.pretrained", "True", "imagenet"),
    ("model.pretrained", "weights/resnet50.pth", "weights/resnet50.pth"),
    ("device", "cuda:1", "cuda:1"),
    ("train.channels_last", "auto", "auto"),
    ("train.channels_last", "true", True),
    ("train.fused", "False", False),
])
def test_overrides_are_read_as_their_keys_type(key, text, value):
    node = load_config(overrides=[key, text])
    for part in key.split("."):
        node = node[part]
    assert node == value and type(node) is type(value)


# -- what is refused ----------------------------------------------------------


@pytest.mark.parametrize(("text", "message"), [
    ("train:\n  learning_rate: 0.1\n", 'unknown key "train.learning_rate"'),
    ("train:\n  max_epochs: 3\n", 'unknown key "train.max_epochs"; did you mean "train.max_epoch"'),
    ("trian:\n  lr: 0.1\n", 'unknown key "trian.lr"; did you mean "train.lr"'),
    ("train: 3\n", 'unknown key "train"'),
    ("train:\n  lr:\n    base: 1\n", 'unknown key "train.lr.base"'),
    ("train:\n  lr: fast\n", "train.lr to 'fast', expected a number"),
    ("train:\n  lr: [0.1]\n", r"train.lr to \[0.1\], expected a number"),
    ("train:\n  lr: true\n", "train.lr to True, expected a number"),
    ("train:\n  max_epoch: 2.5\n", "train.max_epoch to 2.5, expected a whole number"),
    ("train:\n  max_epoch: true\n", "train.max_epoch to True, expected a whole number"),
    ("train:\n  staged_lr: 1\n", "train.staged_lr to 1, expected True or False"),
    ("train:\n  stepsize: 40\n", "train.stepsize to 40, expected a list"),
    ("train:\n  stepsize: often\n", "train.stepsize to 'often', expected a whole number"),
    ("search:\n  arch_stepsize: often\n", "search.arch_stepsize to 'often', expected a whole number"),
    ("search:\n  arch_stepsize: [1, 2.5]\n", "search.arch_stepsize to 2.5, expected a whole number"),
    ("ecn:\n  ablation: [[all]]\n", r"ecn.ablation to \['all'\], expected text"),
    ("train:\n  seed: 4294967296\n", "train.seed to 4294967296, expected a whole number from 0 to 4294967295"),
    ("train:\n  stepsize: [40.5]\n", "train.stepsize to 40.5, expected a whole number"),
    ("model:\n  name: [resnet]\n", "model.name to .*, expected text"),
    ("model:\n  name:\n", "model.name to None, expected text"),
    ("train:\n  lr: -0.1\n", "train.lr to -0.1, expected .*above 0"),
    ("train:\n  ema: 1\n", "train.ema to 1, expected at least 0 and below 1"),
    ("train:\n  amp: fp8\n", "train.amp to 'fp8', expected one of \"none\", \"bf16\", \"fp16\""),
    ("train:\n  channels_last: 1\n", 'train.channels_last to 1, expected True, False or "auto"'),
    ("train:\n  fused: sometimes\n", "train.fused to 'sometimes', expected True, False or \"auto\""),
    ("train:\n  batch_size: 1\n", "train.batch_size to 1, expected at least 2"),
    ("train:\n  accumulate: 0\n", "train.accumulate to 0, expected a whole number of at least 1"),
    ("train:\n  stepsize: [70, 40]\n", r"train.stepsize to \[70, 40\], expected rising epochs"),
    ("model:\n  last_stride: 3\n", "model.last_stride to 3, expected 1 or 2"),
    ("search:\n  order: 3\n", "search.order to 3, expected 1 or 2"),
    ("data:\n  sources: []\n", r"data.sources to \[\], expected at least one data set"),
    ("data:\n  norm_std: [1, 0, 1]\n", "data.norm_std to .*, expected three values above 0"),
])
def test_a_wrong_file_is_named_with_key_value_and_expectation(write, text, message):
    path = write(text)
    with pytest.raises(InputError, match=message) as error:
        load_config(path)
    assert str(path) in str(error.value)


def test_a_wrong_override_is_named_as_such():
    with pytest.raises(InputError, match='the command line has the unknown key "train.ls"; did you mean "train.lr"'):
        load_config(overrides=["train.ls", "1"])
    with pytest.raises(InputError, match="the command line sets train.lr to 'fast', expected a number"):
        load_config(overrides=["train.lr", "fast"])


def test_a_list_that_lost_its_quotes_is_answered_by_how_to_write_it():
    with pytest.raises(InputError) as error:
        load_config(overrides=["data.targets", "[regdb, regdb_ir2vis]"])
    assert str(error.value) == (
        "the command line sets data.targets to [regdb, regdb_ir2vis], which is no list; "
        """write it as '["regdb", "regdb_ir2vis"]'"""
    )


def test_an_override_without_value_is_named():
    with pytest.raises(InputError, match='override "train.max_epoch" has no value; write KEY VALUE pairs'):
        load_config(overrides=["train.lr", "0.1", "train.max_epoch"])


@pytest.mark.parametrize("overrides", [["configs/demo.yaml"], ["configs/demo.yaml", "train.lr", "0.1"], ["my.yml", "1"]])
def test_a_config_without_its_option_is_told_the_option(overrides):
    with pytest.raises(InputError, match=f'"{overrides[0]}" stands where a key is expected; write --config {overrides[0]}'):
        load_config(None, overrides)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_rate_that_is_no_finite_number_is_refused(write, value):
    with pytest.raises(InputError, match="train.lr"):
        load_config(write(f"train:\n  lr: .{value}\n"))


@pytest.mark.parametrize(("text", "message"), [
    ("train: &a {lr: *a}", "is nested without end"),
    ("train: " + "[" * 3000, "is nested without end"),
    ("train: " + "{a: " * 30 + "1" + "}" * 30, "is nested 31 levels deep, expected at most 20"),
    (f"train: {{lr: {'1' * 400}}}", "train.lr to a whole number of more than 64 bits, expected a number that fits"),
    (f"train: {{lr: 0x{'f' * 5000}}}", "train.lr to a whole number of more than 64 bits"),
    (f"train: {{stepsize: [{'1' * 400}]}}", "train.stepsize to a whole number of more than 64 bits"),
    (f"train: {{seed: {'1' * 5000}}}", "is not valid YAML"),
    ("train: {lr: 2020-13-45}", "is not valid YAML"),
    ("train: {lr: 0b_}", "is not valid YAML"),
    (f"model: {{width: {'x' * 5000}}}", r"model.width to 'x{199}… \(5,002 characters\), expected a number"),
    ('"\\e[31m": 1', r'unknown key "\\x1b\[31m"'),
])
def test_depth_and_size_of_a_file_are_answered_by_one_sentence(write, text, message):
    with pytest.raises(InputError, match=message) as error:
        load_config(write(text))
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(("key", "text"), [
    ("train.lr", "1" * 400), ("search.budget.latency", "1" * 400), ("data.norm_mean", f"[{'1' * 400}, 1, 1]"),
    ("train.seed", "0x" + "f" * 5000),
])
def test_an_override_of_too_many_digits_is_answered_by_one_sentence(key, text):
    with pytest.raises(InputError, match=f"{key} to a whole number of more than 64 bits"):
        load_config(overrides=[key, text])


def test_a_name_longer_than_files_may_have_is_no_config():
    with pytest.raises(InputError, match="neither a file nor the name of a shipped config"):
        load_config("x" * 300)


def test_unreadable_files_are_named(write, tmp_path):
    with pytest.raises(InputError, match="neither a file nor the name of a shipped config") as error:
        load_config(tmp_path / "absent.yaml")
    assert "absent.yaml" in str(error.value)
    with pytest.raises(InputError, match="line 2 is not valid YAML"):
        load_config(write("train:\n  lr: 0.1: 0.2\n"))
    with pytest.raises(InputError, match="holds no keys"):
        load_config(write("- train\n- test\n"))
    binary = tmp_path / "model.pth"
    binary.write_bytes(b"\x80\x02\xff\xfe")
    with pytest.raises(InputError, match="not valid YAML") as error:
        load_config(binary)
    assert str(binary) in str(error.value)


def test_epochs_on_the_source_alone_need_epochs_after_them():
    with pytest.raises(InputError, match="ecn.target_epoch is 120, expected below train.max_epoch 120"):
        load_config(overrides=["ecn.target_epoch", "120"])
    assert load_config(overrides=["ecn.target_epoch", "119"]).ecn.target_epoch == 119


def test_nesterov_needs_a_momentum():
    nesterov = ["train.optim", "sgd", "sgd.nesterov", "True"]
    with pytest.raises(InputError, match="sgd.momentum is 0"):
        load_config(overrides=[*nesterov, "sgd.momentum", "0"])
    assert load_config(overrides=nesterov)


def test_a_single_step_takes_one_step():
    with pytest.raises(InputError, match="single_step takes one train.stepsize"):
        load_config(overrides=["train.lr_scheduler", "single_step"])
    assert load_config(overrides=["train.lr_scheduler", "single_step", "train.stepsize", "[20]"])


# -- written and compared -----------------------------------------------------


def test_yaml_round_trip_keeps_every_value_and_the_order(write):
    cfg = load_config(overrides=["train.lr", "0.003", "data.sources", "['sysu_mm01']", "model.pretrained", "False"])
    text = config_to_yaml(cfg)
    assert load_config(write(text)) == cfg
    assert list(yaml.safe_load(text)) == list(default_config())


def test_changed_keys_looks_at_the_given_sections_only():
    saved = yaml.safe_load(config_to_yaml(load_config()))
    new = load_config(overrides=["train.lr", "0.5", "search.order", "2", "data.sources", "['sysu_mm01']"])
    assert changed_keys(saved, new, ["train"]) == ["train.lr: 0.01 -> 0.5"]
    assert changed_keys(saved, new, ["train", "data"]) == [
        "data.sources: ['regdb'] -> ['sysu_mm01']", "train.lr: 0.01 -> 0.5",
    ]
    assert changed_keys(saved, load_config(), list(saved)) == []


def test_changed_keys_takes_a_key_that_the_saved_config_lacks_as_its_default():
    saved = yaml.safe_load(config_to_yaml(load_config()))
    del saved["train"]["gamma"]
    assert changed_keys(saved, load_config(), ["train"]) == []
    assert changed_keys(saved, load_config(overrides=["train.gamma", "0.2"]), ["train"]) == ["train.gamma: 0.1 -> 0.2"]


@pytest.mark.parametrize("name", ["ecn_duke2market", "ecn_market2duke", "ecn_duke2msmt17", "ecn_market2msmt17"])
def test_the_configs_of_ecn_follow_the_code_that_the_figures_are_of(name):
    assert load_config(name).model.freeze_downsample is False
    assert load_config("ecn_regdb_unsupervised").model.freeze_downsample is True
