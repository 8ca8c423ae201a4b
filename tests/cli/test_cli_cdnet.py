"""CDNet from the command line: search, train, test, resume, budgets, controls, bad input."""
import functools
import json
import shutil
from pathlib import Path

import commands
import pytest
import torch
from commands import refused
from tiny import TINY, TINY_CDNET

from torchreid_nas.architecture import Architecture
from torchreid_nas.cli import main
from torchreid_nas.genotypes import BLOCK_SLOTS
from torchreid_nas.models.necks import BLNeck, FBLNeck
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.page.write import write_page

arguments = functools.partial(commands.arguments, TINY_CDNET)


@pytest.fixture(scope="module")
def finished(data_root, tmp_path_factory):
    """A whole run: search, train, test."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(arguments(data_root, folder)) == 0
    return folder


def test_a_run_searches_trains_and_tests(finished):
    architecture = Architecture.load(finished / "architecture.json")
    assert architecture.space == "combined_depth" and architecture.slots == BLOCK_SLOTS
    assert Architecture.load(finished / "architecture.cfg").choices == architecture.choices
    results = json.loads((finished / "results.json").read_text())
    assert results["architecture"] == dict(architecture.choices)
    (row,) = results["results"]
    assert row["direction"] == "" and 0 < row["mAP"] < 1
    rows = [json.loads(line) for line in (finished / "search" / "history.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and len(rows[0]["probabilities"]["stage1.0"]) == 12
    for picture in ("architecture", "training"):
        assert (finished / "figures" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_genotype_lists_and_maps_of_one_modality(finished):
    write_page(RunFolder(finished))
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "not all is shown" not in page
    for said in ("Picture of the search", "First image wrong", "Distances query to gallery", "Activation maps of"):
        assert said in page
    assert "infrared" not in page.partition('id="data"')[0]


def test_an_interrupted_search_ends_in_the_same_numbers(data_root, finished, tmp_path, monkeypatch):
    from torchreid_nas.engine.base import ResumableEngine

    save = ResumableEngine.save_checkpoint

    def killed(engine, folder):
        save(engine, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(ResumableEngine, "save_checkpoint", killed)
    assert main(arguments(data_root, tmp_path / "run")) == 130
    monkeypatch.undo()
    assert main(arguments(data_root, tmp_path / "run", "--resume")) == 0
    first, second = (json.loads((f / "results.json").read_text()) for f in (finished, tmp_path / "run"))
    assert first["results"] == second["results"] and first["architecture"] == second["architecture"]


@pytest.mark.parametrize("changes", [
    {"search.relaxation": "softmax", "search.last_conv": False}, {"search.relaxation": "gumbel", "search.space": "combined"},
    {"search.k": 1, "search.overlap": True, "search.budget.macs": 1e7},
    {"search.order": 2, "search.budget.parameters": 4e4, "search.arch_stepsize": [1]},
])
def test_every_option_searches(data_root, tmp_path, changes):
    assert main(arguments(data_root, tmp_path / "run", "--stages", "search", **{"search.max_epoch": 1, **changes})) == 0
    assert len(Architecture.load(tmp_path / "run" / "architecture.json")) == 6


def test_a_batch_is_whole_identities_of_one_modality(data_root, tmp_path):
    changes = {"train.batch_size": 6, "model.architecture": "cdnet", "train.max_epoch": 1}
    assert main(arguments(data_root, tmp_path / "run", "--stages", "train", **changes)) == 0


def test_keep_weights_carries_the_supernets_blocks_over(data_root, finished, tmp_path):
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(folder / "train")
    from torchreid_nas.config import load_config
    from torchreid_nas.run.build import train_engine
    from torchreid_nas.run.setup import RunSetup

    keys = [str(part) for item in {**TINY_CDNET, "search.keep_weights": True}.items() for part in item]
    model = train_engine(RunSetup.of(load_config(None, [*keys, "data.root", str(data_root), "data.save_dir", str(folder)]))).model
    supernet = torch.load(folder / "search" / "checkpoint.pth", weights_only=True)["model"]
    choice = dict(Architecture.load(folder / "architecture.json").choices)["stage1.0"]
    torch.testing.assert_close(
        model.state_dict()["backbone.stage1.0.0.reduce.conv.weight"],
        supernet[f"backbone.stage1.0.ops.{choice}.0.reduce.conv.weight"],
    )


@pytest.mark.parametrize("kind", ["", "parameters"])
def test_a_search_with_another_neck_has_the_budget_of_the_training(data_root, tmp_path, kind):
    from torchreid_nas.config import load_config
    from torchreid_nas.run.build import search_engine, train_engine
    from torchreid_nas.run.setup import RunSetup

    def search(**changes):
        if kind:
            changes[f"search.budget.{kind}"] = 4e4
        overrides = {**TINY_CDNET, "data.root": data_root, "data.save_dir": tmp_path / "run", **changes}
        setup = RunSetup.of(load_config(None, [str(part) for item in overrides.items() for part in item]))
        return setup, *search_engine(setup)

    _, _, expected = search(**{"model.neck": "fblneck"})
    setup, engine, space = search(**{"model.neck": "fblneck", "search.neck": "blneck"})
    assert isinstance(engine.model.neck, BLNeck) and isinstance(train_engine(setup, "cdnet").model.neck, FBLNeck)
    assert space.budget == expected.budget and (space.budget is not None) == bool(kind)


def test_a_dry_run_knows_the_size_of_the_published_network(data_root, tmp_path, capsys):
    overrides = {"model.width": 1.0, "model.architecture": "cdnet", "data.height": 256, "data.width": 128}
    assert main(arguments(data_root, tmp_path / "run", "--dry-run", **overrides)) == 0
    shown = capsys.readouterr().out
    assert "1,796,600" in shown and "955.1 M" in shown


def test_bn_split_space_on_top_of_cdnet(data_root, tmp_path):
    overrides = {**TINY, "model.name": "two_stream_cdnet", "data.height": 64, "data.width": 32, "train.max_epoch": 1}
    keys = [str(part) for item in overrides.items() for part in item]
    assert main(["--root", str(data_root), "--output", str(tmp_path / "run"), *keys]) == 0
    architecture = Architecture.load(tmp_path / "run" / "architecture.json")
    assert architecture.space == "norm_split" and "stem.bn" in architecture.slots


@pytest.mark.parametrize("changes, words", [
    ({"search.space": "norm_split"}, ["search.space", "combined_depth"]),
    ({"search.k": 13}, ["k = 13", "12"]),
    ({"search.budget.macs": 1e6, "search.budget.parameters": 1e6}, ["search.budget", "expected one"]),
    ({"search.budget.macs": 1.0}, ["cheapest"]),
    ({"model.width": 0.3}, ["0.3", "0.125"]),
    ({"model.architecture": "cdnett"}, ["cdnett"]),
    ({"data.height": 16}, ["small"]),
    ({"train.batch_size": 128}, ["train.batch_size"]),
    ({"train.batch_size": 7}, ["train.batch_size", "multiple of sampler.num_instances"]),
    ({"data.sources": ["msmt17"]}, ["msmt17", "as torchreid expects it"]),
    ({"model.name": "osnet_x0_25"}, ["nothing to search in model.name osnet_x0_25", "model.architecture none"]),
    ({"model.name": "cdnet_x0_5", "model.width": 1}, ["nothing to search in model.name cdnet_x0_5", "cdnet, cnet"]),
    ({"model.name": "cdnet_x0_5", "model.width": 1, "model.architecture": "cnet"}, ["model.architecture is cnet", "none"]),
    ({"model.name": "osnet_x0_25", "model.architecture": "none"}, ["model.width is 0.125", "model.width 1"]),
    ({"train.holdout": 0.9}, ["train.batch_size"]),
    ({"model.standardize_input": True}, ["model.standardize_input is True", "model.name cdnet", "set it False"]),
])
def test_a_bad_word_is_answered_by_one_sentence(changes, words, data_root, tmp_path, capsys):
    error = refused(capsys, *arguments(data_root, tmp_path / "run", **changes))
    for word in words:
        assert word in error
