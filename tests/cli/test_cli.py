"""The command line end to end on generated data: what it writes and how it resumes."""
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import commands
import pytest
import torch
import yaml
from commands import refused
from tiny import TINY

import torchreid_nas.device
from torchreid_nas.architecture import Architecture
from torchreid_nas.cli import main
from torchreid_nas.device import computes_bfloat16, fuses_optimizers
from torchreid_nas.engine import RetrievalEngine
from torchreid_nas.run.folder import RunFolder

REPOSITORY = Path(__file__).resolve().parents[2]


arguments = functools.partial(commands.arguments, TINY)


# -- the whole way --------------------------------------------------------------


def test_a_run_is_a_folder_that_tells_its_story(finished):
    architecture = Architecture.load(finished / "architecture.json")
    assert len(architecture) == 20 and architecture.source["epoch"] == 3
    assert Architecture.load(finished / "architecture.cfg") == architecture
    assert (finished / "config.yaml").read_text().startswith("device:")
    search = [json.loads(line) for line in (finished / "search" / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in search] == [1, 2, 3]
    assert set(search[0]["probabilities"]) == set(architecture.slots)
    for picture in ("architecture", "training"):
        assert (finished / "figures" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((finished / "results.json").read_text())["results"]
    assert {(row["dataset"], row["feature"]) for row in rows} == {
        (name, feature) for name in ("regdb", "regdb_ir2vis") for feature in ("before BNNeck", "after BNNeck")
    }
    for row in rows:
        assert row["num_valid_queries"] == 64 and 0 < row["mAP"] < 1 and row["cmc"] == sorted(row["cmc"])
    state = torch.load(finished / "train" / "model.pth", weights_only=True)["state_dict"]
    split = [slot for slot, choice in architecture.choices if choice == "split"]
    assert all(f"backbone.{slot}.visible.weight" in state for slot in split)
    assert not [path for path in finished.rglob("*") if ".tmp" in path.name]


def test_the_same_config_and_seed_give_the_same_numbers(data_root, finished, tmp_path):
    assert main(arguments(data_root, tmp_path / "again")) == 0
    first, second = (json.loads((f / "results.json").read_text())["results"] for f in (finished, tmp_path / "again"))
    assert first == second


def test_sysu_mm01_from_its_config(data_root, tmp_path, capsys):
    config = REPOSITORY / "configs" / "cmnas_sysu.yaml"
    assert main(["--config", str(config), *arguments(data_root, tmp_path / "run", **{"search.max_epoch": 2})]) == 0
    shown = capsys.readouterr().out
    assert "sysu_mm01_indoor" in shown and "±" in shown
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert {row["num_trials"] for row in rows} == {10}


def test_official_galleries_and_multi_shot(data_root, tmp_path):
    overrides = {"data.sources": ["sysu_mm01"], "data.targets": ["sysu_mm01"], "model.architecture": "share",
                 "train.max_epoch": 1, "test.gallery_draw": "official", "test.shot": 2}
    assert main(arguments(data_root, tmp_path / "run", **overrides)) == 0
    row = json.loads((tmp_path / "run" / "results.json").read_text())["results"][0]
    assert row["protocol"] == "SYSU-MM01 all-search, 2-shot, official galleries"


@pytest.mark.parametrize("name", sorted(path.name for path in (REPOSITORY / "configs").glob("*.yaml")))
def test_every_config_is_valid(name):
    from torchreid_nas.config import load_config

    cfg = load_config(REPOSITORY / "configs" / name)
    assert cfg.data.save_dir != load_config().data.save_dir


def test_trials_train_and_test_on_their_own_split_then_average(data_root, tmp_path, capsys):
    call = arguments(data_root, tmp_path / "run", "--trials", "0,2", **{"model.architecture": "split", "train.max_epoch": 1})
    assert main(call) == 0
    parts = [json.loads((tmp_path / "run" / f"split_{t}" / "results.json").read_text()) for t in (0, 2)]
    assert [part["data"]["split_id"] for part in parts] == [0, 2]
    mean = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    for index, row in enumerate(mean):
        values = [part["results"][index]["mAP"] for part in parts]
        assert row["mAP"] == pytest.approx(sum(values) / 2) and row["num_trials"] == 2
        assert row["mAP_std"] == pytest.approx(abs(values[0] - values[1]) / 2)
    capsys.readouterr()
    (tmp_path / "run" / "split_2" / "results.json").unlink()
    before = (tmp_path / "run" / "split_0" / "results.json").stat().st_mtime_ns
    assert main([*call, "--resume"]) == 0
    assert (tmp_path / "run" / "split_0" / "results.json").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "run" / "results.json").read_text())["results"] == mean
    # Figures of other settings never pass for those of this call.
    assert "train.lr: 0.002 -> 0.5" in refused(capsys, *call, "--resume", "train.lr", "0.5")
    assert main([*call, "--resume", "--stages", "test", "train.lr", "0.5"]) == 0
    assert "train.lr: 0.002 -> 0.5" in refused(capsys, *call, "--resume", "train.lr", "0.5")
    assert main([*call, "--resume", "--stages", "test", "test.rerank", "True"]) == 0
    again = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert [row["mAP"] for row in again] != [row["mAP"] for row in mean]


