"""timm's networks by name: its own weights, its own cache, one sentence where something cannot be had."""
from __future__ import annotations

__all__ = ["PREFIX", "build_timm"]

import os
from typing import Any

import torch
from torch import nn

from torchreid_nas.errors import InputError, nearest, shown
from torchreid_nas.hub.download import is_offline

PREFIX = "timm:"
"""What stands before the names of timm's networks in ``model.backbone``."""


def build_timm(name: str, pretrained: bool | str | os.PathLike[str], image_size: tuple[int, int]) -> nn.Module:
    """Return timm's network without classifier; one that is made for a size of images is made for ``image_size``.

    Args:
        name: as timm has it, a tag of weights behind a dot: ``"resnet50.a1_in1k"``.
        pretrained: True for timm's weights, kept in the cache of the Hugging Face hub; False for random ones; or a file
            in timm's layout. Position embeddings are fitted to ``image_size`` by timm itself.
        image_size: height and width.

    Raises:
        InputError: timm is not installed, it knows no network of that name, or the weights cannot be had or do not fit.
    """
    timm = _timm()
    if not timm.is_model(name.partition(".")[0]):
        raise InputError(
            f'model.backbone is "{PREFIX}{shown(name)}", a network that timm {timm.__version__} does not know'
            f"{nearest(name.partition('.')[0], timm.list_models())}"
        )
    options: dict[str, Any] = {"pretrained": bool(pretrained), "num_classes": 0}
    if isinstance(pretrained, (str, os.PathLike)):
        options["pretrained_cfg_overlay"] = {"file": os.fspath(pretrained)}
    start = torch.get_rng_state()
    try:
        network = _create(timm, name, options, image_size)
    # timm and the hub fail in ways of their own: unknown tags, no connection, weights of another network.
    except Exception as error:
        reason = shown(" ".join(str(error).split()), 200)
        if not pretrained:
            raise InputError(f"timm cannot make model.backbone {PREFIX}{shown(name)} ({reason}); choose another one") from error
        if pretrained is True:
            raise InputError(
                f"timm's weights of model.backbone {PREFIX}{shown(name)} cannot be had ({reason}); fetch them once with a "
                "connection, set model.pretrained FILE, or model.pretrained False for random ones"
            ) from error
        raise InputError(
            f'the weights "{os.fspath(pretrained)}" do not fit model.backbone {PREFIX}{shown(name)} ({reason}); give a file of '
            "this network in timm's layout, or set model.pretrained False"
        ) from error
    if "pretrained_cfg_overlay" in options:
        _check_file(timm, name, options, image_size, network, start)
    return network


def _check_file(
    timm: Any, name: str, options: dict[str, Any], image_size: tuple[int, int], network: nn.Module, start: torch.Tensor,
) -> None:
    """Refuse a file that left a weight random: timm passes over keys that do not fit where a network has no classifier.

    Raises:
        InputError: a weight is what the random state ``start`` gives.
    """
    end = torch.get_rng_state()
    torch.set_rng_state(start)
    untrained, another = (_create(timm, name, {"pretrained": False, "num_classes": 0}, image_size) for _ in range(2))
    torch.set_rng_state(end)
    for (key, given), random, other in zip(network.named_parameters(), untrained.parameters(), another.parameters()):
        if given.equal(random) and not random.equal(other):
            raise InputError(
                f'the weights "{options["pretrained_cfg_overlay"]["file"]}" do not fit model.backbone {PREFIX}{shown(name)}: '
                f'"{key}" is missing; give a file of this network in timm\'s layout, or set model.pretrained False'
            )


def _create(timm: Any, name: str, options: dict[str, Any], image_size: tuple[int, int]) -> nn.Module:
    if is_offline():
        import huggingface_hub.constants

        # The hub reads this flag at every download, and still finds what its cache holds.
        huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        network: nn.Module = timm.create_model(name, img_size=image_size, **options)
    except TypeError:  # a network for images of any size takes no such argument
        network = timm.create_model(name, **options)
    return network


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise InputError(
            f"model.backbone {PREFIX}NAME needs timm; install it with pip install 'torchreid-nas[timm]', or name a network of "
            "torchreid"
        ) from error
    return timm
