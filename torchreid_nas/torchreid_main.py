"""Runs one of torchreid's own scripts with this package registered: ``python -m torchreid_nas.torchreid_main SCRIPT …``.

    python -m torchreid_nas.torchreid_main deep-person-reid/scripts/main.py --config-file my.yaml model.name cdnet

The script comes from a checkout of github.com/KaiyangZhou/deep-person-reid; the package on PyPI has none. It runs
unchanged, in either of torchreid's layouts: ``from torchreid.utils import …`` works in both. Inside the process

- ``compute_model_complexity`` counts one modality of a network with split BatchNorms;
- ``open_layers`` opens every layer of the given name, at whatever depth: ``classifier`` opens both classifiers of a CDNet.
"""
from __future__ import annotations

__all__ = ["main", "open_layers"]

import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torchreid
from torch import nn

import torchreid_nas
from torchreid_nas.errors import InputError
from torchreid_nas.layers import MODALITIES, SplitNorm, modality_context


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script ``argv[0]`` with the arguments after it; returns 0, or 2 for bad input.

    Raises:
        SystemExit: the script ends itself.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or not Path(argv[0]).is_file():
        named = f'the script "{argv[0]}" does not exist' if argv else "the script is missing"
        print(
            f"error: {named}; write python -m torchreid_nas.torchreid_main SCRIPT ARGUMENTS, with scripts/main.py of a checkout "
            "of github.com/KaiyangZhou/deep-person-reid as the script",
            file=sys.stderr,
        )
        return 2
    torchreid_nas.register()
    _name_modules()
    _adapt_tools()
    sys.argv = argv
    # As Python does for a script: its neighbours, such as default_config.py, can be imported.
    sys.path.insert(0, str(Path(argv[0]).resolve().parent))
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def open_layers(model: nn.Module, names: str | Sequence[str]) -> None:
    """Train the layers of some names, at whatever depth, and freeze all others, as torchreid's function does for the outermost.

    Raises:
        InputError: the network has no layer of one of the names.

    Example:
        >>> from torchreid_nas.models import cdnet_x0_25
        >>> model = cdnet_x0_25(3, pretrained=False)
        >>> open_layers(model, ["classifier"])
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad and name.endswith("weight")]
        ['neck.global_branch.classifier.weight', 'neck.local_branch.classifier.weight']
    """
    inner = model.module if isinstance(model, nn.DataParallel) else model
    names = [names] if isinstance(names, str) else list(names)
    found = {name: [path for path, _ in inner.named_modules() if path.rpartition(".")[2] == name] for name in names}
    missing = next((name for name, paths in found.items() if not paths), None)
    if missing is not None:
        raise InputError(
            f'open_layers names "{missing}", and {type(inner).__name__} has no layer of that name; name one of '
            + ", ".join(dict.fromkeys(path.rpartition(".")[2] for path, _ in inner.named_modules() if path and "." not in path))
        )
    inner.eval().requires_grad_(False)
    for path in (path for paths in found.values() for path in paths):
        inner.get_submodule(path).train().requires_grad_(True)
        # What holds an open layer must answer as in training, and its other layers stay in eval mode.
        while path:
            path = path.rpartition(".")[0]
            inner.get_submodule(path).training = True


def _name_modules() -> None:
    """Make ``torchreid.utils`` and the other parts importable by these names, which PyPI's layout has as attributes alone."""
    for part in ("data", "engine", "losses", "metrics", "models", "optim", "utils"):
        sys.modules.setdefault(f"torchreid.{part}", getattr(torchreid, part))


def _adapt_tools() -> None:
    utils = torchreid.utils
    utils.compute_model_complexity = _of_one_modality(utils.compute_model_complexity)
    utils.open_specified_layers = open_layers
    sys.modules[torchreid.engine.Engine.__module__].open_specified_layers = open_layers  # type: ignore[attr-defined]  # its own


def _of_one_modality(count: Callable[..., Any]) -> Callable[..., Any]:
    """Return torchreid's function for networks with split BatchNorms, too, which must know a modality in eval mode."""

    def counted(model: nn.Module, *args: Any, **options: Any) -> Any:
        if not any(isinstance(module, SplitNorm) for module in model.modules()):
            return count(model, *args, **options)
        with modality_context(MODALITIES[0]):
            return count(model, *args, **options)

    return counted


if __name__ == "__main__":
    sys.exit(main())
