"""Training of a StarGAN across cameras: a function of its settings and images, also after an interruption."""
from __future__ import annotations

__all__ = ["CHECKPOINT", "HISTORY", "Schedule", "Trainer", "checked_state"]

import dataclasses
import functools
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from tqdm.auto import tqdm

from torchreid_nas.camstyle.images import CameraImages, ImageStream, derived_generator
from torchreid_nas.camstyle.losses import discriminator_terms, generator_terms
from torchreid_nas.camstyle.networks import Discriminator, Generator
from torchreid_nas.camstyle.settings import StarGANSettings
from torchreid_nas.data.manager import ImageLoader
from torchreid_nas.errors import InputError
from torchreid_nas.files import save_checkpoint, write_text

CHECKPOINT, HISTORY = "checkpoint.pth", "history.jsonl"

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The intervals of logs, checkpoints and pictures in iterations, and the loaders; changes no weight.

    Args:
        log_every: between two rows of the history.
        checkpoint_every: between two checkpoints.
        sample_every: between two pictures.
        workers: processes that load images; 0 loads in the process of the training.

    Raises:
        InputError: a number is out of range.

    >>> Schedule(workers=0)
    Schedule(log_every=500, checkpoint_every=5000, sample_every=5000, workers=0)
    """

    log_every: int = 500
    checkpoint_every: int = 5000
    sample_every: int = 5000
    workers: int = 4

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, least = getattr(self, field.name), int(field.name != "workers")
            if value < least:
                raise InputError(f"StarGAN: {field.name} is {value}, expected at least {least}")


class Trainer:
    """Generator, discriminator and their optimisers (Choi et al., CVPR 2018).

    The targets of a batch are the cameras of the batch, permuted, as in the
    authors' code: the generated images have each camera as often as the real
    images. All draws of an iteration (images, targets, the mixtures of the
    gradient penalty) depend on the seed and the number of the iteration only. The
    CPU draws them, so that every device sees the same values.

    Args:
        settings: see :class:`StarGANSettings`.
        images: to learn from, of the size of the settings.
        name: of the data set, for the checkpoint.
        device: of the networks.

    Attributes:
        iteration: number of iterations done.
        history: rows of means since the last row: ``iteration``, the terms
            of :mod:`torchreid_nas.camstyle.losses` without loss weights, ``lr``.
    """

    def __init__(self, settings: StarGANSettings, images: CameraImages, name: str, device: torch.device) -> None:
        self.settings, self.images, self.name, self.device = settings, images, name, device
        # The CPU draws the weights: they are the same on every device, and the global random state does not change.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.generator = Generator(len(images.camids), settings.channels, settings.residual_blocks)
            self.discriminator = Discriminator(
                len(images.camids), settings.height, settings.width, settings.channels, settings.discriminator_layers
            )
        self.generator.to(device)
        self.discriminator.to(device)
        betas = settings.beta1, settings.beta2
        self.optimizers = {
            key: torch.optim.Adam(network.parameters(), settings.lr, betas) for key, network in self._networks.items()
        }
        self.iteration = 0
        self.history: list[dict[str, Any]] = []
        self._sums: dict[str, tuple[torch.Tensor, int]] = {}

    def step(self, real: torch.Tensor, cameras: torch.Tensor) -> None:
        """Do one iteration: update the discriminator, and in every ``n_critic``-th iteration the generator.

        Args:
            real: (N, 3, H, W) in [-1, 1], on any device.
            cameras: (N,) int64 labels.
        """
        settings = self.settings
        draws = derived_generator(settings.seed, 1, self.iteration)
        targets = cameras[torch.randperm(len(cameras), generator=draws)].to(self.device)
        mix = torch.rand(len(cameras), 1, 1, 1, generator=draws).to(self.device)
        real, cameras = real.to(self.device, non_blocking=True), cameras.to(self.device)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate(self.iteration)
        with self._autocast():
            with torch.no_grad():
                fake = self.generator(real, targets)
            terms = discriminator_terms(self.discriminator, real, cameras, fake.float(), mix)
        self._update("discriminator", terms)
        if (self.iteration + 1) % settings.n_critic == 0:
            # The discriminator only passes the gradient on: the gradients of its weights are not needed.
            self.discriminator.requires_grad_(False)
            with self._autocast():
                terms = generator_terms(self.generator, self.discriminator, real, cameras, targets)
            self._update("generator", terms)
            self.discriminator.requires_grad_(True)
        self.iteration += 1

    def run(self, folder: Path, schedule: Schedule, picture: Callable[[int], None]) -> None:
        """Train from the current iteration to the end, and write checkpoint and history into ``folder``.

        Args:
            folder: of the run.
            schedule: see :class:`Schedule`.
            picture: called every ``sample_every`` iterations and at the end, with the number of iterations done.

        Raises:
            InputError: an image is broken, a loss is not finite, or the disk is full.
        """
        settings, start, begun = self.settings, self.iteration, time.time()
        stream = ImageStream(self.images, settings.seed)
        positions = range(start * settings.batch_size, settings.iterations * settings.batch_size)
        loader = cast(Iterable[tuple[torch.Tensor, torch.Tensor]], ImageLoader(
            stream, settings.batch_size, sampler=positions, num_workers=schedule.workers,
            pin_memory=self.device.type == "cuda",
        ))
        with tqdm(total=settings.iterations, initial=start, desc="StarGAN", disable=None, leave=False) as bar:
            for real, cameras in loader:
                self.step(real, cameras)
                bar.update()
                last = self.iteration == settings.iterations
                if last or self.iteration % schedule.log_every == 0:
                    self._log()
                    write_text(folder / HISTORY, "".join(f"{json.dumps(row)}\n" for row in self.history))
                    left = (time.time() - begun) / (self.iteration - start) * (settings.iterations - self.iteration)
                    with tqdm.external_write_mode():
                        _LOG.info("%s", self._report(left))
                if last or self.iteration % schedule.sample_every == 0:
                    picture(self.iteration)
                # The last step: a checkpoint of the last iteration means that the training is finished.
                if last or self.iteration % schedule.checkpoint_every == 0:
                    self._finite()
                    save_checkpoint(folder / CHECKPOINT, self.state_dict())

    # -- state ----------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all values that the next iteration and the generation need: tensors and plain values."""
        return {
            "settings": dataclasses.asdict(self.settings),
            "dataset": self.name,
            "camids": list(self.images.camids),
            "images": len(self.images),
            "iteration": self.iteration,
            "history": self.history,
            "sums": {name: [total.item(), count] for name, (total, count) in self._sums.items()},
            **{name: network.state_dict() for name, network in self._networks.items()},
            **{f"{name}_optimizer": optimizer.state_dict() for name, optimizer in self.optimizers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the values of :meth:`state_dict`.

        Raises:
            InputError: the state does not fit this trainer.
        """
        try:
            for name, network in self._networks.items():
                network.load_state_dict(state[name])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state[f"{name}_optimizer"])
            if not 0 <= state["iteration"] <= self.settings.iterations:
                raise ValueError(f"iteration {state['iteration']} of {self.settings.iterations}")
            self.iteration = state["iteration"]
            self.history = [{**row, "iteration": int(row["iteration"])} for row in state["history"]]
            self._sums = {
                name: (torch.tensor(float(total), device=self.device), int(count))
                for name, (total, count) in state["sums"].items()
            }
        except (LookupError, RuntimeError, ValueError, ArithmeticError, AttributeError, TypeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[-1].strip()
            raise InputError(
                f"the checkpoint does not fit this StarGAN ({reason}); choose another --output to train anew"
            ) from error

    # -- inside ---------------------------------------------------------------

    @property
    def _networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator}

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp == "bf16")

    def _update(self, network: str, terms: dict[str, torch.Tensor]) -> None:
        settings = self.settings
        weights = {
            "penalty": settings.gradient_penalty, "camera_real": settings.classification,
            "camera_fake": settings.classification, "reconstruction": settings.reconstruction,
        }
        self.optimizers[network].zero_grad(set_to_none=True)
        functools.reduce(torch.add, [weights.get(name, 1.0) * term for name, term in terms.items()]).backward()
        self.optimizers[network].step()
        for name, term in terms.items():
            total, count = self._sums.get(name, (torch.zeros((), device=self.device), 0))
            self._sums[name] = total + term.detach(), count + 1

    def _finite(self) -> dict[str, float]:
        """Return the means since the last row.

        Raises:
            InputError: a loss is not finite; the training then ends before the next checkpoint.
        """
        means = {name: total.item() / count for name, (total, count) in self._sums.items()}
        for name, value in means.items():
            if not math.isfinite(value):
                raise InputError(
                    f'the loss "{name}" became {value} by iteration {self.iteration}; lower --lr or use --amp none; '
                    "the last checkpoint is kept"
                )
        return means

    def _log(self) -> None:
        self.history.append({
            "iteration": self.iteration, **self._finite(), "lr": self.settings.learning_rate(self.iteration - 1),
        })
        self._sums = {}

    def _report(self, seconds_left: float) -> str:
        row = self.history[-1]
        shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items() if name not in ("iteration", "lr"))
        hours, minutes = divmod(int(seconds_left) // 60, 60)
        return f"iteration {row['iteration']:>6}/{self.settings.iterations}  {shown}  eta {hours}:{minutes:02d} h"


def checked_state(state: Any, path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint where it describes a StarGAN across cameras.

    Args:
        state: the content.
        path: of the checkpoint, for the sentence of an error.

    Raises:
        InputError: the content is another one.
    """
    kinds = {"settings": dict, "dataset": str, "camids": list, "images": int, "iteration": int, "history": list, "sums": dict}
    whole = isinstance(state, dict) and all(
        isinstance(state.get(name), kind) and not isinstance(state[name], bool) for name, kind in kinds.items()
    )
    if not whole or not all(type(camid) is int for camid in state["camids"]):
        raise InputError(f'the checkpoint "{path}" is not of a StarGAN across cameras; choose another --output')
    return state
