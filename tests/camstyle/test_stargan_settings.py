"""The settings of a StarGAN: the paper's defaults, and what is refused."""
from __future__ import annotations

import dataclasses

import pytest

from torchreid_nas.camstyle.settings import StarGANSettings
from torchreid_nas.errors import InputError


@pytest.mark.parametrize("values, said", [
    ({"height": 30}, "height is 30, expected a multiple of 4, since the generator halves it twice; use 28 or 32"),
    ({"width": 18}, "width is 18"),
    ({"height": 4}, "height is 4, expected a whole number from 8"),
    ({"iterations": 0}, "iterations is 0"),
    ({"iterations": 1.5}, "iterations is 1.5, expected a whole number"),
    ({"batch_size": True}, "batch_size is True"),
    ({"lr": -1.0}, "lr is -1.0, expected a number from 0.0 to 1.0"),
    ({"lr": float("nan")}, "lr is nan"),
    ({"seed": -1}, "seed is -1"),
    ({"amp": "fp16"}, 'amp is "fp16", expected one of none, bf16; did you mean "bf16"?'),
])
def test_a_value_out_of_its_range_is_named(values, said):
    with pytest.raises(InputError) as error:
        StarGANSettings(**values)
    assert said in str(error.value)


def test_the_learning_rate_is_constant_at_first_and_then_falls_linearly():
    settings = StarGANSettings(iterations=10, lr=1.0)
    assert [settings.learning_rate(i) for i in range(10)] == pytest.approx([1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    paper = StarGANSettings()
    assert paper.learning_rate(100_000) == 1e-4 and paper.learning_rate(199_999) == 1e-4 / 100_000
    assert StarGANSettings(iterations=1, lr=1.0).learning_rate(0) == 1.0


@pytest.mark.parametrize("height, width, layers", [
    (128, 128, 6), (256, 128, 6), (512, 512, 6), (256, 64, 5), (32, 16, 3), (16, 32, 3), (48, 24, 3), (8, 8, 2),
])
def test_the_discriminator_has_six_layers_or_as_many_as_leave_two_pixels(height, width, layers):
    assert StarGANSettings(height=height, width=width).discriminator_layers == layers
    assert min(height, width) >> layers >= 2


def test_settings_survive_a_checkpoint_and_others_are_refused():
    settings = StarGANSettings(height=64, width=32, lr=2e-4)
    assert StarGANSettings.from_dict(dataclasses.asdict(settings)) == settings
    with pytest.raises(InputError, match="the settings of a StarGAN are height, width"):
        StarGANSettings.from_dict({"height": 64})
