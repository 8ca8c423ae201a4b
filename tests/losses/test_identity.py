"""The cross-entropy of the engines is torchreid's."""
import pytest
import torch
import torchreid

from torchreid_nas.losses import identity_loss


@pytest.mark.parametrize("label_smooth", [False, True])
def test_equals_torchreids_value_and_gradient(label_smooth):
    generator = torch.Generator().manual_seed(0)
    logits, pids = 3 * torch.randn(8, 11, generator=generator), torch.randint(11, (8,), generator=generator)
    results = []
    for loss in (identity_loss(label_smooth), torchreid.losses.CrossEntropyLoss(11, use_gpu=False, label_smooth=label_smooth)):
        own = logits.clone().requires_grad_()
        value = loss(own, pids)
        value.backward()
        results.append((value.detach(), own.grad))
    torch.testing.assert_close(*results)
