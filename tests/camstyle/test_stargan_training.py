"""Training a StarGAN: each step is the paper's, and an interruption changes nothing."""
from __future__ import annotations

import copy
import json

import pytest
import torch
from torch.nn import functional as F

from torchreid_nas.camstyle.images import derived_generator
from torchreid_nas.camstyle.settings import StarGANSettings
from torchreid_nas.camstyle.training import CHECKPOINT, HISTORY, Schedule, Trainer
from torchreid_nas.errors import InputError
from torchreid_nas.files import load_checkpoint

CPU = torch.device("cpu")
TINY = {"height": 32, "width": 16, "channels": 4, "residual_blocks": 1, "batch_size": 3, "n_critic": 2, "lr": 1e-3}


def trainer_of(images, **changes):
    return Trainer(StarGANSettings(**{**TINY, "iterations": 6, **changes}), images, "market1501", CPU)


def run(trainer, folder, **schedule):
    pictured = []
    trainer.run(folder, Schedule(**{"workers": 0, **schedule}), pictured.append)
    return pictured


def weights(trainer):
    return [p.clone() for network in (trainer.generator, trainer.discriminator) for p in network.state_dict().values()]


def equal(first, second):
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second))


def batch(images, count=3):
    pairs = [images[2 * index] for index in range(count)]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


# -- a step -------------------------------------------------------------------


def test_a_step_is_that_of_the_formulas(camera_images):
    images = camera_images()
    trainer = trainer_of(images, n_critic=1, gradient_penalty=7.0, classification=2.0, reconstruction=3.0)
    generator, discriminator = copy.deepcopy(trainer.generator), copy.deepcopy(trainer.discriminator)
    real, cameras = batch(images)
    trainer.step(real, cameras)

    draws = derived_generator(1, 1, 0)
    targets = cameras[torch.randperm(3, generator=draws)]
    mix = torch.rand(3, 1, 1, 1, generator=draws)
    fake = generator(real, targets).detach()
    between = (mix * real + (1 - mix) * fake).requires_grad_()
    slopes = torch.autograd.grad(discriminator(between)[0].sum(), between, create_graph=True)[0]
    penalty = ((slopes.pow(2).sum((1, 2, 3)).sqrt() - 1) ** 2).mean()
    adversarial = discriminator(real)[0].mean() - discriminator(fake)[0].mean() - 7 * penalty
    (-adversarial + 2 * F.cross_entropy(discriminator(real)[1], cameras)).backward()
    moved = copy.deepcopy(trainer.discriminator)
    fake = generator(real, targets)
    scores, logits = moved(fake)
    reconstruction = (generator(fake, cameras) - real).abs().mean()
    (-scores.mean() + 2 * F.cross_entropy(logits, targets) + 3 * reconstruction).backward()

    for ours, naive in ((trainer.discriminator, discriminator), (trainer.generator, generator)):
        for parameter, expected in zip(ours.parameters(), naive.parameters()):
            torch.testing.assert_close(parameter.grad, expected.grad, rtol=1e-4, atol=1e-5)
            expected.grad = parameter.grad
        torch.optim.Adam(naive.parameters(), 1e-3, (0.5, 0.999)).step()
        assert equal(list(ours.parameters()), list(naive.parameters()))


def test_the_generator_moves_every_n_critic_steps_the_discriminator_each(camera_images):
    trainer = trainer_of(camera_images(), n_critic=3)
    moved = []
    for _ in range(6):
        networks = trainer.generator, trainer.discriminator
        before = [[parameter.clone() for parameter in network.parameters()] for network in networks]
        trainer.step(*batch(trainer.images))
        moved.append(tuple(not equal(old, list(network.parameters())) for old, network in zip(before, networks)))
    assert moved == [(False, True), (False, True), (True, True)] * 2
    assert all(p.requires_grad for p in trainer.discriminator.parameters())


def test_the_optimisers_follow_the_settings(camera_images):
    trainer = trainer_of(camera_images(), iterations=4, beta1=0.4)
    rates = []
    for _ in range(4):
        trainer.step(*batch(trainer.images))
        rates.append({group["lr"] for optimizer in trainer.optimizers.values() for group in optimizer.param_groups})
    assert rates == [{1e-3}, {1e-3}, {1e-3}, {5e-4}]
    assert {optimizer.param_groups[0]["betas"] for optimizer in trainer.optimizers.values()} == {(0.4, 0.999)}


def test_training_leaves_the_global_random_state_alone(camera_images, tmp_path):
    images = camera_images()
    before = torch.get_rng_state()
    trainer = trainer_of(images)
    trainer.step(*batch(images))
    assert torch.equal(torch.get_rng_state(), before)


