"""No step waits for the GPU: checked on the CPU by following what is computed, and on a GPU by torch's own alarm."""
import pytest
import torch
from steps import ENGINES, prepared
from synchronisation import nothing_waits_for
from torch import nn

from torchreid_nas.engine.readings import Readings


@pytest.mark.parametrize("kind", ENGINES)
def test_no_step_reads_what_the_device_computes(tiny_config, monkeypatch, kind):
    engine, batches, modules = prepared(tiny_config, kind)
    if getattr(engine, "memory", None) is not None:
        # As on a GPU, where an update by features that are not finite is found out later.
        monkeypatch.setattr(type(engine.memory), "_waits_for_nothing", True)
    # A GPU that is behind: what has been sent has not arrived.
    monkeypatch.setattr(Readings, "_arrived", staticmethod(lambda event: False))
    with nothing_waits_for(engine.model, *modules):
        for engine.batch_idx, data in batches:
            assert engine.forward_backward(data) == {}
    assert all(torch.isfinite(torch.tensor(value)) for value in engine._readings.means().values())


def test_the_check_finds_what_waits():
    layer = nn.Linear(2, 2)
    for waits in (
        lambda y: y.sum().item(), lambda y: bool((y > 0).all()), lambda y: y[y > 0], lambda y: y.nonzero(),
        lambda y: y.sort().indices.tolist(), lambda y: torch.equal(y, y),
    ):
        with pytest.raises(AssertionError, match="a GPU would be waited for"), nothing_waits_for(layer):
            waits(layer(torch.ones(1, 2)))
    with nothing_waits_for(layer):
        assert torch.ones(2).sum().item() == 2


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ENGINES)
def test_no_step_waits_for_a_gpu(tiny_config, kind):
    engine, batches, _ = prepared(tiny_config, kind, device="cuda")
    (_, first), (_, second) = batches
    # The first step allocates, and chooses kernels.
    engine.batch_idx = 0
    engine.forward_backward(first)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        engine.batch_idx = 1
        engine.forward_backward(second)
    finally:
        torch.cuda.set_sync_debug_mode("default")
