"""The loggers of a run: TensorBoard's files, and stand-ins of the clients of Weights & Biases and MLflow."""
from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import json
import shutil
import sys
import types

import commands
import pytest
from commands import refused
from tiny import TINY

from torchreid_nas.cli import main
from torchreid_nas.config import KEYS
from torchreid_nas.run.writers import WRITERS, make_writer

arguments = functools.partial(commands.arguments, TINY)


class Client(types.ModuleType):
    """Takes whatever is called on it, and keeps the calls."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.calls, self.fails = [], False

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **options):
            if self.fails:
                raise ConnectionError("no answer")
            self.calls.append((name, args, options))
            return self

        return call

    @property
    def summary(self):
        return self

    def named(self, name):
        return [(args, options) for called, args, options in self.calls if called == name]


@pytest.fixture
def client(monkeypatch, request):
    found = Client(request.param)
    monkeypatch.setitem(sys.modules, request.param, found)
    return found


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def test_the_key_names_every_writer():
    assert all(KEYS["logger"].check.valid(name) for name in WRITERS) and not KEYS["logger"].check.valid("csv")


def test_tensorboard_has_losses_probabilities_scores_and_pictures(finished):
    search, train, test = (events(finished / stage) for stage in ("search", "train", "test"))
    history = [json.loads(line) for line in (finished / "search" / "history.jsonl").read_text().splitlines()]
    read = [event.value for event in search.Scalars("Architecture/bn1/split")]
    assert read == pytest.approx([row["probabilities"]["bn1"]["split"] for row in history])
    assert len(train.Scalars("Train/ce")) == 9
    row = json.loads((finished / "results.json").read_text())["results"][0]
    assert test.Scalars("Test/regdb/regdb/before BNNeck/mAP")[0].value == pytest.approx(row["mAP"])
    assert set(test.Tags()["images"]) == {"architecture", "training"}
    assert "_hparams_/experiment" in test.summary_metadata


@pytest.mark.parametrize("client", ["wandb"], indirect=True)
def test_weights_and_biases_gets_every_stage_as_a_run_of_one_group(client, data_root, copied):
    assert main(arguments(data_root, copied, "--stages", "test", **{"logger": "wandb"})) == 0
    (_, opened), = client.named("init")
    assert opened["group"] == copied.name and opened["job_type"] == "test" and opened["config"]["train.max_epoch"] == 3
    logged = {name: value for (values,), _ in client.named("log") for name, value in values.items()}
    assert {"Test/regdb/regdb/after BNNeck/Rank-1", "training", "architecture"} <= set(logged)
    assert "Test/regdb/regdb/after BNNeck/mAP" in client.named("update")[0][0][0] and len(client.named("finish")) == 1


@pytest.mark.parametrize("client", ["mlflow"], indirect=True)
def test_mlflow_gets_parameters_metrics_and_pictures(client, tmp_path):
    picture = tmp_path / "training.png"
    with make_writer("mlflow", tmp_path / "run" / "train", "run", {"train.lr": 0.01}) as writer:
        assert client.calls == []
        writer.add_scalar("Train/ce", 2, 5)
        writer.add_picture("training", picture)
        writer.add_results({"mAP": 0.5})
    assert client.named("start_run")[0][1]["run_name"] == "run/train"
    assert client.named("log_params")[0][0] == ({"train.lr": 0.01},)
    assert client.named("log_metric") == [(("Train/ce", 2.0), {"step": 5})]
    assert client.named("log_artifact")[0][0] == (str(picture),) and client.named("log_metrics")[0][0] == ({"mAP": 0.5},)
    assert len(client.named("end_run")) == 1


@pytest.mark.parametrize("client", ["wandb", "mlflow"], indirect=True)
def test_a_server_that_does_not_answer_costs_a_warning_and_no_run(client, tmp_path, caplog):
    client.fails = True
    with make_writer(client.__name__, tmp_path, "run", {}) as writer:
        for step in range(3):
            writer.add_scalar("Train/ce", 1.0, step)
    assert len(caplog.records) == 1 and "no answer" in caplog.text and client.calls == []


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_client_that_is_not_installed_is_refused_before_the_run(name, data_root, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda package, *more: None if package == name else find(package, *more))
    error = refused(capsys, *arguments(data_root, tmp_path / "run", **{"logger": name}))
    assert f'pip install "torchreid-nas[{name}]"' in error and not (tmp_path / "run").exists()


def test_no_logger_writes_nothing(data_root, copied):
    shutil.rmtree(copied / "test")
    assert main(arguments(data_root, copied, "--stages", "test", **{"logger": "none"})) == 0
    assert not (copied / "test").exists()
