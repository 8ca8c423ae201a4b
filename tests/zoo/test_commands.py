"""``torchreid-nas zoo …`` and ``model.load_weights zoo:NAME``, from a server to figures."""
from __future__ import annotations

import json
import runpy
import shutil
import sys

import pytest
import torch
import torchreid
from commands import arguments, refused
from recipe import recipe_state
from tiny import TINY, TINY_CDNET
from zoo.authors import as_file, authors_cdnet, authors_resnet18, released, trained_cmnas

from torchreid_nas import zoo
from torchreid_nas.architecture import Architecture
from torchreid_nas.checkpoints.load import load_authors_checkpoint, resolve_weights
from torchreid_nas.cli import main
from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.models import cdnet, cdnet_x0_5
from torchreid_nas.run.publish import add_run
from torchreid_nas.run.published import comparison_table

PUBLISHED = [{"dataset": "market1501", "rank1": 95.1, "mAP": 86.0, "source": "their paper"}]


def said(capsys, *call):
    """Run the command line, expect success, and return what it prints."""
    capsys.readouterr()
    assert main(["zoo", *map(str, call)]) == 0
    return capsys.readouterr().out


# -- an entry from the server to figures --------------------------------------


def test_an_entry_is_downloaded_converted_on_loading_and_evaluated(capsys, served, cdnet_file, data_root, tmp_path):
    server = served(cdnet_file, published=PUBLISHED)
    config = {**TINY_CDNET, "model.width": 1.0, "model.load_weights": "zoo:test_entry"}
    assert main(arguments(config, data_root, tmp_path / "run", "--stages", "test")) == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["zoo"] == "test_entry" and len(server.requests) == 1
    table = printed[printed.index("zoo:test_entry, measured here beside published (percent)"):].splitlines()
    measured = f"{100 * results['results'][0]['cmc'][0]:.2f}"
    rows = {kind: next(line for line in table[3:] if f" {kind} " in line) for kind in ("measured", "published")}
    assert measured in rows["measured"] and "this run" in rows["measured"]
    assert "95.10" in rows["published"] and "86.00" in rows["published"] and "their paper" in rows["published"]
    assert "does not compare" not in printed


def test_a_two_stream_file_shows_the_architecture_to_test_with(
    capsys, served, data_root, tmp_path,
):
    architecture = Architecture.preset("random-3", Architecture.from_ints([1] * 20).slots)
    state = trained_cmnas(authors_resnet18(num_classes=6, width=0.125), architecture)
    figures = [{"dataset": "regdb", "rank1": 84.54, "feature": "after BNNeck", "source": "their README"}]
    served(
        as_file(released(state)),
        model="two_stream_resnet18", architecture="from file", format="cmnas_authors", modality="visible-infrared",
        options={}, dataset="regdb", feature_dim=64, published=figures,
    )
    config = {**TINY, "model.load_weights": "zoo:test_entry"}
    assert main(arguments(config, data_root, tmp_path / "run", "--stages", "test")) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["split_slots"] == sum(choice == "split" for _, choice in architecture.choices) > 0
    assert {(row["dataset"], row["feature"]) for row in results["results"]} == {
        (dataset, feature) for dataset in ("regdb", "regdb_ir2vis") for feature in ("before BNNeck", "after BNNeck")
    }
    assert "84.54" in capsys.readouterr().out


def test_build_gives_the_authors_network_ready_for_use(served, cdnet_file):
    served(cdnet_file)
    model = zoo.build("test_entry")
    reference = load_authors_checkpoint(cdnet(10), recipe_state("cdnet_fblneck")).eval()
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    assert not model.training and next(model.parameters()).device.type == "cpu"
    with torch.no_grad():
        assert torch.equal(model(images), reference(images))


