"""The objectives of StarGAN against the formulas, written out."""
from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from torchreid_nas.camstyle.losses import discriminator_terms, generator_terms, gradient_penalty
from torchreid_nas.camstyle.networks import Discriminator


class Scores(nn.Module):
    """A discriminator whose patch scores are the pixels of the first channel and whose logits are given."""

    def __init__(self, logits):
        super().__init__()
        self.logits, self.seen = logits, []

    def forward(self, images):
        self.seen.append(images)
        return images[:, :1], self.logits


def batch(*shape, seed=0, dtype=torch.float64):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -- gradient penalty ---------------------------------------------------------


def test_the_penalty_of_a_linear_critic_is_that_of_its_slope():
    weight = batch(3, 4, 4)
    real, fake = batch(5, 3, 4, 4, seed=1), batch(5, 3, 4, 4, seed=2)
    value = gradient_penalty(lambda x: (x * weight).sum((1, 2, 3)), real, fake, batch(5, 1, 1, 1, seed=3))
    torch.testing.assert_close(value, (weight.norm() - 1) ** 2)
    slope_one = weight / weight.norm()
    assert gradient_penalty(lambda x: (x * slope_one).sum((1, 2, 3)), real, fake, batch(5, 1, 1, 1)).abs() < 1e-25


@pytest.mark.parametrize("mix", [0.0, 0.25, 1.0])
def test_the_penalty_looks_between_the_images(mix):
    # The gradient of |x|²/2 is x, so that the value tells where it was taken.
    real, fake = batch(4, 3, 2, 2, seed=1), batch(4, 3, 2, 2, seed=2)
    value = gradient_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, real, fake, torch.full((4, 1, 1, 1), mix))
    between = mix * real + (1 - mix) * fake
    torch.testing.assert_close(value, sum((x.norm() - 1) ** 2 for x in between) / 4)


def test_the_penalty_and_its_gradient_equal_a_loop_over_images():
    torch.manual_seed(0)
    discriminator = Discriminator(2, 16, 8, 2, 2).double()
    real, fake, mix = batch(3, 3, 16, 8, seed=1), batch(3, 3, 16, 8, seed=2), batch(3, 1, 1, 1, seed=3)
    total = 0.0
    for x, y, a in zip(real, fake, mix):
        point = (a * x + (1 - a) * y)[None].requires_grad_()
        (slope,) = torch.autograd.grad(discriminator(point)[0].sum(), point, create_graph=True)
        total = total + (torch.sqrt((slope**2).sum()) - 1) ** 2
    expected = torch.autograd.grad(total / 3, discriminator.layers[0].weight)
    value = gradient_penalty(lambda x: discriminator(x)[0], real, fake, mix)
    torch.testing.assert_close(value, total / 3)
    torch.testing.assert_close(torch.autograd.grad(value, discriminator.layers[0].weight), expected)


def test_gradcheck_of_the_penalty():
    real, fake, mix = batch(3, 2, 2, 2, seed=1), batch(3, 2, 2, 2, seed=2), batch(3, 1, 1, 1, seed=3)
    penalty = lambda weight: gradient_penalty(lambda x: torch.tanh(x.flatten(1) @ weight), real, fake, mix)
    assert torch.autograd.gradcheck(penalty, batch(8, 3).requires_grad_())


def test_a_flat_critic_has_penalty_1_and_a_finite_gradient():
    weight = torch.zeros(12, requires_grad=True)
    real, fake = torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    value = gradient_penalty(lambda x: x.flatten(1) @ weight, real, fake, torch.zeros(2, 1, 1, 1))
    value.backward()
    assert value == 1 and torch.isfinite(weight.grad).all()


def test_the_penalty_sends_no_gradient_into_images():
    real, fake = batch(2, 3, 2, 2, seed=4), batch(2, 3, 2, 2).requires_grad_()
    weight = batch(12, seed=5).requires_grad_()
    gradient_penalty(lambda x: x.flatten(1).square() @ weight, real, fake, batch(2, 1, 1, 1)).backward()
    assert fake.grad is None and weight.grad.abs().sum() > 0


def test_the_penalty_is_float32_under_autocast():
    torch.manual_seed(0)
    discriminator = Discriminator(2, 16, 16, 2, 2)
    real, mix = batch(2, 3, 16, 16, dtype=torch.float32), batch(2, 1, 1, 1, dtype=torch.float32)
    fake = batch(2, 3, 16, 16, seed=1).bfloat16()
    critic = lambda images: discriminator(images)[0]
    plain = gradient_penalty(critic, real, fake.float(), mix)
    with torch.autocast("cpu", torch.bfloat16):
        assert critic(real).dtype == torch.bfloat16
        value = gradient_penalty(critic, real, fake, mix)
    assert value.dtype == torch.float32 and torch.equal(value, plain)


# -- the two networks' terms --------------------------------------------------


def test_the_discriminator_s_terms_by_hand():
    real = torch.zeros(2, 3, 1, 2)
    real[:, 0] = torch.tensor([[1.0, 2.0], [3.0, 6.0]])[:, None]
    fake = torch.full((2, 3, 1, 2), 0.5, requires_grad=True)
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    discriminator = Scores(logits)
    terms = discriminator_terms(discriminator, real, torch.tensor([1, 1]), fake, torch.rand(2, 1, 1, 1))
    assert set(terms) == {"critic", "penalty", "camera_real"}
    assert terms["critic"].item() == pytest.approx(0.5 - 3.0)
    # Of the true camera: 3/4 for the first image, 1/5 for the second.
    assert terms["camera_real"].item() == pytest.approx(-(math.log(3 / 4) + math.log(1 / 5)) / 2)
    # Each of the two pixels of the first channel has slope 1.
    assert terms["penalty"].item() == pytest.approx((math.sqrt(2) - 1) ** 2)
    assert not any(image.requires_grad for image in discriminator.seen[:2])


def test_the_generator_s_terms_by_hand():
    class Shift(nn.Module):
        """Adds the label to every pixel."""

        def forward(self, images, cameras):
            return images + cameras.view(-1, 1, 1, 1)

    real = torch.zeros(2, 3, 1, 2)
    cameras, targets = torch.tensor([0, 1]), torch.tensor([1, 0])
    logits = torch.tensor([[0.0, math.log(3.0)], [math.log(4.0), 0.0]])
    terms = generator_terms(Shift(), Scores(logits), real, cameras, targets)
    assert set(terms) == {"adversarial", "camera_fake", "reconstruction"}
    # G(x, c) is 1 for the first image, 0 for the second.
    assert terms["adversarial"].item() == -0.5
    assert terms["camera_fake"].item() == pytest.approx(-(math.log(3 / 4) + math.log(4 / 5)) / 2)
    # There and back both are 1 away.
    assert terms["reconstruction"].item() == 1.0
