"""ECN from the command line: the ablation, resume, camera styles on disk, the paper's configs, bad input."""
import functools
import json
import shutil
from pathlib import Path

import commands
import pytest
import torch
from commands import refused
from PIL import Image
from tiny import TINY_CDNET, TINY_ECN

from torchreid_nas.cli import main
from torchreid_nas.config import load_config
from torchreid_nas.data.camstyle import camstyle_folder, camstyle_name
from torchreid_nas.engine.base import ResumableEngine
from torchreid_nas.models.resnet import resnet_backbone

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMALL = {key: TINY_ECN[key] for key in (
    "train.amp", "model.name", "model.feature_dim", "data.height", "data.width", "data.workers", "sampler.num_instances",
    "train.batch_size",
)}
"""What brings a config of the paper's size down to a test's, but for the width that ImageNet's weights have."""
arguments = functools.partial(commands.arguments, TINY_ECN)


@pytest.fixture(scope="module")
def finished(data_root, tmp_path_factory):
    """A whole run of three epochs."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(arguments(data_root, folder)) == 0
    return folder


def test_the_ablation_ends_with_its_table_and_picture(data_root, tmp_path, capsys):
    variants = ["source", "exemplar", "camera", "neighbourhood", "all", "supervised"]
    call = arguments(data_root, tmp_path / "run", **{"ecn.ablation": variants, "train.max_epoch": 1, "ecn.neighbour_epoch": 0})
    assert main(call) == 0
    printed = capsys.readouterr().out
    table = printed[printed.index("==== dukemtmcreid → market1501"):printed.index("\ntable:   ")]
    titles = [
        "source only", "exemplar", "exemplar + camera", "exemplar + neighbourhood", "all (ECN)", "supervised on the target",
    ]
    assert [line.split("  ")[0] for line in table.splitlines()[4:]] == titles
    results = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert [row["variant"] for row in results] == titles
    for variant, row in zip(variants, results):
        own = json.loads((tmp_path / "run" / variant / "results.json").read_text())
        assert own["results"][0]["mAP"] == row["mAP"]
        terms = json.loads((tmp_path / "run" / variant / "train" / "history.jsonl").read_text().splitlines()[0])
        assert ("invariance" in terms) == (variant not in ("source", "supervised"))
        assert ("neighbour_precision" in terms) == (variant in ("neighbourhood", "all"))
    assert (tmp_path / "run" / "figures" / "ablation.png").read_bytes().startswith(b"\x89PNG")
    # Only the unfinished variant runs again.
    (tmp_path / "run" / "all" / "results.json").unlink()
    assert main([*call, "--resume"]) == 0
    assert json.loads((tmp_path / "run" / "results.json").read_text())["results"] == results
    # What is finished is taken over without its data.
    call[call.index(str(data_root))] = str(tmp_path / "nowhere")
    assert main([*call, "--resume"]) == 0


def test_the_variants_share_their_epochs_on_the_source(data_root, tmp_path, capsys):
    changes = {"ecn.target_epoch": 1, "ecn.memory_init": "features", "train.max_epoch": 2}
    call = arguments(data_root, tmp_path / "run", **changes, **{"ecn.ablation": ["source", "camera", "all"]})
    assert main(call) == 0
    assert capsys.readouterr().out.count("epochs on the source alone: taken from") == 2
    assert main(arguments(data_root, tmp_path / "alone", **changes)) == 0
    shared, alone = (
        [json.loads(line) for line in (folder / "train" / "history.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "run" / "all", tmp_path / "alone")
    )
    assert [[*row] for row in shared] == [["epoch", "ce", "lr", "seconds"], [*shared[1]]] and "invariance" in shared[1]
    for row in (*shared, *alone):
        del row["seconds"]
    assert shared == alone
    ends = [torch.load(f / "train" / "checkpoint.pth", weights_only=True) for f in (tmp_path / "run" / "all", tmp_path / "alone")]
    assert all(torch.equal(value, ends[1]["model"][name]) for name, value in ends[0]["model"].items())
    assert torch.equal(ends[0]["memory"]["features"], ends[1]["memory"]["features"])
    # Of what other settings made, nothing is taken: neither epochs nor figures.
    shutil.rmtree(tmp_path / "run" / "all")
    assert "train.lr: 0.01 -> 0.02" in refused(capsys, *call, "--resume", "train.lr", "0.02")
    assert not (tmp_path / "run" / "all").exists()


def test_with_held_out_identities_every_variant_trains_on_the_source(data_root, tmp_path, capsys):
    changes = {"ecn.target_epoch": 1, "train.max_epoch": 2, "train.holdout": 0.5, "train.eval_freq": 1}
    call = arguments(data_root, tmp_path / "run", "--stages", "train", **changes, **{"ecn.ablation": ["source", "camera"]})
    assert main(call) == 0
    assert "taken from" not in capsys.readouterr().out


def test_an_interrupted_run_ends_in_the_same_numbers(data_root, finished, tmp_path, monkeypatch):
    save = ResumableEngine.save_checkpoint

    def killed(engine, folder):
        save(engine, folder)
        raise KeyboardInterrupt

    for attempt in range(2):
        monkeypatch.setattr(ResumableEngine, "save_checkpoint", killed)
        assert main(arguments(data_root, tmp_path / "run", *["--resume"] * attempt)) == 130
        monkeypatch.undo()
    assert main(arguments(data_root, tmp_path / "run", "--resume")) == 0
    first, second = (json.loads((f / "results.json").read_text()) for f in (finished, tmp_path / "run"))
    assert first["results"] == second["results"]
    first, second = (torch.load(f / "train" / "checkpoint.pth", weights_only=True) for f in (finished, tmp_path / "run"))
    assert torch.equal(first["memory"]["features"], second["memory"]["features"])


@pytest.mark.parametrize("camstyle", ["fourier", "files"])
def test_the_papers_recipe_from_decoded_images_repeats_resumed_or_not(data_root, tmp_path, monkeypatch, camstyle):
    root = copied(data_root, tmp_path)
    for image in sorted((root / "market1501").rglob("bounding_box_train/*.jpg"))[::2]:
        camid = int(image.name.split("_c")[1][0]) - 1
        camstyle_folder(image).mkdir(exist_ok=True)
        Image.new("RGB", (20 + camid, 48), "green").save(camstyle_folder(image) / camstyle_name(image, camid, (camid + 1) % 6))
    transforms = ["random_sized_rect_crop", "random_flip", "random_erase"]
    changes = {"data.cache": "on", "ecn.camstyle": camstyle, "data.transforms": transforms, "train.max_epoch": 2}
    assert main(arguments(root, tmp_path / "whole", **changes)) == 0
    (kind,) = {path.name.rpartition("-")[2] for path in (root / ".cache" / "torchreid_nas").glob("[!.]*.npy")} - {"64x32.npy"}
    assert kind == "stored.npy"

    save = ResumableEngine.save_checkpoint

    def killed(engine, folder):
        save(engine, folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(ResumableEngine, "save_checkpoint", killed)
    assert main(arguments(root, tmp_path / "parts", **changes)) == 130
    monkeypatch.undo()
    assert main(arguments(root, tmp_path / "parts", "--resume", **changes)) == 0
    ends = [torch.load(tmp_path / name / "train" / "checkpoint.pth", weights_only=True) for name in ("whole", "parts")]
    assert torch.equal(ends[0]["memory"]["features"], ends[1]["memory"]["features"])
    assert all(torch.equal(value, ends[1]["model"][name]) for name, value in ends[0]["model"].items())


def test_what_has_no_batched_form_is_refused_where_the_cache_is_asked_for(data_root, tmp_path, capsys):
    changes = {"data.cache": "on", "data.transforms": ["random_sized_rect_crop", "color_jitter"]}
    error = refused(capsys, *arguments(data_root, tmp_path / "run", **changes))
    assert "color_jitter" in error and "set data.cache auto" in error


def copied(data_root, folder):
    """A copy of the source and the target, to write to."""
    for name in ("market1501", "dukemtmc-reid"):
        shutil.copytree(data_root / name, folder / "data" / name)
    return folder / "data"


def test_camera_styles_come_from_files(data_root, tmp_path, capsys):
    root = copied(data_root, tmp_path)
    call = arguments(root, tmp_path / "run", **{"ecn.camstyle": "files", "train.max_epoch": 1})
    error = refused(capsys, *call)
    assert "bounding_box_train_camstyle" in error and "torchreid-nas camstyle" in error
    assert not (tmp_path / "run" / "train" / "checkpoint.pth").exists()

    image = sorted((root / "market1501").rglob("bounding_box_train/*.jpg"))[0]
    folder = camstyle_folder(image)
    folder.mkdir()
    camid = int(image.name.split("_c")[1][0]) - 1
    Image.new("RGB", (32, 64), "green").save(folder / camstyle_name(image, camid, (camid + 1) % 6))
    assert main([*call, "--resume"]) == 0
    assert "missing" in capsys.readouterr().out


def test_a_batch_is_any_number_of_images(data_root, tmp_path):
    changes = {"train.batch_size": 7, "train.max_epoch": 1}
    assert main(arguments(data_root, tmp_path / "run", "--stages", "train", **changes)) == 0


def test_the_dry_run_shows_what_a_step_costs(data_root, tmp_path, capsys):
    assert main(arguments(data_root, tmp_path / "run", "--dry-run")) == 0
    printed = capsys.readouterr().out
    assert "unlabelled training images of the target" in printed and "s per step" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes, said", [
    ({"ecn.ablation": ["everything"]}, "some of source, exemplar"),
    ({"ecn.weight_target": 1.5}, "between 0 and 1"),
    ({"ecn.camstyle": "cyclegan"}, '"files"'),
    ({"ecn.num_neighbours": 10**6}, "(ecn.num_neighbours) is 1000000, expected 0 to 58"),
    ({"ecn.batch_size_target": 5000}, "ecn.batch_size_target"),
    ({"ecn.batch_size_target": 1}, "0 (as train.batch_size) or at least 2"),
    ({"ecn.target_epoch": 1, "ecn.weight_target": 1.0}, "ecn.target_epoch 0"),
    ({"ecn.positive_prediction": True, "ecn.weight_target": 1.0}, "ecn.positive_prediction False"),
    ({"model.frozen_stages": 2}, "model.frozen_stages -1"),
    ({"model.architecture": "search"}, "nothing to search"),
    ({"model.standardize_input": True}, "model.standardize_input is True, which model.name ecn_resnet18 would not heed"),
    ({"train.batch_size": 5000}, "train.batch_size"),
])
def test_bad_input_is_one_sentence(data_root, tmp_path, capsys, changes, said):
    assert said in refused(capsys, *arguments(data_root, tmp_path / "run", **changes))


def test_an_ablation_without_its_styles_is_refused_before_any_training(data_root, tmp_path, capsys):
    changes = {"ecn.ablation": ["source", "exemplar", "all"], "ecn.camstyle": "files"}
    assert "bounding_box_train_camstyle" in refused(capsys, *arguments(data_root, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_an_ablation_is_of_one_split(data_root, tmp_path, capsys):
    changes = {"ecn.ablation": ["all"], "ecn.camstyle": "none", "data.sources": ["regdb"], "data.targets": ["regdb"]}
    assert "set ecn.ablation []" in refused(capsys, *arguments(data_root, tmp_path / "run", "--trials", "0,1", **changes))
    assert not (tmp_path / "run").exists()


def test_the_ablation_is_for_ecn(data_root, tmp_path, capsys):
    call = commands.arguments(TINY_CDNET, data_root, tmp_path, **{"ecn.ablation": ["all"], "model.architecture": "cdnet"})
    assert "ecn.ablation []" in refused(capsys, *call)


def test_a_run_resumes_only_with_its_own_target(data_root, finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "run")
    call = arguments(data_root, tmp_path / "run", "--resume", **{"data.targets": ["dukemtmcreid"]})
    assert "another setting (data.targets" in refused(capsys, *call)


def test_the_unsupervised_config_trains_with_its_frozen_stages(data_root, tmp_path):
    torch.save(resnet_backbone(18).state_dict(), tmp_path / "resnet18.pth")
    changes = {"model.pretrained": tmp_path / "resnet18.pth", "train.max_epoch": 1, "ecn.neighbour_epoch": 0}
    config = CONFIGS / "ecn_regdb_unsupervised.yaml"
    assert main(commands.arguments(SMALL, data_root, tmp_path / "run", "--config", config, **changes)) == 0
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "train" / "history.jsonl").read_text().splitlines()]
    assert "ce" not in row and row["invariance"] > 0
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert [row["mAP"] > 0 for row in rows] == [True, True]


@pytest.mark.parametrize("name, source, target, erases", [
    ("duke2market", "dukemtmcreid", "market1501", True), ("market2duke", "market1501", "dukemtmcreid", True),
    ("market2msmt17", "market1501", "msmt17", False), ("duke2msmt17", "dukemtmcreid", "msmt17", False),
])
def test_the_configs_have_the_papers_settings(name, source, target, erases):
    cfg = load_config(CONFIGS / f"ecn_{name}.yaml")
    assert (cfg.data.sources, cfg.data.targets) == ([source], [target])
    assert ("random_erase" in cfg.data.transforms) == erases and "random_sized_rect_crop" in cfg.data.transforms
    ecn, train = cfg.ecn, cfg.train
    assert (ecn.weight_target, ecn.temperature, ecn.num_neighbours, ecn.neighbour_epoch) == (0.3, 0.05, 6, 5)
    assert (ecn.momentum_step, ecn.camstyle, ecn.memory_init, ecn.epoch_length) == (0.01, "files", "zeros", "source")
    assert ecn.target_epoch == 0
    assert (train.max_epoch, train.batch_size, train.lr, train.stepsize, train.gamma) == (60, 128, 0.1, [40], 0.1)
    assert (train.optim, cfg.sgd.nesterov, cfg.sgd.momentum, train.weight_decay) == ("sgd", True, 0.9, 5e-4)
    assert (train.base_lr_mult, train.new_layers) == (0.1, ["feat", "feat_bn", "classifier"])
    assert (cfg.model.feature_dim, cfg.model.dropout, cfg.model.frozen_stages, cfg.model.last_stride) == (4096, 0.5, 2, 2)