def test_what_is_tested_under_other_conditions_is_said(add_entry):
    add_entry(published=PUBLISHED)
    overrides = ["synthetic.enabled", "True", "data.height", "128", "data.norm_mean", "[0.5, 0.5, 0.5]"]
    row = {
        "dataset": "dukemtmcreid", "feature": "", "ranks": [1, 5], "cmc": [0.5, 0.75], "mAP": 0.25, "mINP": 0.125,
        "protocol": "dukemtmcreid",
    }
    table = comparison_table(zoo.find_entry("test_entry"), [row], load_config(None, overrides))
    assert "images are generated" in table and "Measured at 128x128, published at 64x32" in table
    assert "other data.norm_mean" in table and "Nothing is published on dukemtmcreid." in table
    assert "50.00" in table and "12.50" in table


@pytest.mark.parametrize(("overrides", "says"), [
    ({"model.load_weights": "zoo:cdnet_market1501_pretraind"}, 'did you mean "cdnet_market1501_pretrained"?'),
    ({"model.load_weights": "zoo:cmnas_sysu"}, "a two_stream_resnet50, and model.name is cdnet; use --config cmnas_sysu"),
    ({"model.load_weights": "zoo:osnet_x1_0"}, "a osnet_x1_0, and model.name is cdnet; use model.name osnet_x1_0"),
])
def test_an_entry_that_does_not_fit_the_config_is_refused_first(
    capsys, data_root, tmp_path, overrides, says,
):
    call = arguments({**TINY_CDNET, **overrides}, data_root, tmp_path / "run", "--stages", "test")
    assert says in refused(capsys, *call)
    assert not (tmp_path / "run").exists()


def test_weights_are_a_path_or_a_name_of_the_zoo(served, small_file, home, tmp_path):
    served(small_file)
    assert resolve_weights("zoo:test_entry") == home / "test_entry.pth"
    assert resolve_weights(tmp_path / "a.pth") == tmp_path / "a.pth"
    with pytest.raises(InputError, match="no entry"):
        resolve_weights("zoo:nothing_like_it")


# -- pretrained=True ----------------------------------------------------------


def test_pretrained_is_loaded_from_the_zoo_where_an_entry_exists(served, tmp_path):
    reference = cdnet_x0_5(5)
    torch.save({"state_dict": reference.state_dict()}, tmp_path / "half.pth")
    served((tmp_path / "half.pth").read_bytes(), initial=True, options={"width": 0.5}, format="ours")
    model = torchreid.models.build_model("cdnet_x0_5", 3, pretrained=True, use_gpu=False)
    assert all(torch.equal(a, b) for a, b in zip(model.backbone.parameters(), reference.backbone.parameters()))


@pytest.mark.parametrize(("name", "says"), [
    ("cnet", "the model zoo has no pretrained weights for this CDNet (combined: stage1.0=5,7"),
    ("cdnet_x0_25", "width 0.25), only for the published one at width 1; name a file"),
    ("cdnet", 'the zoo entry "cdnet_imagenet" is not on this machine and downloads are off'),
])
def test_pretrained_that_cannot_be_had_says_so(monkeypatch, name, says):
    monkeypatch.setenv("TORCHREID_NAS_OFFLINE", "1")
    with pytest.raises(InputError) as error:
        torchreid.models.build_model(name, 3, pretrained=True, use_gpu=False)
    assert says in str(error.value)


# -- the commands -------------------------------------------------------------


def test_list_shows_every_entry_and_whether_it_is_here(capsys, served, small_file):
    served(small_file, published=PUBLISHED)
    before = next(line for line in said(capsys, "list").splitlines() if line.startswith("test_entry"))
    assert "95.10" in before and before.endswith("no")
    said(capsys, "download", "test_entry")
    lines = said(capsys, "list").splitlines()
    assert next(line for line in lines if line.startswith("test_entry")).endswith("yes")
    assert len(lines) == len(zoo.list_entries()) + 4


def test_info_says_all_that_is_known(capsys):
    # Lines are wrapped, where depends on how long the folder's path is.
    text = " ".join(said(capsys, "info", "cdnet_market1501_pretrained").split())
    for part in (
        "git_blob e5399354db37882debbfca425fdacb7ea07dc27c", "CVPR 2021 paper", "no licence file", "256 x 128",
        "torchreid-nas --config cdnet_market1501 model.pretrained imagenet", "not here",
        "neck fblneck", "768 values",
    ):
        assert part in text
    text = said(capsys, "info", "cmnas_sysu")
    assert "the sha256 of the first download will be recorded" in text and "1NlMPe8pneKiSAOl3VezNq9VWZcbnQwEC" in text


