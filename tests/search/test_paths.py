"""The additive model finds the slots that matter, and says how sure it is."""
import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.search.calibration import mean_by_identity, recalibrate, retrieval_losses
from torchreid_nas.search.paths import additive_effects, draw_paths


def test_effects_are_found_with_fewer_paths_than_slots():
    generator = torch.Generator().manual_seed(0)
    paths = draw_paths(40, 52, generator)
    truth = torch.zeros(52, dtype=torch.float64)
    truth[:6], truth[20:26] = -1.0, 1.0
    losses = paths @ truth + 0.3 * torch.randn(40, generator=generator)
    effects = additive_effects(paths, losses)
    assert (effects.mean[:6] < 0).all() and (effects.mean[20:26] > 0).all()
    assert ((effects.mean - truth).abs() < 4 * effects.error).all()


def test_losses_without_pattern_give_no_slot_that_is_sure():
    generator = torch.Generator().manual_seed(1)
    effects = additive_effects(draw_paths(60, 20, generator), torch.randn(60, generator=generator))
    assert (effects.mean.abs() < 3 * effects.error).all()


def test_effects_equal_least_squares_where_there_is_no_noise():
    generator = torch.Generator().manual_seed(2)
    paths, truth = draw_paths(64, 8, generator), torch.randn(8, generator=generator).double()
    torch.testing.assert_close(additive_effects(paths, paths @ truth + 3).mean, truth, rtol=0.02, atol=0.02)


def test_too_few_paths_are_refused():
    with pytest.raises(InputError, match="at least 4 paths"):
        additive_effects(torch.zeros(3, 2), torch.zeros(3))


def test_recalibration_gives_the_statistics_of_all_images_together():
    norm = torch.nn.BatchNorm2d(3)
    images = torch.randn(4, 8, 3, 2, 2)
    recalibrate(norm.eval(), norm, images)
    torch.testing.assert_close(norm.running_mean, images.mean((0, 1, 3, 4)))
    assert not norm.training and norm.momentum == 0.1
    with pytest.raises(InputError, match="at least one batch"):
        recalibrate(norm, norm, [])


def test_retrieval_losses_equal_a_loop():
    visible, infrared = torch.randn(4, 5), torch.randn(6, 5)
    v_pids, t_pids = torch.tensor([0, 0, 1, 2]), torch.tensor([2, 1, 1, 0, 0, 2])
    found = retrieval_losses(visible, infrared, v_pids, t_pids, temperature=0.2)
    cosine = torch.nn.functional.cosine_similarity(visible[:, None], infrared[None], dim=2)
    expected = [
        -torch.log(torch.exp(row / 0.2)[own == pid].sum() / torch.exp(row / 0.2).sum())
        for rows, own, pids in ((cosine, t_pids, v_pids), (cosine.T, v_pids, t_pids)) for row, pid in zip(rows, pids)
    ]
    torch.testing.assert_close(found, torch.stack(expected))
    assert mean_by_identity(found, torch.cat([v_pids, t_pids])).shape == (3,)
    with pytest.raises(InputError, match="in both modalities"):
        retrieval_losses(visible, infrared, v_pids, t_pids + 1)