def test_bf16_trains_weights_of_float32(camera_images, tmp_path):
    trainer = trainer_of(camera_images(), amp="bf16")
    run(trainer, tmp_path)
    assert {p.dtype for p in weights(trainer)} == {torch.float32}
    plain = trainer_of(trainer.images)
    run(plain, tmp_path / "plain")
    assert not equal(weights(plain), weights(trainer))
    for name in ("camera_real", "reconstruction", "penalty"):
        assert trainer.history[-1][name] == pytest.approx(plain.history[-1][name], rel=0.1)


# -- a run --------------------------------------------------------------------


def test_a_resumed_training_equals_an_undisturbed_one_to_the_bit(camera_images, tmp_path):
    images = camera_images()
    whole = trainer_of(images)
    run(whole, tmp_path / "whole", log_every=4)

    class Killed(Exception):
        pass

    def picture(iteration):
        raise Killed

    # Killed in iteration 5, after the checkpoint of iteration 3 and a row of history at 4.
    halved = trainer_of(images)
    with pytest.raises(Killed):
        halved.run(tmp_path / "halved", Schedule(log_every=4, checkpoint_every=3, sample_every=5, workers=0), picture)
    resumed = trainer_of(images)
    resumed.load_state_dict(load_checkpoint(tmp_path / "halved" / CHECKPOINT))
    assert resumed.iteration == 3
    run(resumed, tmp_path / "halved", log_every=4, checkpoint_every=1)
    assert equal(weights(resumed), weights(whole)) and resumed.history == whole.history
    first, second = (load_checkpoint(tmp_path / name / CHECKPOINT) for name in ("whole", "halved"))
    for key in ("generator_optimizer", "discriminator_optimizer"):
        for index, state in first[key]["state"].items():
            assert all(torch.equal(value, second[key]["state"][index][name]) for name, value in state.items())
    assert (tmp_path / "whole" / HISTORY).read_text() == (tmp_path / "halved" / HISTORY).read_text()


def test_loader_processes_change_no_weight_but_the_seed_does(camera_images, tmp_path):
    images = camera_images()
    runs = {name: trainer_of(images, seed=seed, iterations=3) for name, seed in (("a", 1), ("b", 1), ("c", 2))}
    for name, trainer in runs.items():
        run(trainer, tmp_path / name, workers=2 if name == "b" else 0)
    assert equal(weights(runs["a"]), weights(runs["b"]))
    assert not equal(weights(runs["a"]), weights(runs["c"]))


def test_history_has_the_means_since_the_last_row_and_pictures_in_time(camera_images, tmp_path):
    images = camera_images()
    trainer, single = trainer_of(images), trainer_of(images)
    assert run(trainer, tmp_path, log_every=4, sample_every=4) == [4, 6]
    run(single, tmp_path / "single", log_every=1)
    rows = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [4, 6] and rows == trainer.history
    assert list(rows[0]) == [
        "iteration", "critic", "penalty", "camera_real", "adversarial", "camera_fake", "reconstruction", "lr"
    ]
    for name in ("critic", "penalty"):
        assert rows[0][name] == pytest.approx(sum(row[name] for row in single.history[:4]) / 4)
    assert rows[1]["reconstruction"] == pytest.approx(single.history[5]["reconstruction"])
    assert "reconstruction" not in single.history[4]
    assert rows[1]["lr"] == pytest.approx(1e-3 / 3)


def test_a_loss_that_is_no_number_ends_the_training_before_it_is_saved(camera_images, tmp_path):
    trainer = trainer_of(camera_images())
    next(trainer.generator.parameters()).data.fill_(float("nan"))
    with pytest.raises(InputError, match='the loss "critic" became nan by iteration 2; lower --lr'):
        run(trainer, tmp_path, checkpoint_every=2)
    assert not (tmp_path / CHECKPOINT).exists()


def test_a_broken_image_ends_the_training_in_one_sentence_from_any_process(camera_images, tmp_path):
    images = camera_images()
    with open(images.items[4][0], "wb") as file:
        file.write(b"no image")
    for workers in (0, 1):
        with pytest.raises(InputError) as error:
            run(trainer_of(images), tmp_path, workers=workers)
        assert str(error.value).startswith(f'the image "{images.items[4][0]}" is truncated or no image')


def test_a_checkpoint_of_other_networks_is_refused(camera_images):
    images = camera_images()
    state = trainer_of(images, channels=2).state_dict()
    with pytest.raises(InputError, match="the checkpoint does not fit this StarGAN"):
        trainer_of(images).load_state_dict(state)
    with pytest.raises(InputError, match="the checkpoint does not fit this StarGAN"):
        trainer_of(images).load_state_dict({"model": {}})


@pytest.mark.parametrize("values", [{"log_every": 0}, {"checkpoint_every": -1}, {"workers": -1}])
def test_a_schedule_out_of_range_is_refused(values):
    with pytest.raises(InputError, match=f"{next(iter(values))} is .*, expected at least"):
        Schedule(**values)
