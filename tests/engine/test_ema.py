"""The weight average against its formula, and its separation from the trained weights."""
import torch
from torch import nn

from torchreid_nas.engine import ExponentialMovingAverage


def test_follows_the_formula_for_parameters_and_running_statistics():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ema = ExponentialMovingAverage(model, decay=0.8)
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    for _ in range(3):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(5, 3))
        ema.update()
        for key, value in model.state_dict().items():
            expected[key] = 0.8 * expected[key] + 0.2 * value if value.is_floating_point() else value.clone()
    for key, value in ema.module.state_dict().items():
        torch.testing.assert_close(value, expected[key])


def test_never_touches_the_trained_model():
    model = nn.Linear(2, 2)
    ema = ExponentialMovingAverage(model, decay=0.5)
    with torch.no_grad():
        model.weight.add_(1)
    before = model.weight.clone()
    ema.update()
    ema.module.weight.zero_()
    torch.testing.assert_close(model.weight, before)
    assert not ema.module.training and not any(p.requires_grad for p in ema.module.parameters())