def test_download_puts_the_file_where_it_is_told_and_names_the_licence(capsys, served, small_file, tmp_path):
    served(small_file, checksum=None)
    text = said(capsys, "download", "test_entry", "--to", tmp_path / "there")
    assert (tmp_path / "there" / "test_entry.pth").read_bytes() == small_file
    assert "sha256" in text and "Licence: for tests" in text
    said(capsys, "download", "test_entry")
    assert "is what the file is held to" in said(capsys, "info", "test_entry")


def test_verify_says_what_it_compared_and_refuses_a_changed_file(capsys, served, small_file, home, tmp_path):
    served(small_file)
    assert "`torchreid-nas zoo download test_entry` gets it" in refused(capsys, "zoo", "verify", "test_entry")
    said(capsys, "download", "test_entry")
    assert "as the entry says" in said(capsys, "verify", "test_entry")
    (home / "test_entry.pth").write_bytes(small_file + b"!")
    assert "was changed or arrived damaged" in refused(capsys, "zoo", "verify", "test_entry")
    (tmp_path / "mine.pth").write_bytes(small_file)
    assert "as the entry says" in said(capsys, "verify", "test_entry", "--file", tmp_path / "mine.pth")


def test_what_cannot_be_had_is_one_sentence(capsys, served, small_file):
    server = served(small_file)
    server.script = ["status 404"]
    assert "no longer has it (status 404)" in refused(capsys, "zoo", "download", "test_entry")
    assert "downloads are off" in refused(capsys, "zoo", "download", "test_entry", "--offline")
    assert "did you mean" in refused(capsys, "zoo", "info", "cdnet_imagenet6")


def test_convert_says_what_it_recognised_and_how_to_test_it(capsys, cdnet_file, tmp_path):
    (tmp_path / "theirs.pth").write_bytes(cdnet_file)
    text = said(capsys, "convert", tmp_path / "theirs.pth", "--output", tmp_path / "ours.pth")
    assert "cdnet in the layout of the CDNet authors, 10 classes, neck fblneck; combined_depth: stage1.0=3,5x1" in text
    # Not the default data set, RegDB, which is of the other models.
    assert "--config cdnet_market1501 (or" in text
    assert f"model.load_weights {tmp_path / 'ours.pth'}" in text and (tmp_path / "ours.pth").exists()
    again = refused(capsys, "zoo", "convert", tmp_path / "theirs.pth", "--output", tmp_path / "ours.pth")
    assert "exists already" in again


def test_convert_of_a_network_for_small_images_says_how_it_is_built(capsys, tmp_path):
    torch.save(authors_cdnet(cdnet(10, small_images=True)), tmp_path / "cifar.pth")
    text = said(capsys, "convert", tmp_path / "cifar.pth")
    assert "model.small_images True" in text and "--stages test model.name cdnet" in text
    assert (tmp_path / "cifar_converted.pth").exists()


def test_the_script_in_tools_is_the_same_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tools/zoo.py", "info", "cdnet_cifar100"])
    with pytest.raises(SystemExit) as finished:
        runpy.run_path("tools/zoo.py", run_name="__main__")
    assert finished.value.code == 0 and "82.10" in capsys.readouterr().out


# -- a run of one's own -------------------------------------------------------


@pytest.fixture(scope="module")
def finished_run(data_root, tmp_path_factory):
    """A trained and tested CDNet of an architecture of its own."""
    folder = tmp_path_factory.mktemp("runs") / "my_cdnet"
    layers = folder.parent / "layers.json"
    layers.write_text(json.dumps({"layers": [[3, 5, 1]] * 6}))
    config = {**TINY_CDNET, "model.architecture": layers, "train.max_epoch": 1, "train.num_batches": 1}
    assert main(arguments(config, data_root, folder, "--stages", "train,test")) == 0
    return folder