def test_keep_weights_starts_from_the_supernet(data_root, copied):
    shutil.rmtree(copied / "train")
    from torchreid_nas.config import load_config
    from torchreid_nas.run.build import train_engine
    from torchreid_nas.run.setup import RunSetup

    keys = [str(part) for item in {**TINY, "search.keep_weights": True}.items() for part in item]
    cfg = load_config(None, [*keys, "data.root", str(data_root), "data.save_dir", str(copied)])
    model = train_engine(RunSetup.of(cfg)).model
    supernet = torch.load(copied / "search" / "checkpoint.pth", weights_only=True)["model"]
    torch.testing.assert_close(model.backbone.conv1.weight.cpu(), supernet["backbone.conv1.weight"])


@pytest.mark.parametrize("keep_weights", [False, True])
def test_dry_run_trains_and_writes_nothing(data_root, tmp_path, capsys, keep_weights):
    assert main(arguments(data_root, tmp_path / "run", "--dry-run", **{"search.keep_weights": keep_weights})) == 0
    shown = capsys.readouterr().out
    for word in ("train: regdb", "MACs per image", "s per step", "peak memory", "search", "train"):
        assert word in shown
    assert shown.count("quick checks of the data: ") == 1  # of a run, not of a stage
    assert "max_epoch:" not in shown
    assert not (tmp_path / "run").exists()


def test_visrank_and_rerank(data_root, copied):
    extra = {"test.visrank": True, "test.visrank_topk": 3, "test.rerank": True, "data.targets": ["regdb"]}
    assert main(arguments(data_root, copied, "--stages", "test", **extra)) == 0
    assert len(list((copied / "visrank_regdb").iterdir())) == 64


AUTO = {"train.amp": "auto", "train.channels_last": "auto"}


@pytest.fixture(scope="module")
def automatic(data_root, tmp_path_factory):
    """A whole run in the precision that the machine does best, two batches to a step."""
    folder = tmp_path_factory.mktemp("automatic") / "run"
    assert main(arguments(data_root, folder, **AUTO, **{"train.accumulate": 2, "train.num_batches": 4})) == 0
    return folder


