"""Readings: the epoch's means, and what is shown while a device is behind."""
import pytest
import torch

from torchreid_nas.engine.readings import Readings


def test_means_are_over_the_steps_that_had_the_loss():
    readings = Readings()
    readings.add({"ce": torch.tensor(1.0, requires_grad=True), "architecture": torch.tensor(5.0)})
    readings.add({"ce": torch.tensor(2.0)})
    assert readings.means() == {"ce": 1.5, "architecture": 5.0}


def test_on_a_cpu_every_step_is_known_at_once():
    readings = Readings()
    for value in (1.0, 2.0):
        readings.add({"ce": torch.tensor(value), "triplet": torch.tensor(3.0)})
        assert readings.newest() == {"ce": value, "triplet": 3.0}
    assert readings.newest() == {}


def test_a_device_that_is_behind_is_not_waited_for(monkeypatch):
    arrived = []
    monkeypatch.setattr(Readings, "_arrived", staticmethod(lambda event: bool(arrived) and arrived.pop()))
    readings = Readings()
    for value in (1.0, 2.0, 3.0):
        readings.add({"ce": torch.tensor(value)})
    assert readings.newest() == {}
    arrived.extend([False, True, True])
    assert readings.newest() == {"ce": 2.0}
    arrived.append(True)
    assert readings.newest() == {"ce": 3.0}
    assert readings.means() == {"ce": 2.0}


@pytest.mark.gpu
def test_what_a_gpu_computes_arrives():
    readings = Readings()
    readings.add({"ce": torch.tensor(2.0, device="cuda"), "triplet": torch.tensor(0.5, device="cuda")})
    torch.cuda.synchronize()
    assert readings.newest() == {"ce": 2.0, "triplet": 0.5}