def test_a_finished_run_becomes_an_entry_that_works(capsys, finished_run, tmp_path, monkeypatch, data_root):
    output = tmp_path / "zoo" / "mine.yaml"
    text = said(capsys, "add", finished_run, "--output", output, "--licence", "CC-BY-4.0")
    assert f"TORCHREID_NAS_ZOO={output}" in text and "zoo:my_cdnet" in text
    monkeypatch.setenv("TORCHREID_NAS_ZOO", str(output))
    entry, results = zoo.find_entry("my_cdnet"), json.loads((finished_run / "results.json").read_text())
    row = results["results"][0]
    assert entry.measured[0].scores["rank1"] == round(100 * row["cmc"][0], 2) and entry.published == ()
    assert entry.measured[0].scores["mAP"] == round(100 * row["mAP"], 2) and row["dataset"] == "market1501"
    # The architecture lies in the entry itself, so that it needs no file of the one who trained.
    assert entry.architecture["choices"]["stage2.1"] == "3,5x1"
    assert entry.licence == "CC-BY-4.0" and entry.checksum[0] == "sha256"
    assert entry.size == (finished_run / "train" / "model.pth").stat().st_size
    model = zoo.build("my_cdnet")
    assert model.feature_dim == entry.feature_dim == 64 + 256
    state = torch.load(finished_run / "train" / "model.pth", weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    # Tested again from the zoo it reaches what it reached.
    config = {**TINY_CDNET, "model.architecture": "search", "model.load_weights": "zoo:my_cdnet"}
    assert main(arguments(config, data_root, tmp_path / "again", "--stages", "test")) == 0
    again = json.loads((tmp_path / "again" / "results.json").read_text())["results"][0]
    assert again["cmc"] == row["cmc"] and again["mAP"] == row["mAP"]


def test_a_run_on_generated_images_is_listed_as_such(capsys, finished_run, tmp_path, monkeypatch):
    run = tmp_path / "generated"
    shutil.copytree(finished_run, run)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("enabled: false", "enabled: true").replace("enabled: False", "enabled: True"))
    assert load_config(config).synthetic.enabled
    said(capsys, "add", run)
    monkeypatch.setenv("TORCHREID_NAS_ZOO", str(run / "zoo.yaml"))
    assert zoo.find_entry("generated").generated and not zoo.find_entry("cdnet_market1501_scratch").generated
    row, = [line for line in said(capsys, "list").splitlines() if line.startswith("generated ")]
    assert "market1501 (generated)" in row
    assert "market1501, generated images" in said(capsys, "info", "generated")


def test_the_entry_beside_a_run_moves_with_it(finished_run, tmp_path, monkeypatch):
    shutil.copytree(finished_run, tmp_path / "copy")
    entry, path = add_run(tmp_path / "copy", name="moved")
    assert path == tmp_path / "copy" / "zoo.yaml" and entry.source.path == "train/model.pth"
    shutil.move(tmp_path / "copy", tmp_path / "elsewhere")
    monkeypatch.setenv("TORCHREID_NAS_ZOO", str(tmp_path / "elsewhere" / "zoo.yaml"))
    assert zoo.fetch("moved") == tmp_path / "elsewhere" / "train" / "model.pth"
    (tmp_path / "elsewhere" / "train" / "model.pth").unlink()
    with pytest.raises(InputError, match='of the zoo entry "moved" does not exist; restore it or correct source.path'):
        zoo.fetch("moved")


def test_what_is_no_finished_run_or_is_there_already_is_refused(capsys, finished_run, tmp_path):
    assert "it lacks config.yaml; run the stages train and test" in refused(capsys, "zoo", "add", tmp_path)
    taken = refused(capsys, "zoo", "add", finished_run, "--name", "cdnet_imagenet", "--output", tmp_path / "a.yaml")
    assert 'has an entry "cdnet_imagenet" already; choose another --name' in taken
    (tmp_path / "b.yaml").touch()
    assert "exists already" in refused(capsys, "zoo", "add", finished_run, "--output", tmp_path / "b.yaml")
    wrong = refused(capsys, "zoo", "add", finished_run, "--name", "a/b", "--output", tmp_path / "c.yaml")
    assert "expected `name:`" in wrong
    assert not (tmp_path / "c.yaml").exists()
