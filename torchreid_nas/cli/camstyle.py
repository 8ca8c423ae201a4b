"""``torchreid-nas camstyle``: train across cameras, then write the images."""
from __future__ import annotations

__all__ = ["main"]

import argparse
import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torchreid_nas
from torchreid_nas.camstyle.settings import StarGANSettings
from torchreid_nas.errors import InputError

if TYPE_CHECKING:
    import torch

    from torchreid_nas.camstyle.generation import CamStyleFiles
    from torchreid_nas.camstyle.images import CameraImages
    from torchreid_nas.camstyle.training import Schedule, Trainer

_HELP = {
    "height": "of the images in pixels, divisible by 4",
    "width": "of the images in pixels, divisible by 4",
    "channels": "of the first convolution of both networks; fewer on a small machine",
    "residual_blocks": "of the generator",
    "iterations": "updates of the discriminator",
    "batch_size": "images per update",
    "n_critic": "updates of the discriminator per update of the generator",
    "lr": "of both networks, falling to 0 over the second half",
    "beta1": "of Adam",
    "beta2": "of Adam",
    "gradient_penalty": "its weight",
    "classification": "weight of the camera's cross-entropy",
    "reconstruction": "weight of the way there and back",
    "amp": "none or bf16",
    "seed": "of everything",
}
_SCHEDULE_HELP = {
    "log_every": (500, "iterations between two rows of the history"),
    "checkpoint_every": (5000, "iterations between two checkpoints"),
    "sample_every": (5000, "iterations between two pictures"),
    "workers": (4, "processes that load images; 0: none but this one"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write images as ``argv`` (default: the command line) says, print their folder, and return 0.

    Raises:
        InputError: data, an option, the run's folder or the device is at fault.
        SystemExit: the arguments do not parse (argparse, code 2).
    """
    arguments = _parser().parse_args(argv)
    folder = Path(arguments.output)
    given = {name: getattr(arguments, name) for name in _HELP if hasattr(arguments, name)}
    settings = StarGANSettings(**given)

    torchreid_nas.register()
    import torch

    from torchreid_nas.camstyle.training import Schedule
    from torchreid_nas.device import find_device
    from torchreid_nas.run.folder import RunFolder
    from torchreid_nas.run.lock import hold

    schedule = Schedule(**{name: getattr(arguments, name) for name in _SCHEDULE_HELP})
    device = find_device(arguments.device)
    # Deterministic convolution kernels: the same settings and seed give the same numbers on the same machine.
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    # A generation only reads the folder of the run.
    with contextlib.nullcontext() if arguments.only_generate else hold(RunFolder(folder)):
        _train_and_generate(arguments, given, settings, schedule, device)
    return 0


def _train_and_generate(
    arguments: argparse.Namespace, given: Mapping[str, Any], settings: StarGANSettings, schedule: Schedule,
    device: torch.device,
) -> None:
    from torchreid_nas.camstyle.generation import CamStyleFiles, generate
    from torchreid_nas.camstyle.images import load_camera_images
    from torchreid_nas.camstyle.training import CHECKPOINT, Trainer
    from torchreid_nas.data.camstyle.names import is_msmt17
    from torchreid_nas.device import warn_of_emulation
    from torchreid_nas.files import check_folder, remove_leftovers

    folder = Path(arguments.output)
    state = _saved(folder / CHECKPOINT, arguments)
    if state is not None:
        settings = _settings_of(state, given, folder)
    images = load_camera_images(arguments.dataset, arguments.root, settings.height, settings.width)
    if state is not None:
        _refuse_other_data(state, arguments, images)
    msmt17 = is_msmt17(arguments.dataset)
    files = CamStyleFiles(images, msmt17)
    # Before a training of days: the images go beside the training folder, which may be read-only.
    for place in files.folders:
        check_folder(place, "--root")
    if not arguments.only_generate:
        check_folder(folder, "--output")
    if settings.amp == "bf16":
        warn_of_emulation(device, "--amp", "leave it none")
    trainer = Trainer(settings, images, arguments.dataset, device)
    if state is not None:
        trainer.load_state_dict(state)
    if trainer.iteration < settings.iterations and not arguments.only_generate:
        if not arguments.overwrite:
            _refuse_existing(files)
        remove_leftovers(folder)
        print(
            f"== StarGAN: {len(images):,} images of {len(images.camids)} cameras of {arguments.dataset}, "
            f"{settings.width} x {settings.height} pixels, iterations {trainer.iteration:,} to {settings.iterations:,} "
            f"on {device}: {folder}"
        )
        trainer.run(folder, schedule, lambda iteration: _draw(trainer, iteration, folder))
        print(f"sample grids and losses: {folder / 'samples'}, {folder / 'figures' / 'losses.png'}")
    print(f"== camera styles: {len(files):,} images of the network after {trainer.iteration:,} iterations")
    # The files are listed again: the training may have taken days.
    written = generate(
        trainer.generator, images, CamStyleFiles(images, msmt17), _origin(trainer), device, settings.batch_size,
        schedule.workers, arguments.overwrite,
    )
    print(
        f"{' and '.join(map(str, files.folders))}: {len(files):,} camera-style images of {settings.width} x "
        f"{settings.height} pixels (width x height), {written:,} of them new.\n"
        f"ECN reads them with: torchreid-nas --config CONFIG --root {arguments.root} data.targets {arguments.dataset} "
        "ecn.camstyle files"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchreid-nas camstyle",
        description="Train a StarGAN across the cameras of a data set's training part, and write every training image "
        "in the style of every other camera, as ECN reads them. All defaults but the image size are the paper's.",
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help="in torchreid's registry, e.g. market1501")
    parser.add_argument("--root", required=True, metavar="DIR", help="folder of the data sets")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder of the run: checkpoint, history, pictures"
    )
    parser.add_argument(
        "--resume", action="store_true",
        help="go on with the training in --output, with its settings, to the same numbers as without the interruption",
    )
    parser.add_argument(
        "--only-generate", action="store_true", help="write images with the network that --output holds; train nothing"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace camera-style images of another network")
    parser.add_argument("--device", default="", help="cpu, cuda, cuda:1, …; default: a GPU where there is one")
    for field in dataclasses.fields(StarGANSettings):
        # No default: options that were given differ from options that were not, and --resume repeats nothing.
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=argparse.SUPPRESS,
            metavar=field.name[0].upper(), help=f"{_HELP[field.name]} (default {field.default})",
        )
    for name, (default, text) in _SCHEDULE_HELP.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=default, metavar="N", help=f"{text} (default {default})"
        )
    return parser


def _saved(path: Path, arguments: argparse.Namespace) -> Mapping[str, Any] | None:
    """Return the checkpoint to go on with, or None where training begins."""
    from torchreid_nas.camstyle.training import checked_state
    from torchreid_nas.files import load_checkpoint

    if arguments.only_generate or (arguments.resume and path.exists()):
        if not path.exists():
            raise InputError(
                f'"{path.parent}" holds no {path.name} to generate with; train first, without --only-generate'
            )
        return checked_state(load_checkpoint(path), path)
    if path.exists():
        raise InputError(
            f'"{path.parent}" already holds a StarGAN; add --resume to go on with it, --only-generate to write images '
            "with it, or choose another --output"
        )
    return None


def _settings_of(state: Mapping[str, Any], given: Mapping[str, Any], folder: Path) -> StarGANSettings:
    settings = StarGANSettings.from_dict(state["settings"])
    for name, value in given.items():
        if value != getattr(settings, name):
            raise InputError(
                f'the StarGAN in "{folder}" was made with --{name.replace("_", "-")} {getattr(settings, name)}, '
                f"not {value}; leave the option out, or choose another --output"
            )
    return settings


def _refuse_other_data(state: Mapping[str, Any], arguments: argparse.Namespace, images: CameraImages) -> None:
    if state["dataset"] != arguments.dataset:
        raise InputError(
            f'the StarGAN in "{arguments.output}" is of {state["dataset"]}, not {arguments.dataset}; '
            "choose another --output"
        )
    changed = {"cameras": (len(state["camids"]), len(images.camids))} if state["camids"] != list(images.camids) else {}
    # More images of the same cameras do not disturb the generation, but they change a training.
    if not arguments.only_generate and state["images"] != len(images):
        changed["images"] = state["images"], len(images)
    for name, (before, now) in changed.items():
        raise InputError(
            f'the StarGAN in "{arguments.output}" was trained on {before:,} {name} of {arguments.dataset}, but under '
            f'"{arguments.root}" there are {now:,} or others; restore the data set, or choose another --output'
        )


def _refuse_existing(files: CamStyleFiles) -> None:
    """Refuse existing images before a training of days, not after it."""
    present = files.present()
    if present:
        raise InputError(
            f'"{present[0].parent}" holds {len(present):,} camera-style images already; '
            "add --overwrite to have them replaced after the training, or move the folder away"
        )


def _origin(trainer: Trainer) -> dict[str, Any]:
    return {
        "made_by": f"torchreid_nas {torchreid_nas.__version__}, StarGAN", "dataset": trainer.name,
        "iteration": trainer.iteration, "settings": dataclasses.asdict(trainer.settings),
    }


def _draw(trainer: Trainer, iteration: int, folder: Path) -> None:
    from torchreid_nas.camstyle.figures import draw_losses, sample_grid, sample_indices

    sample_grid(
        trainer.generator, trainer.images, sample_indices(trainer.images, trainer.settings.seed),
        folder / "samples" / f"iteration-{iteration:07d}.png", trainer.device,
    )
    if trainer.history:
        draw_losses(trainer.history, folder / "figures" / "losses.png")
