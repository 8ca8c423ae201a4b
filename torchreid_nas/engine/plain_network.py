"""Networks that know only torchreid's convention, as the engines for two streams and for adaptation use them."""
from __future__ import annotations

__all__ = ["has_embedding", "has_two_streams", "eval_dim", "train_outputs"]

import torch
from torch import nn

from torchreid_nas.errors import InputError
from torchreid_nas.layers import MODALITIES, modality_context


def has_two_streams(model: nn.Module) -> bool:
    """Return whether a network has what :class:`~torchreid_nas.engine.interface.TwoStreamModel` asks for."""
    # Networks of torchreid have layers of the name "features".
    return all(hasattr(model, name) for name in ("features", "bnneck", "classifier", "deploy"))


def has_embedding(model: nn.Module) -> bool:
    """Return whether a network has what :class:`~torchreid_nas.engine.interface.EmbeddingModel` asks for."""
    return all(hasattr(model, name) for name in ("embedding", "classify", "target_feature", "embedding_dim"))


def train_outputs(model: nn.Module, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the logits of every branch, each (B, classes), and the features (B, D) of a network in train mode.

    The features of several branches are joined, as torchreid joins them at test time.

    Args:
        model: built with ``loss="triplet"``: returns logits and features, each a tensor or a tuple with a tensor per branch.
        images: (B, 3, H, W).

    Raises:
        InputError: the model returns anything else, as one that was built with ``loss="softmax"``.

    Example:
        >>> from torchreid_nas.models import cdnet_x0_25
        >>> model = cdnet_x0_25(3, loss="triplet", pretrained=False)
        >>> logits, features = train_outputs(model, torch.zeros(2, 3, 64, 32))
        >>> [tuple(branch.shape) for branch in logits], tuple(features.shape)
        ([(2, 3), (2, 3)], (2, 384))
    """
    output = model(images)
    # The logits of two branches look like logits and features.
    named = getattr(model, "loss", "triplet") != "softmax"
    parts = [_branches(part) for part in output] if named and isinstance(output, (tuple, list)) and len(output) == 2 else []
    if not parts or not all(isinstance(branch, torch.Tensor) and branch.ndim == 2 for part in parts for branch in part):
        raise InputError(
            f"this engine needs logits and features from {type(model).__name__} in train mode, each of shape (images, …), and "
            'does not get them; build the network with loss="triplet"'
        )
    logits, features = parts
    return logits, torch.cat(features, dim=1)


@torch.no_grad()
def eval_dim(model: nn.Module, height: int, width: int) -> int:
    """Return D of the test features (B, D) of a network; its mode stays.

    Raises:
        InputError: the network gives no features of that shape.
    """
    training = model.training
    device = next(model.parameters()).device
    try:
        with modality_context(MODALITIES[0]):
            features = model.eval()(torch.zeros(1, 3, height, width, device=device))
    finally:
        model.train(training)
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise InputError(f"{type(model).__name__} gives no features of shape (images, D) in eval mode, as the memory needs them")
    return features.shape[1]


def _branches(output: object) -> list[torch.Tensor]:
    return list(output) if isinstance(output, (tuple, list)) else [output]  # type: ignore[list-item]  # checked by the caller
