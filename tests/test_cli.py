"""The command line end to end on generated data: what it writes, how it resumes, what it says to bad input."""
import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

import commands
import torchreid_nas.device
from commands import refused
from tiny import TINY
from torchreid_nas.architecture import Architecture
from torchreid_nas.cli import main
from torchreid_nas.device import computes_bfloat16, fuses_optimizers
from torchreid_nas.engine import ResumableEngine, RetrievalEngine

REPOSITORY = Path(__file__).resolve().parents[1]


arguments = functools.partial(commands.arguments, TINY)


@pytest.fixture(scope="module")
def finished(data_root, tmp_path_factory):
    """A whole run: search, train, test."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(arguments(data_root, folder)) == 0
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of the whole run that a test may spoil."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


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
    assert main([*call, "--resume", "--stages", "test", "test.rerank", "True"]) == 0
    again = json.loads((tmp_path / "run" / "results.json").read_text())["results"]
    assert [row["mAP"] for row in again] != [row["mAP"] for row in mean]


def test_keep_weights_starts_from_the_supernet(data_root, copied):
    shutil.rmtree(copied / "train")
    from torchreid_nas.config import load_config
    from torchreid_nas.pipeline import Run

    keys = [str(part) for item in {**TINY, "search.keep_weights": True}.items() for part in item]
    cfg = load_config(None, [*keys, "data.root", str(data_root), "data.save_dir", str(copied)])
    model = Run(cfg).train_engine().model
    supernet = torch.load(copied / "search" / "checkpoint.pth", weights_only=True)["model"]
    torch.testing.assert_close(model.backbone.conv1.weight.cpu(), supernet["backbone.conv1.weight"])


def test_dry_run_trains_and_writes_nothing(data_root, tmp_path, capsys):
    assert main(arguments(data_root, tmp_path / "run", "--dry-run")) == 0
    shown = capsys.readouterr().out
    for word in ("max_epoch: 3", "train: regdb", "MACs per image", "s per step", "peak memory", "search", "train"):
        assert word in shown
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
    # The search's loss, which falls by a third; that of the training moves by no more than noise in six steps.
    losses = [json.loads(line)["triplet"] for line in (automatic / "search" / "history.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.9 * losses[0]


def test_another_machines_precision_is_refused_on_resumption_and_its_own_config_goes_on(
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
    assert main(arguments(data_root, tmp_path / "run", "--dry-run", "--stages", "train", **AUTO)) == 0
    shown = capsys.readouterr().out
    assert "amp: auto" not in shown and "fused: auto" not in shown


def test_a_matrix_that_would_be_too_large_is_never_made(data_root, copied, monkeypatch, capsys):
    before = json.loads((copied / "results.json").read_text())["results"]
    extra = {"test.matrix_gib": 1e-9}
    with monkeypatch.context() as patch:
        # Refused before any feature is computed.
        patch.setattr(RetrievalEngine, "extract", None)
        assert main(arguments(data_root, copied, "--stages", "test", **extra, **{"test.visrank": True})) == 2
    assert "test.visrank needs the distance matrix" in capsys.readouterr().err
    monkeypatch.setattr(ResumableEngine, "distance_matrix", None)
    assert main(arguments(data_root, copied, "--stages", "test", **extra)) == 0
    for old, new in zip(before, json.loads((copied / "results.json").read_text())["results"], strict=True):
        assert new["mAP"] == pytest.approx(old["mAP"], abs=1e-6) and new["cmc"] == pytest.approx(old["cmc"], abs=1e-6)


# -- resuming -------------------------------------------------------------------


def start(call):
    # Sums depend on the number of threads in their last digits.
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / "tools" / "main.py"), *call], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_run_killed_in_the_middle_ends_in_the_same_numbers(stage, data_root, finished, tmp_path):
    folder, history = tmp_path / "run", tmp_path / "run" / stage / "history.jsonl"
    process = start(arguments(data_root, folder))
    deadline = time.time() + 120
    while not history.exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert history.exists() and not (folder / "results.json").exists(), process.stderr.read()
    assert main(arguments(data_root, folder, "--resume")) == 0
    for name in ("results.json", "architecture.json"):
        killed, whole = (json.loads((f / name).read_text()) for f in (folder, finished))
        assert killed.get("results") == whole.get("results") and killed.get("choices") == whole.get("choices")
    for part in ("search", "train"):
        lines = [
            [{k: v for k, v in json.loads(line).items() if k != "seconds"}
             for line in (f / part / "history.jsonl").read_text().splitlines()] for f in (folder, finished)
        ]
        assert lines[0] == lines[1]


def test_resume_takes_over_what_is_finished(data_root, copied, capsys):
    before = (copied / "train" / "model.pth").stat().st_mtime_ns
    assert main(arguments(data_root, copied, "--resume")) == 0
    assert "search: finished already" in capsys.readouterr().out
    assert (copied / "train" / "model.pth").stat().st_mtime_ns == before


def test_resume_with_other_settings_is_refused(data_root, copied, capsys):
    error = refused(capsys, *arguments(data_root, copied, "--resume", **{"train.lr": 0.5}))
    assert "train.lr: 0.002 -> 0.5" in error and "--output" in error


def test_a_folder_with_a_run_is_refused_without_resume(data_root, copied, capsys):
    assert "--resume" in refused(capsys, *arguments(data_root, copied))


def test_an_output_that_is_a_file_is_refused_as_such(data_root, tmp_path, capsys):
    (tmp_path / "file").write_text("kept")
    for more in ([], ["--trials", "0,1"]):
        error = refused(capsys, *arguments(data_root, tmp_path / "file", *more))
        assert "--output" in error and str(tmp_path / "file") in error and "free space" not in error
    assert (tmp_path / "file").read_text() == "kept"


# -- bad input ------------------------------------------------------------------


@pytest.mark.parametrize("call, words", [
    (["train.max_epochs", "3"], ['"train.max_epochs"', 'did you mean "train.max_epoch"']),
    (["train.lr", "fast"], ["train.lr", "'fast'", "a number"]),
    (["train.lr", "-1"], ["train.lr", "above 0"]),
    (["train.lr"], ["train.lr", "KEY VALUE"]),
    (["--config", "configs/nothing.yaml"], ["configs/nothing.yaml", "cannot be read"]),
    (["--stages", "serach"], ['did you mean "search"']),
    (["--trials", "11"], ["0 to 9"]),
    (["--device", "gpu0"], ["gpu0", "cpu"]),
    (["model.name", "two_stream_resnet5"], ["model.name", 'did you mean "two_stream_resnet50"']),
    (["model.architecture", "firts-3"], ["firts-3", "preset"]),
    (["model.architecture", "arch.json"], ["arch.json", "cannot be read"]),
    (["train.batch_size", "10"], ["train.batch_size is 10", "multiple of 4 of at least 8"]),
    (["train.batch_size", "4"], ["train.batch_size is 4", "multiple of 4 of at least 8"]),
    (["data.sources", "regdbb"], ["regdbb", 'did you mean "regdb"']),
    (["data.split_id", "12"], ["12"]),
    (["data.transforms", "random_flipp"], ["random_flipp"]),
    (["--stages", "search", "model.architecture", "share"], ["model.architecture", "--stages"]),
])
def test_a_bad_word_is_answered_by_one_sentence(call, words, data_root, tmp_path, capsys):
    base = arguments(data_root, tmp_path / "run")
    overriding = call[:1] if not call[0].startswith("--") else []
    for key in overriding:
        if key in base and len(call) > 1:
            base = base[: base.index(key)] + base[base.index(key) + 2:]
    error = refused(capsys, *base, *call)
    for word in words:
        assert word in error
    # What is refused leaves no folder behind.
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes, words", [
    ({"data.targets": "['regdb', 'regdb_ir2viss']"}, ["regdb_ir2viss", 'did you mean "regdb_ir2vis"']),
    ({"data.targets": "['market1501', 'msmt17']"}, ["msmt17", "as torchreid expects it"]),
    ({"model.load_weights": "no/model.pth"}, ["no/model.pth", "does not exist"]),
    ({"model.pretrained": "no/resnet.pth"}, ["no/resnet.pth", "does not exist"]),
    ({"train.new_layers": "['bnneckk']"}, ["train.new_layers", 'did you mean "bnneck"']),
])
@pytest.mark.parametrize("option", [[], ["--dry-run"], ["--trials", "0,1"]])
def test_what_a_later_stage_would_stumble_over_is_refused_before_the_first(
    option, changes, words, data_root, tmp_path, capsys, monkeypatch,
):
    monkeypatch.setattr(ResumableEngine, "forward_backward", None)
    error = refused(capsys, *arguments(data_root, tmp_path / "run", *option, **changes))
    for word in words:
        assert word in error
    assert not (tmp_path / "run").exists()


def test_a_trial_without_its_split_is_refused_before_another_is_trained(own_data, tmp_path, capsys):
    (own_data / "RegDB" / "idx" / "test_thermal_3.txt").unlink()
    call = arguments(own_data, tmp_path / "run", "--trials", "0,2", **{"model.architecture": "share"})
    assert "test_thermal_3.txt" in refused(capsys, *call)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_shows_the_data_of_the_test_and_needs_its_weights(data_root, copied, capsys):
    assert main(arguments(data_root, copied, "--dry-run", "--stages", "test")) == 0
    assert "regdb_ir2vis: query" in capsys.readouterr().out
    (copied / "train" / "model.pth").unlink()
    assert "no weights to test" in refused(capsys, *arguments(data_root, copied, "--dry-run", "--stages", "test"))


def test_missing_data_names_layout_source_and_stand_in(tmp_path, capsys):
    error = refused(capsys, *arguments(tmp_path / "nowhere", tmp_path / "run"))
    for word in ("RegDB", "Visible", "idx", "http", "torchreid-nas synthetic regdb --root"):
        assert word in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stages, missing", [("train", "architecture.json"), ("test", "model.pth")])
def test_stages_without_what_they_need(stages, missing, data_root, tmp_path, capsys):
    assert missing in refused(capsys, *arguments(data_root, tmp_path / "run", "--stages", stages))


def test_an_architecture_of_another_backbone(data_root, tmp_path, capsys):
    path = tmp_path / "config.cfg"
    path.write_text(" ".join(["0"] * 53) + "\n")
    error = refused(capsys, *arguments(data_root, tmp_path / "run", **{"model.architecture": path}))
    assert "53" in error and "20" in error


def test_a_checkpoint_of_another_model(data_root, copied, capsys):
    before = (copied / "config.yaml").read_bytes()
    changes = {"model.architecture": "share"}
    assert "another model" in refused(capsys, *arguments(data_root, copied, "--stages", "test", **changes))
    assert (copied / "config.yaml").read_bytes() == before
    other = arguments(data_root, copied.parent / "other", "--stages", "train", **changes)
    assert "another model" in refused(capsys, *other, "model.load_weights", copied / "train" / "model.pth")
    assert not (copied.parent / "other").exists()


@pytest.mark.parametrize("part", ["train", "search"])
def test_what_resume_goes_on_from_is_no_weights(part, data_root, finished, tmp_path, capsys):
    weights = finished / part / "checkpoint.pth"
    for stages in ("test", "search,train"):
        call = arguments(data_root, tmp_path / "run", "--stages", stages, **{"model.load_weights": weights})
        error = refused(capsys, *call)
        assert str(weights) in error and "--resume" in error and f'name "{finished / "train" / "model.pth"}"' in error
    assert not (tmp_path / "run").exists()


def test_a_truncated_checkpoint(data_root, copied, capsys):
    path = copied / "train" / "model.pth"
    path.write_bytes(path.read_bytes()[:1000])
    error = refused(capsys, *arguments(data_root, copied, "--stages", "test"))
    assert str(path) in error and "truncated" in error


@pytest.mark.parametrize("stage, others", [("search", ["architecture.json"]), ("train", []), ("train", ["figures"])])
def test_a_truncated_state_is_answered_by_how_to_start_its_stage_afresh(stage, others, data_root, copied, capsys):
    path = copied / stage / "checkpoint.pth"
    path.write_bytes(path.read_bytes()[:1000])
    for name in others:
        (copied / name).rename(copied / f"{name}.away")
    error = refused(capsys, *arguments(data_root, copied, "--resume"))
    assert str(path) in error and f'remove "{copied / stage}" to start this stage afresh' in error


@pytest.fixture
def own_data(data_root, tmp_path):
    """A copy of the data that a test may spoil."""
    return Path(shutil.copytree(data_root, tmp_path / "own"))


def test_a_truncated_image(own_data, tmp_path, capsys):
    listed = (own_data / "RegDB" / "idx" / "train_visible_1.txt").read_text().splitlines()
    image = own_data / "RegDB" / listed[0].split()[0]
    for line in listed:
        path = own_data / "RegDB" / line.split()[0]
        path.write_bytes(path.read_bytes()[:200])
    error = refused(capsys, *arguments(own_data, tmp_path / "run", **{"model.architecture": "share"}))
    assert str(image.parents[1]) in error and ".bmp" in error


def test_a_corrupt_index_line(own_data, tmp_path, capsys):
    path = own_data / "RegDB" / "idx" / "test_thermal_1.txt"
    path.write_text(path.read_text() + "no label here\n")
    error = refused(capsys, *arguments(own_data, tmp_path / "run", "--dry-run"))
    assert "test_thermal_1.txt" in error and "65" in error


def test_an_empty_split(own_data, tmp_path, capsys):
    (own_data / "RegDB" / "idx" / "train_visible_1.txt").write_text("")
    assert "train_visible_1.txt" in refused(capsys, *arguments(own_data, tmp_path / "run"))


def test_fewer_identities_than_a_batch_needs(data_root, tmp_path, capsys):
    error = refused(capsys, *arguments(data_root, tmp_path / "run", **{"train.batch_size": 128, "model.architecture": "share"}))
    assert "train.batch_size" in error and "32 identities" in error


def test_no_overlap_of_query_and_gallery(own_data, tmp_path, capsys):
    path = own_data / "RegDB" / "idx" / "test_thermal_1.txt"
    lines = [line.split() for line in path.read_text().splitlines()]
    path.write_text("".join(f"{name} {int(label) + 500}\n" for name, label in lines))
    error = refused(capsys, *arguments(own_data, tmp_path / "run"))
    assert "test_thermal_1.txt" in error or "galler" in error


def test_a_full_disk_leaves_nothing_half_written(data_root, tmp_path, capsys, monkeypatch):
    save, calls = torch.save, []

    def full(state, file):
        calls.append(file)
        if len(calls) < 3:
            return save(state, file)
        file.write(b"part of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    folder = tmp_path / "run"
    error = refused(capsys, *arguments(data_root, folder, **{"model.architecture": "share"}))
    assert "No space left on device" in error
    monkeypatch.undo()
    assert not [path for path in folder.rglob("*") if ".tmp" in path.name]
    assert torch.load(folder / "train" / "checkpoint.pth", weights_only=True)["epoch"] == 2


def test_synthetic_command(tmp_path, capsys):
    assert main(["synthetic", "regdb", "--root", str(tmp_path), "--identities", "4", "--images", "2"]) == 0
    assert "stand-in" in capsys.readouterr().out
    assert (tmp_path / "RegDB" / "idx" / "train_visible_1.txt").exists()
    assert "sysu_mm01" in refused(capsys, "synthetic", "sysu", "--root", tmp_path)
    call = ["synthetic", "market1501", "--root", tmp_path, "--sheet", tmp_path / "sheet.jpeg"]
    assert "must end in .png" in refused(capsys, *call) and not (tmp_path / "market1501").exists()


def test_an_unknown_command_is_answered_by_the_nearest(capsys):
    for call in (["featurs"], ["featurs", "images", "--stride", "2"]):
        assert 'no command "featurs"' in refused(capsys, *call)
    assert refused(capsys, "featurs").endswith('; did you mean "features"?\n')


@pytest.mark.parametrize("module, call, left", [
    ("data.synthetic.cli.write_dataset", ["synthetic", "regdb", "--root", "data"], "no half-written file is left"),
    ("features.cli.main", ["features"], "no half-written file is left"),
    ("features.match_cli.main", ["match"], "no half-written file is left"),
    ("export.cli.main", ["export"], "no half-written file is left"),
    ("zoo.cli.main", ["zoo", "download"], "the same command goes on with a download where it broke off"),
    ("stargan.cli.main", ["camstyle"], "the same command with --resume goes on from the last checkpoint"),
    ("cli._experiment", ["--dry-run"], "no half-written file is left"),
    ("cli._experiment", ["--stages", "train"], "the same command with --resume goes on from the last checkpoint"),
])
def test_an_interrupted_command_says_what_it_leaves(module, call, left, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"torchreid_nas.{module}", interrupted)
    assert main(call) == 130
    assert capsys.readouterr().err == f"interrupted; {left}\n"


def test_sigterm_cleans_up_says_so_and_spares_children(tmp_path, capsys, monkeypatch):
    ended = []

    def terminated(path, _):
        assert list(tmp_path.glob("RegDB*")) == [] and path.parent.exists()
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.write(writer, b"runs")
            time.sleep(60)
            os._exit(0)
        os.read(reader, 4)
        os.kill(child, signal.SIGTERM)
        ended.append(os.WTERMSIG(os.waitpid(child, 0)[1]))
        os.kill(os.getpid(), signal.SIGTERM)

    # The last file of the data set, whose folder has its temporary name until then.
    monkeypatch.setattr("torchreid_nas.data.synthetic.store.write_json", terminated)
    assert main(["synthetic", "regdb", "--root", str(tmp_path), "--identities", "4", "--images", "2"]) == 143
    assert capsys.readouterr().err == "terminated; no half-written file is left\n"
    assert ended == [signal.SIGTERM] and not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_help_of_the_thin_script():
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "main.py"), "--help"], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0 and "--dry-run" in done.stdout


def test_weights_to_start_from_are_not_what_is_tested_after_training(data_root, finished, tmp_path):
    overrides = {"model.architecture": finished / "architecture.json", "model.load_weights": finished / "train" / "model.pth"}
    assert main(arguments(data_root, tmp_path / "tested", "--stages", "test", **overrides)) == 0
    assert main(arguments(data_root, tmp_path / "trained", **overrides, **{"train.lr": 0.01})) == 0
    given, tested, trained = (
        json.loads((folder / "results.json").read_text())["results"]
        for folder in (finished, tmp_path / "tested", tmp_path / "trained")
    )
    assert tested == given and trained != given
