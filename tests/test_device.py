"""What follows from the device: precision, memory format, fused optimisers."""
import copy
import warnings
from types import SimpleNamespace

import pytest
import torch

from torchreid_nas import device
from torchreid_nas.config import load_config
from torchreid_nas.engine import CrossModalityEngine, TrainingOptions
from torchreid_nas.errors import InputError, InputWarning
from torchreid_nas.layers import modality_context
from torchreid_nas.models import two_stream_resnet18, two_stream_resnet50

CPU = torch.device("cpu")


def resolved(monkeypatch, half, fused, *overrides):
    monkeypatch.setattr(device, "computes_bfloat16", lambda _: half)
    monkeypatch.setattr(device, "fuses_optimizers", lambda _: fused)
    train = device.resolve_config(load_config(None, overrides), CPU).train
    return train.amp, train.channels_last, train.fused


@pytest.mark.parametrize("name", ["mps", "xpu", "hpu", "xla", "meta", "opengl", "mtia"])
def test_a_device_that_cannot_compute_here_is_one_sentence(name):
    with pytest.raises(InputError, match=f'the device is "{name}", but torch cannot compute on it here; use cpu'):
        device.find_device(name)


def test_without_the_operator_that_knows_of_bfloat16_the_cpu_takes_float32(monkeypatch):
    monkeypatch.setattr(device, "find_operator", lambda name: None)
    assert not device.computes_bfloat16(CPU)


def test_a_number_beyond_the_gpus_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("invalid device ordinal")))
    with pytest.raises(InputError, match='the device is "cuda:9", but torch cannot compute on it here'):
        device.find_device("cuda:9")


@pytest.mark.parametrize("half, fused, expected", [
    (True, True, ("bf16", True, True)), (False, True, ("none", True, True)), (True, False, ("bf16", True, False)),
])
def test_auto_follows_from_the_hardware(monkeypatch, half, fused, expected):
    assert resolved(monkeypatch, half, fused) == expected


def test_channels_last_in_float32_is_for_cpus_with_onednn(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert resolved(monkeypatch, False, True) == ("none", False, True)
    monkeypatch.undo()
    monkeypatch.setattr(device, "computes_bfloat16", lambda _: False)
    monkeypatch.setattr(device, "fuses_optimizers", lambda _: True)
    train = device.resolve_config(load_config(), torch.device("cuda")).train
    assert (train.amp, train.channels_last) == ("none", False)


@pytest.mark.parametrize("half", [True, False])
def test_what_is_said_explicitly_stays(monkeypatch, half):
    said = ("train.amp", "fp16", "train.channels_last", "False", "train.fused", "False")
    assert resolved(monkeypatch, half, True, *said) == ("fp16", False, False)


def test_bfloat16_that_is_only_emulated_is_warned_of(monkeypatch):
    with pytest.warns(InputWarning, match="train.amp is bf16, which cpu here does not compute .* set it none or auto"):
        assert resolved(monkeypatch, False, True, "train.amp", "bf16")[0] == "bf16"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resolved(monkeypatch, True, True, "train.amp", "bf16")
        resolved(monkeypatch, False, True)


def test_the_given_config_stays_as_it_was_and_the_resolved_one_is_frozen():
    cfg = load_config()
    found = device.resolve_config(cfg, CPU)
    assert (cfg.train.amp, cfg.train.channels_last, cfg.train.fused) == ("auto", "auto", "auto")
    assert device.resolve_config(found, CPU) == found
    with pytest.raises(AttributeError):
        found.train.amp = "none"


def test_fused_optimisers_that_torch_lacks_are_refused(monkeypatch):
    with pytest.raises(InputError, match="train.fused is True, but torch .* has no fused optimisers for cpu"):
        resolved(monkeypatch, True, False, "train.fused", "True")


def test_emulated_bfloat16_is_not_taken_for_computed(monkeypatch):
    monkeypatch.setattr(device.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert not device.computes_bfloat16(CPU)
    assert not device.computes_bfloat16(torch.device("meta"))


@pytest.mark.parametrize("capability, expected", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_a_gpu_computes_in_bfloat16_from_ampere_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert device.computes_bfloat16(torch.device("cuda")) is expected


def test_a_torch_without_fused_optimisers_is_noticed(monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("`fused=True` requires all the params to be floating point Tensors of supported devices")

    monkeypatch.setattr(torch.optim, "Adam", refuse)
    assert not device.fuses_optimizers(CPU)


def test_moving_to_where_a_tensor_is_changes_nothing():
    tensor = torch.arange(3)
    assert device.move(tensor, CPU) is tensor


@pytest.mark.gpu
def test_a_move_to_the_gpu_waits_for_nothing():
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved = device.move(torch.arange(3), torch.device("cuda"))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert moved.is_cuda and moved.cpu().tolist() == [0, 1, 2]


@pytest.mark.parametrize("build", [two_stream_resnet18, two_stream_resnet50])
def test_in_place_or_not_the_numbers_are_the_same(build):
    torch.manual_seed(0)
    model = build(3, pretrained=False, width=0.125).train()
    images, found = torch.randn(8, 3, 32, 16), []
    relus = [module for module in model.modules() if type(module) is torch.nn.ReLU]
    for in_place in (True, False):
        device.rectify_in_place(model, in_place)
        assert relus and all(relu.inplace is in_place for relu in relus)
        twin = copy.deepcopy(model)
        with modality_context("both"):
            features = twin.backbone(images)
        features.square().mean().backward()
        found.append([features.detach(), *(p.grad for p in twin.backbone.parameters())])
    for first, second in zip(*found):
        assert torch.equal(first, second)


@pytest.mark.parametrize("amp, in_place", [("none", True), ("bf16", False)])
def test_an_engine_rectifies_in_place_but_in_bfloat16_on_a_cpu(amp, in_place):
    data = SimpleNamespace(train_loader=None, test_loader={}, num_train_pids=3)
    model = two_stream_resnet18(3, pretrained=False, width=0.125)
    engine = CrossModalityEngine(data, model, None, None, TrainingOptions(CPU, amp=amp))
    assert engine.model.backbone.relu.inplace is engine.model.backbone.layer1[0].relu.inplace is in_place
