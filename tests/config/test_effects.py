"""The note on keys that have no effect beside the others."""
from __future__ import annotations

import pytest
from commands import arguments
from tiny import TINY, TINY_CDNET, TINY_ECN
from yacs.config import CfgNode

from torchreid_nas.cli import main
from torchreid_nas.config import config_to_yaml, default_config, load_config
from torchreid_nas.methods import METHODS
from torchreid_nas.methods.effects import without_effect
from torchreid_nas.run.build import search_engine, train_engine
from torchreid_nas.run.setup import RunSetup

# Every task hands these on to data managers and optimisers, reads them to refuse them, or asks them what comes next.
HANDED_ON = {
    "data.split_id", "data.layout", "data.split_seed", "data.train_share", "test.shot", "test.gallery_draw",
    "test.num_trials", "sampler.num_instances", "adam.beta1", "adam.beta2", "sgd.momentum", "sgd.nesterov",
    "train.new_layers", "train.base_lr_mult", "search.keep_weights", "search.budget.macs", "search.budget.parameters",
    "search.budget.latency", "data.random_erase.probability", "data.random_erase.area", "data.random_erase.aspect",
    "data.random_erase.fill", "loss.triplet.alpha", "loss.triplet.gamma",
}


def config(base, root="reid-data", **changes):
    keys = {**base, "data.root": root, **changes}
    return load_config(None, [str(part) for item in keys.items() for part in item])


@pytest.mark.parametrize("base, changes, key, cause", [
    (TINY, {}, "ecn.num_neighbours", "model.name is two_stream_resnet18"),
    (TINY, {}, "search.k", "model.name is two_stream_resnet18"),
    (TINY, {}, "search.budget.weight", "model.name is two_stream_resnet18"),
    (TINY, {}, "model.frozen_stages", "model.name is two_stream_resnet18"),
    (TINY, {}, "test.shot", "data.targets is regdb, regdb_ir2vis"),
    (TINY, {}, "sgd.momentum", "train.optim is adam"),
    (TINY, {}, "synthetic.gap", "synthetic.enabled is False"),
    (TINY, {"model.name": "two_stream_cdnet"}, "model.last_stride", "model.name is two_stream_cdnet"),
    (TINY, {"model.architecture": "share"}, "search.max_epoch", "model.architecture is share"),
    (TINY_CDNET, {}, "loss.c3mmd.weight_mmd", "model.name is cdnet"),
    (TINY_CDNET, {}, "search.split_cost", "model.name is cdnet"),
    (TINY_CDNET, {}, "model.last_stride", "model.name is cdnet"),
    (TINY_CDNET, {}, "data.split_id", "data.sources is market1501"),
    (TINY_CDNET, {"train.lr_scheduler": "multi_step"}, "train.warmup_epochs", "train.lr_scheduler is multi_step"),
    (TINY_CDNET, {"model.name": "osnet_x1_0"}, "model.small_images", "model.name is osnet_x1_0"),
    (TINY_ECN, {}, "search.k", "model.name is ecn_resnet18"),
    (TINY_ECN, {}, "loss.triplet.margin", "model.name is ecn_resnet18"),
    (TINY_ECN, {}, "sampler.num_instances", "model.name is ecn_resnet18"),
    (TINY_ECN, {}, "train.new_layers", "train.staged_lr is False"),
    (TINY_ECN, {}, "adam.beta1", "train.optim is sgd"),
])
def test_a_key_of_another_task_data_set_or_optimiser_is_named_with_the_cause(base, changes, key, cause):
    assert without_effect(config(base, **changes), ["train.lr", key]) == f"{key} ({cause})"


def test_what_asks_for_the_others_has_an_effect_itself():
    asking = ["model.name", "model.architecture", "synthetic.enabled", "train.optim", "train.staged_lr", "data.sources"]
    assert all(without_effect(config(base), asking) == "" for base in (TINY, TINY_CDNET, TINY_ECN))


@pytest.mark.parametrize("base, search", [(TINY, True), (TINY_CDNET, True), (TINY_ECN, False)])
def test_no_key_is_named_that_a_run_reads(base, search, data_root, tmp_path, monkeypatch):
    cfg, sections, seen = config(base, data_root, **{"data.save_dir": tmp_path / "run"}), {}, set()

    def walk(node, prefix):
        sections[frozenset(node.keys())] = prefix
        for name, value in node.items():
            if isinstance(value, CfgNode):
                walk(value, f"{prefix}{name}.")

    def read(node, name):
        value = dict.__getitem__(node, name)
        if not isinstance(value, CfgNode):
            seen.add(sections[frozenset(node.keys())] + name)
        return value

    walk(default_config(), "")
    with monkeypatch.context() as patch:
        patch.setattr(CfgNode, "__getitem__", read, raising=False)
        setup = RunSetup.of(cfg)
        if search:
            search_engine(setup)
        train_engine(setup, setup.method.plain_architecture)
    assert {"model.name", "train.lr", "train.batch_size"} <= seen
    named = {key for key in seen - HANDED_ON if without_effect(cfg, [key])}
    assert named == set()


def test_every_key_and_section_that_a_method_reads_exists():
    known = []

    def walk(node, prefix):
        for name, value in node.items():
            known.append(f"{prefix}{name}")
            if isinstance(value, CfgNode):
                walk(value, f"{prefix}{name}.")

    walk(default_config(), "")
    assert {key for method in METHODS.values() for key in method.own_keys} <= set(known)


def test_the_command_line_says_it_once_and_only_of_what_was_typed(data_root, tmp_path, capsys):
    call = arguments(TINY_ECN, data_root, tmp_path / "run", "--dry-run", "--stages", "train", **{"search.k": 3})
    assert main(call) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: set on the command line and without effect on this run: sampler.num_instances, search.k "
        "(model.name is ecn_resnet18)"
    ]
    path = tmp_path / "config.yaml"
    path.write_text(config_to_yaml(load_config(None, call[7:])))
    assert main([*call[:7], "--config", str(path)]) == 0
    assert "note: " not in capsys.readouterr().out
