"""What a run asks of a method: the interface of a paper's method, for methods from outside and for type checkers."""
from __future__ import annotations

__all__ = ["Method"]

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from torchreid_nas.architecture import ArchitectureSpec

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from yacs.config import CfgNode

    from torchreid_nas.config import Key
    from torchreid_nas.data import ReIDDataManager
    from torchreid_nas.engine import ResumableEngine, TrainingOptions
    from torchreid_nas.search import SearchSpace


class Method(Protocol):
    """Builds data, network, search space and engines of one config; the stages of a run decide when.

    The class states what does not depend on a config. An instance is made as
    ``method(cfg, device)`` and raises InputError where the method does not suit the config.
    :class:`torchreid_nas.methods.BaseMethod` implements what methods share.

    Attributes:
        name: of the method in :data:`torchreid_nas.methods.METHODS`.
        factories: module and name of the model factories that the method adds to torchreid, by the name that
            ``model.name`` gives them; or the factories themselves.
        spaces: names of the search spaces that fit the models; empty where there is nothing to search.
        plain_architecture: what a supernet is built from, and what stands in
            for the architecture to be found in a dry run.
        keys: rows of the config keys that a method from outside adds, by their whole names.
        decides: keys that the numbers of this method's stages follow from besides those whose rows say so.
        ablation: title and changed keys of the variants of ``ecn.ablation``; empty where the method has none.
        manager: class of the data manager.
        train_class, search_class: classes of the engines; None where there is nothing to search.
        path_search_class: class of the engine of a search by paths; None where there is none.
        cfg: the config.
        device: where the network lives.
    """

    name: ClassVar[str]
    factories: ClassVar[Mapping[str, tuple[str, str] | Callable[..., nn.Module]]]
    spaces: ClassVar[Sequence[str]]
    plain_architecture: ClassVar[str]
    keys: ClassVar[Mapping[str, Key]]
    decides: ClassVar[Sequence[str]]
    ablation: ClassVar[Mapping[str, tuple[str, Mapping[str, Any]]]]
    manager: ClassVar[type[ReIDDataManager]]
    train_class: ClassVar[type[ResumableEngine]]
    search_class: ClassVar[type[ResumableEngine] | None]
    path_search_class: ClassVar[type[ResumableEngine] | None]
    cfg: CfgNode
    device: torch.device

    def __init__(self, cfg: CfgNode, device: torch.device) -> None: ...

    @classmethod
    def reads(cls, model: str) -> Sequence[str]:
        """Return the keys and sections of the config that this method reads for a model and some other methods do not.

        Where names overlap, the longest decides: ``search`` alone does not say that ``search.k`` is read
        if another method names ``search.k``.
        """

    def check_batch(self) -> None:
        """Raise InputError where ``train.batch_size`` does not suit the method; the data manager checks the rest."""

    def check_space(self) -> None:
        """Raise InputError where the search space does not fit the model."""

    def pretrained(self) -> bool | Path:
        """Return ``model.pretrained`` as the model factories take it."""

    def model_options(self) -> dict[str, Any]:
        """Return the arguments of the model factory that the config sets, but for identities, weights and architecture."""

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        """Return the config's network with ``architecture``; imports neither engines nor search."""

    def build_unsearched(self, num_classes: int, pretrained: bool = True) -> nn.Module:
        """Return the network that the search makes its supernet of."""

    def space(self, model: nn.Module | None = None) -> SearchSpace:
        """Return the search space, with its budget for the supernet ``model`` where the config has one."""

    def data(self, targets: Sequence[str], holdout: float = 0.0) -> ReIDDataManager:
        """Return the data manager: for a test where there are targets, otherwise for training."""

    @classmethod
    def deciding_keys(cls, cfg: CfgNode, stage: str) -> Sequence[str]:
        """Return the keys and sections of ``cfg`` that the numbers of a stage follow from.

        A search by paths trains its network by the recipe of the training, and follows from the keys of that recipe too.

        Raises:
            InputError: as :meth:`searches_paths`.
        """

    @classmethod
    def searches_paths(cls, cfg: CfgNode) -> bool:
        """Return whether the search of ``cfg`` scores paths (``path_search_class``) instead of following gradients.

        Raises:
            InputError: ``search.method`` asks for paths and the space has none.
        """

    def search_split(self, data: Any) -> tuple[DataLoader[Any], DataLoader[Any], int]:
        """Return the loaders of weights and architecture, and the number of identities of the former."""

    def training_options(self) -> TrainingOptions:
        """Return how the engines train."""

    def search_options(self) -> dict[str, Any]:
        """Return the fields of SearchOptions that depend on the method."""

    def engine_options(self) -> dict[str, Any]:
        """Return the further arguments of both engines: losses and their loss weights."""

    def describe(self, model: nn.Module) -> dict[str, Any]:
        """Return what results.json says of the network."""

    def figure_options(self) -> dict[str, Any]:
        """Return what the picture of the architecture must know of the network."""
