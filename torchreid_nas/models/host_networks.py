"""torchreid's own networks by name, with ImageNet's weights or with none, never with random ones in the place of ImageNet's."""
from __future__ import annotations

__all__ = ["build_host_network"]

import torch
import torchreid
from torch import nn

from torchreid_nas.errors import InputError, nearest, shown
from torchreid_nas.host import MODELS


def build_host_network(
    name: str, num_classes: int, imagenet: bool = False, use_gpu: bool = False, key: str = "model.name",
) -> nn.Module:
    """Return a network that torchreid knows, as its factory makes it for a triplet loss.

    Args:
        name: as ``torchreid.models.build_model`` takes it.
        num_classes: training identities.
        imagenet: whether with ImageNet's weights; some of torchreid's factories ignore ``pretrained``, or only warn.
        use_gpu: what the factory is told.
        key: the config key of the name, for messages.

    Raises:
        InputError: the name is unknown, the weights cannot be had, or the factory left the network random.

    Example:
        >>> build_host_network("osnet_x0_25", 3).feature_dim
        512
    """
    if name not in MODELS:
        raise InputError(f'{key} is "{shown(name)}", a network that torchreid does not know{nearest(name, MODELS)}')

    def build(pretrained: bool) -> nn.Module:
        model: nn.Module = torchreid.models.build_model(name, num_classes, loss="triplet", pretrained=pretrained, use_gpu=use_gpu)
        return model

    if not imagenet:
        return build(False)
    start = torch.get_rng_state()
    way_out = "set model.pretrained FILE to start from weights of your own, or model.pretrained False for random ones"
    try:
        model = build(True)
    except InputError:
        raise
    # torchreid's factories download in ways of their own, which fail with errors of their own.
    except Exception as error:
        raise InputError(f"the ImageNet weights of {key} {name} cannot be had ({shown(error, 200)}); {way_out}") from error
    end = torch.get_rng_state()
    torch.set_rng_state(start)
    untrained = build(False)
    # A factory that always loads the same weights is not random either.
    another = build(False)
    torch.set_rng_state(end)
    if _same_weights(model, untrained) and not _same_weights(untrained, another):
        raise InputError(
            f"model.pretrained is imagenet, and torchreid has no ImageNet weights for {key} {name} that it can fetch; {way_out}"
        )
    return model


def _same_weights(one: nn.Module, other: nn.Module) -> bool:
    return all(a.equal(b) for a, b in zip(one.parameters(), other.parameters()))
