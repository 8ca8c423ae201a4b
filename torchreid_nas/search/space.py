"""SearchSpace: the value that owns what is known of a search space, and the registry of the spaces."""
from __future__ import annotations

__all__ = ["SPACES", "SearchSpace", "backbone_of", "draw_architecture", "find_space", "register_space"]

import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import nn

from torchreid_nas.architecture import Architecture, ArchitectureSpec
from torchreid_nas.architecture_format import ArchitectureFormat, register_format
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.search.cost import Budget


class SearchSpace(Protocol):
    """A search space: how its supernet is built and searched, and how what is found is drawn, written and read.

    The bilevel engine, the stages of a run and the figures ask these methods
    and know no space by name. A space from outside subclasses this class and
    is registered by :func:`register_space`; ``tests/extending`` holds one.
    Methods that are not abstract have a default that serves a space without such options, noise, budget or files.

    A derived network equals its supernet at that choice, exactly.

    Attributes:
        format: the space's name, and how its architectures are called, checked, read and exported.
        models: names of the models that a space from outside searches, as
            ``model.name`` takes them. Empty for the spaces that a method names itself.
        has_paths: whether a search by paths knows the space; :class:`BNSplitSpace` alone.
    """

    format: ClassVar[ArchitectureFormat]
    models: ClassVar[Sequence[str]] = ()
    has_paths: ClassVar[bool] = False

    @classmethod
    def from_config(cls, search: Mapping[str, Any]) -> SearchSpace:
        """Return the space as the ``search`` section of a config describes it; without options unless overridden."""
        return cls()

    @property
    def name(self) -> str:
        """The space's name, as ``search.space`` and ``architecture.json`` hold it."""
        return self.format.name

    # -- the search -----------------------------------------------------------

    @abstractmethod
    def build_supernet(self, model: nn.Module) -> nn.Module:
        """Put every candidate into ``model``, in place, and return it.

        Raises:
            InputError: the model does not have what the space searches.
        """

    @abstractmethod
    def architecture_parameters(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the logits of the supernet, a tensor per slot."""

    @abstractmethod
    def derive(self, model: nn.Module, source: Mapping[str, Any] | None = None) -> Architecture:
        """Return the architecture that the logits prefer now."""

    @abstractmethod
    def derive_network(self, model: nn.Module) -> nn.Module:
        """Return a plain network of that architecture with the supernet's weights."""

    @abstractmethod
    def probabilities(self, model: nn.Module) -> dict[str, dict[str, float]]:
        """Return per slot the probability of each candidate, noise left out."""

    def anneal(self, model: nn.Module, temperature: float) -> None:
        """Set the temperature of the relaxation; nothing where the space has none."""

    def sample(self, model: nn.Module, generator: torch.Generator | None) -> None:
        """Draw the relaxation's noise for the next passes, None turns the noise off; nothing where the space has none."""

    @abstractmethod
    def cost(self, model: nn.Module) -> torch.Tensor:
        """Return the expected cost of the architecture, a scalar, differentiable in the logits."""

    def set_budget(
        self, model: nn.Module, kind: str, target: float, weight: float = 1.0, input_size: tuple[int, int] = (256, 128),
        repeats: int = 20,
    ) -> Budget:
        """Make :meth:`cost` a term that keeps the target of ``search.budget``.

        Raises:
            InputError: the space knows no cost of that kind.
        """
        raise InputError(f"search.budget.{kind} is set and the space {self.name} has no such budget; set it 0")

    # -- what is found --------------------------------------------------------

    @classmethod
    @abstractmethod
    def draw(
        cls, history: Sequence[Mapping[str, Any]], architecture: Architecture, path: str | os.PathLike[str], **network: Any,
    ) -> None:
        """Draw how a search came to ``architecture``, as PNG.

        Args:
            history: rows of a search, see :func:`~torchreid_nas.report.read_history`: ``epoch``, ``probabilities`` by
                slot and candidate, ``architecture`` (the loss, absent in warm-up), ``changed``.
            architecture: what the search derived in the end.
            path: the picture; its folder is made.
            network: which network the architecture makes (``height``, ``width``, ``neck``, ``model_width``); a picture
                that draws no network ignores them.

        Raises:
            InputError: the history does not fit the architecture, or the folder cannot be written.
        """

    @classmethod
    def describe(cls, architecture: Architecture) -> str:
        """Return the architecture in one line, for the terminal."""
        return cls.format.describe(architecture.choices)

    @classmethod
    def read(cls, spec: ArchitectureSpec, slots: Sequence[str]) -> Architecture:
        """Return the architecture that a preset, file or list means in this space for a network with ``slots``.

        Raises:
            InputError: see :meth:`Architecture.resolve`.
        """
        return Architecture.resolve(spec, slots, (cls.format.name,))

    @classmethod
    def export(cls, architecture: Architecture, path: str | os.PathLike[str]) -> bool:
        """Write the file of the space's authors; return False where they have none for these slots."""
        return architecture.export(path)


def backbone_of(model: nn.Module) -> nn.Module:
    """Return ``model.backbone``, which a space searches.

    Raises:
        InputError: the model has no backbone.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise InputError(f"{type(model).__name__} has no `backbone` to search; choose a model that keeps its backbone in one")
    return backbone


SPACES: dict[str, type[SearchSpace]] = {}
"""The search spaces by name, in the order of registration."""

_Space = TypeVar("_Space", bound=type[SearchSpace])


def register_space(space: _Space) -> _Space:
    """Make ``space`` known to runs, architecture files and figures by the name of its format; a decorator of the class.

    Raises:
        ValueError: another space has that name.
    """
    register_format(space.format)
    if SPACES.setdefault(space.format.name, space) is not space:
        raise ValueError(f'there is another search space "{space.format.name}"; give the new one another name')
    return space


def find_space(name: str) -> type[SearchSpace]:
    """Return the space of that name.

    Raises:
        InputError: no space of that name is registered; the nearest name is in the message.
    """
    if name not in SPACES:
        raise InputError(
            f'the search space "{name}" is unknown, expected one of {", ".join(SPACES)}; a space from outside must be '
            f"registered with register_space first{nearest(name, SPACES)}"
        )
    return SPACES[name]


def draw_architecture(
    history: Sequence[Mapping[str, Any]], architecture: Architecture, path: str | os.PathLike[str], **network: Any,
) -> None:
    """Draw how a search came to ``architecture``, as its space draws it, as PNG; see :meth:`SearchSpace.draw`.

    Raises:
        InputError: an unknown space, or what the space's picture refuses.
    """
    find_space(architecture.space).draw(history, architecture, path, **network)
