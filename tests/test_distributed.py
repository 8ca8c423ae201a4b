"""torchreid_nas.distributed in one process; tests/distributed/ has two and three."""
import pytest
import torch

from torchreid_nas import distributed
from torchreid_nas.errors import InputError


def test_one_process_gets_its_own_tensors_back_without_a_copy():
    x = torch.randn(4, 3, requires_grad=True)
    assert distributed.gather(x) is x
    assert distributed.gather_batch(x, (2, 2)) is x
    assert distributed.all_sum(x) is x


def test_a_world_of_one_process_joins_no_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with distributed.process_group("cuda") as device:
        assert device == torch.device("cuda")
        assert distributed.processes() == 1


@pytest.mark.parametrize("device, gpus", [("cuda", 1), ("cuda:1", 2)])
def test_a_process_without_a_gpu_of_its_own_is_one_sentence(monkeypatch, device, gpus):
    for name, value in {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with (
        pytest.raises(InputError, match=f"of which there are {gpus}; set the device cuda and --nproc_per_node at most {gpus}"),
        distributed.process_group(device),
    ):
        pass
