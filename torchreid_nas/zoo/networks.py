"""Networks of the zoo, built with their weights."""
from __future__ import annotations

__all__ = ["build", "build_model", "entry_architecture"]

from pathlib import Path
from typing import Any

import torchreid
from torch import nn

from torchreid_nas.architecture import Architecture, ArchitectureSpec
from torchreid_nas.checkpoints.load import checkpoint_num_classes, load_weights
from torchreid_nas.checkpoints.recognise import Recognised, recognise
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.host import MODELS
from torchreid_nas.hub.catalogue import find_entry
from torchreid_nas.hub.entry import FROM_FILE, Entry
from torchreid_nas.hub.store import fetch, fetch_architecture
from torchreid_nas.models import attach_neck

_IMAGENET_CLASSES = 1000


def build(name: str | Entry) -> nn.Module:
    """Return the network of an entry with its weights, in eval mode, on the CPU.

    The file is downloaded if it is not here yet.

    Raises:
        InputError: unknown name, a file that cannot be had, or one of another network.
    """
    entry = name if isinstance(name, Entry) else find_entry(name)
    path = fetch(entry)
    if entry.format == "torchreid":
        return torchreid.models.build_model(entry.model, _IMAGENET_CLASSES, pretrained=True, use_gpu=False).eval()
    found = recognise(path) if entry.format != "ours" else None
    # The file decides where it contradicts the entry.
    options = {**entry.options, **(found.options if found else {})}
    num_classes = found.num_classes if found else checkpoint_num_classes(path)
    model = build_model(entry.model, num_classes or 1, entry_architecture(entry, path, found), **options)
    return load_weights(model, path).eval()


def build_model(
    name: str, num_classes: int, architecture: ArchitectureSpec | None = None, **options: Any,
) -> nn.Module:
    """Return a model that torchreid knows, without weights; ``architecture`` None leaves its factory's default.

    Raises:
        InputError: the model is unknown, or does not take an option.
    """
    if name not in MODELS:
        raise InputError(f'the model "{name}" is unknown to torchreid{nearest(name, MODELS)}')
    if architecture is not None:
        options["architecture"] = architecture
    # torchreid's own factories pass over options that they do not know.
    attaches = "neck" in options and getattr(MODELS[name], "__module__", "").startswith("torchreid.")
    attached = {key: options.pop(key) for key in ("neck", "dropout") if key in options} if attaches else {}
    try:
        network: nn.Module = MODELS[name](num_classes=num_classes, loss="softmax", pretrained=False, use_gpu=False, **options)
    except TypeError as error:
        raise InputError(
            f'the model "{name}" does not take {", ".join(options)} ({error}); correct the zoo entry'
        ) from error
    return attach_neck(network, num_classes=num_classes, **attached) if attached else network


def entry_architecture(entry: Entry, path: Path, found: Recognised | None = None) -> ArchitectureSpec | None:
    """Return the architecture of an entry: its own, or what the file ``path`` shows, or what lies beside its source.

    Raises:
        InputError: the file is to decide and shows nothing, and no architecture can be had.
    """
    if entry.architecture != FROM_FILE:
        return entry.resolved_architecture()
    found = found or recognise(path)
    if found.architecture is None and entry.source.architecture_folder:
        return Architecture.load(fetch_architecture(entry))
    if found.architecture is None:
        raise InputError(
            f'the file "{path}" of the zoo entry "{entry.name}" does not show its architecture; give that by '
            f"`torchreid-nas zoo convert {path} --architecture config.cfg`, or by model.architecture in a config"
        )
    return found.architecture