def test_a_run_chooses_its_precision_and_keeps_what_it_chose(automatic):
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half, fused = computes_bfloat16(device), fuses_optimizers(device)
    for path in ("config.yaml", "search/config.yaml", "train/config.yaml"):
        train = yaml.safe_load((automatic / path).read_text())["train"]
        assert (train["amp"], train["fused"]) == ("bf16" if half else "none", fused)
        assert train["channels_last"] is (half or device.type == "cpu" and torch.backends.mkldnn.is_available())
    rows = json.loads((automatic / "results.json").read_text())["results"]
    assert all(0 < row["mAP"] < 1 for row in rows)
    # The search's loss falls; that of the training moves by no more than noise in six steps.
    losses = [json.loads(line)["triplet"] for line in (automatic / "search" / "history.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_another_machines_precision_is_refused_and_its_own_goes_on(
    data_root, automatic, tmp_path, capsys, monkeypatch,
):
    folder = Path(shutil.copytree(automatic, tmp_path / "run"))
    changes = {**AUTO, "train.accumulate": 2, "train.num_batches": 4, "train.max_epoch": 3}
    kept = yaml.safe_load((folder / "train" / "config.yaml").read_text())["train"]
    other = kept["amp"] == "none"
    with monkeypatch.context() as patch:
        patch.setattr(torchreid_nas.device, "computes_bfloat16", lambda _: other)
        call = arguments(data_root, folder, "--stages", "train", "--resume", **changes)
        said = refused(capsys, *call)
    assert f"train.amp: {kept['amp']} -> {'bf16' if other else 'none'}" in said
    assert main(["--config", str(folder / "config.yaml"), "--output", str(folder), "--resume"]) == 0


def test_a_dry_run_shows_the_resolved_precision(data_root, tmp_path, capsys):
    assert main(arguments(data_root, tmp_path / "run", "--dry-run", "--verbose", "--stages", "train", **AUTO)) == 0
    shown = capsys.readouterr().out
    assert shown.index("train: regdb") < shown.index("MACs per image") < shown.index("max_epoch: 3")
    assert "amp: auto" not in shown and "fused: auto" not in shown


def test_a_matrix_that_would_be_too_large_is_never_made(data_root, copied, monkeypatch, capsys):
    before = json.loads((copied / "results.json").read_text())["results"]
    extra = {"test.matrix_gib": 1e-9}
    with monkeypatch.context() as patch:
        # Refused before any feature is computed.
        patch.setattr(RetrievalEngine, "extract", None)
        assert main(arguments(data_root, copied, "--stages", "test", **extra, **{"test.visrank": True})) == 2
    assert "test.visrank needs the distance matrix" in capsys.readouterr().err
    monkeypatch.setattr("torchreid_nas.engine.scoring.distance_matrix", None)
    assert main(arguments(data_root, copied, "--stages", "test", **extra)) == 0
    for old, new in zip(before, json.loads((copied / "results.json").read_text())["results"], strict=True):
        assert new["mAP"] == pytest.approx(old["mAP"], abs=1e-6) and new["cmc"] == pytest.approx(old["cmc"], abs=1e-6)


def test_weights_to_start_from_are_not_what_is_tested_after_training(data_root, finished, tmp_path):
    overrides = {"model.architecture": finished / "architecture.json", "model.load_weights": finished / "train" / "model.pth"}
    assert main(arguments(data_root, tmp_path / "tested", "--stages", "test", **overrides)) == 0
    assert main(arguments(data_root, tmp_path / "trained", **overrides, **{"train.lr": 0.01})) == 0
    given, tested, trained = (
        json.loads((folder / "results.json").read_text())["results"]
        for folder in (finished, tmp_path / "tested", tmp_path / "trained")
    )
    assert tested == given and trained != given


# -- resuming -------------------------------------------------------------------


def start(call):
    # Sums depend on the number of threads in their last digits.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "tools" / "main.py"), *call], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )


HELD_OUT = {"train.holdout": 0.25, "train.eval_freq": 1}


@pytest.fixture(scope="module")
def whole(data_root, tmp_path_factory):
    """A whole run that chooses its best epoch by held-out identities."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(arguments(data_root, folder, **HELD_OUT)) == 0
    return folder


def weights(path):
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_killed_run_goes_on_and_ends_in_the_same_weights(stage, data_root, whole, tmp_path, capsys):
    folder, call = RunFolder(tmp_path / "run"), arguments(data_root, tmp_path / "run", **HELD_OUT)
    checkpoint = folder.stage(stage).checkpoint
    process = start(call)
    deadline = time.monotonic() + 240
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists(), process.stderr.read()
    done = weights(checkpoint)["epoch"]
    assert 1 <= done < 3
    capsys.readouterr()
    assert main([*call, "--resume"]) == 0
    # It resumes: the epochs that were done are not trained again.
    shown = capsys.readouterr().out.partition("== train")
    lines = shown[0] if stage == "search" else shown[2]
    assert [line.split("/")[0] for line in lines.splitlines() if line.startswith("epoch ")] == [
        f"epoch {epoch:>3}" for epoch in range(done + 1, 4)
    ]
    assert same(weights(folder.train.weights), weights(RunFolder(whole).train.weights))
    for name in ("search", "train"):
        killed, its = (weights(one.stage(name).checkpoint) for one in (folder, RunFolder(whole)))
        assert killed.pop("history") and its.pop("history") and same(killed, its)
    for name in ("results.json", "architecture.json"):
        killed, its = (json.loads((one / name).read_text()) for one in (folder.path, whole))
        assert killed.get("results") == its.get("results") and killed.get("choices") == its.get("choices")


def same(one, other):
    """Whether two contents of checkpoints are equal, bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_two_processes_on_one_folder_end_as_one_run_and_a_refusal(data_root, tmp_path):
    changes = {"model.architecture": "share", "train.max_epoch": 3}
    folder = RunFolder(tmp_path / "run")
    calls = [arguments(data_root, folder, "--stages", "train", **changes, **{"train.lr": lr}) for lr in (0.002, 0.004)]
    processes = [start([*call, "--resume"]) for call in calls]
    ends = [(process.communicate()[1], process.returncode) for process in processes]
    refusals = [error for error, code in ends if code == 2]
    assert sorted(code for _, code in ends) == [0, 2] and len(refusals) == 1
    assert "is in use by process" in refusals[0] or "was made with another setting" in refusals[0]
    assert len(folder.train.history.read_text().splitlines()) == 3


def test_resume_takes_over_what_is_finished(data_root, copied, capsys):
    before = (copied / "train" / "model.pth").stat().st_mtime_ns
    leftover = copied / "train" / ".checkpoint.123.tmp.pth"
    leftover.touch()
    assert main(arguments(data_root, copied, "--resume")) == 0
    assert not leftover.exists()
    assert "search: finished already" in capsys.readouterr().out
    assert (copied / "train" / "model.pth").stat().st_mtime_ns == before


@pytest.mark.parametrize("stage, changes, said", [
    # A search by paths trains by the recipe of the training.
    ("search", {"train.lr": 0.5}, "train.lr: 0.002 -> 0.5"), ("train", {"train.ema": 0.25}, "train.ema: "),
])
def test_resume_with_other_settings_is_refused(stage, changes, said, data_root, copied, capsys):
    error = refused(capsys, *arguments(data_root, copied, "--resume", **changes))
    assert f"the {stage} stage in" in error and said in error and "--output" in error


@pytest.mark.parametrize("changes", [
    {"data.split_id": 3}, {"model.last_stride": 2}, {"data.height": 96}, {"data.norm_std": [0.5, 0.5, 0.5]},
])
def test_a_later_stage_does_not_change_what_the_earlier_one_was_made_with(changes, data_root, copied, tmp_path, capsys):
    (key,), before = changes, (copied / "config.yaml").read_bytes()
    error = refused(capsys, *arguments(data_root, copied, "--stages", "test", **changes))
    assert f"{key}: " in error and f'model.load_weights "{copied / "train" / "model.pth"}"' in error
    shutil.rmtree(copied / "train")
    if key == "data.split_id":
        error = refused(capsys, *arguments(data_root, copied, "--stages", "train", **changes))
        assert "data.split_id: 0 -> 3" in error and f'model.architecture "{copied / "architecture.json"}"' in error
    assert (copied / "config.yaml").read_bytes() == before


def test_a_folder_with_a_run_is_refused_without_resume(data_root, copied, capsys):
    assert "--resume" in refused(capsys, *arguments(data_root, copied))


def test_an_output_that_is_a_file_is_refused_as_such(data_root, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    for more in ([], ["--trials", "0,1"]):
        error = refused(capsys, *arguments(data_root, tmp_path / "file", *more))
        assert "--output" in error and str(tmp_path / "file") in error and "free space" not in error
    assert (tmp_path / "file").read_text() == "kept"
