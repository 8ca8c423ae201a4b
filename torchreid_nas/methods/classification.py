"""Classification with the networks and the search of CDNet, or with torchreid's networks: weights that a re-ID starts from."""
from __future__ import annotations

__all__ = ["BaselineClassification", "CDNetClassification", "classifier_of"]

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.errors import InputError
from torchreid_nas.lazy import imported
from torchreid_nas.methods.base import BaseMethod, usable_workers
from torchreid_nas.methods.baseline import BaselineMethod
from torchreid_nas.methods.cdnet import CDNetMethod
from torchreid_nas.methods.interface import Method

if TYPE_CHECKING:
    from torch import nn


def _own_keys(method: type[BaseMethod]) -> tuple[str, ...]:
    """Return the keys that a method's models read in a classification: no loss of metric learning, no persons in a batch."""
    return ("classification", *(key for key in method.own_keys if key not in ("loss.triplet", "sampler")))


class _Classification(BaseMethod):
    """What differs from a re-ID with the same network: data, engines and their keys. Stands before the method of the network."""

    manager = imported("torchreid_nas.data.class_manager", "ClassDataManager")
    train_class = imported("torchreid_nas.engine.classification", "ClassificationEngine")
    search_class = imported("torchreid_nas.engine.search", "ClassificationSearchEngine")

    def check_batch(self) -> None:
        """Accept every ``train.batch_size``; refuse what a test of retrieval alone can do."""
        if self.cfg.test.precision != "fp32" or self.cfg.test.compile:
            raise InputError(
                f"test.precision is {self.cfg.test.precision} and test.compile {self.cfg.test.compile}, which a test of task "
                "classification would not heed; set test.precision fp32 and test.compile False"
            )

    def build_model(self, num_classes: int, architecture: ArchitectureSpec, pretrained: bool = True) -> nn.Module:
        """Return the network of the config, refused where it has no classifier to be tested by."""
        from torchreid_nas.models.necked import check_classifies

        model = super().build_model(num_classes, architecture, pretrained)
        check_classifies(model)
        return model

    def data(self, targets: Sequence[str], holdout: float = 0.0) -> Any:
        """Return the data manager of the keys that a classification reads."""
        from torchreid_nas.data.class_transforms import build_class_transforms
        from torchreid_nas.data.transforms import Erasing

        data, own, erase = self.cfg.data, self.cfg.classification, self.cfg.data.random_erase
        transforms = build_class_transforms(
            data.height, data.width, data.transforms, data.norm_mean, data.norm_std, data.interpolation, own.padding, own.cutout,
            own.resize, Erasing(erase.probability, tuple(erase.area), tuple(erase.aspect)),
        )
        manager: Any = self.manager
        return manager(
            data.root, data.sources, list(targets), transforms, self.cfg.train.batch_size, self.cfg.test.batch_size,
            usable_workers(data.workers), self.cfg.train.num_batches or None, self.device.type == "cuda", self.cfg.train.seed,
            holdout, own.download,
        )

    def engine_options(self) -> dict[str, Any]:
        """Return whether the cross-entropy smooths its labels."""
        return {"label_smooth": self.cfg.loss.softmax.label_smooth}


class CDNetClassification(_Classification, CDNetMethod):
    """A CDNet that names the classes of images, and its search on them."""

    name = "classification"
    own_keys = _own_keys(CDNetMethod)


class BaselineClassification(_Classification, BaselineMethod):
    """One of torchreid's networks that names the classes of images."""

    name = "classification"
    own_keys = _own_keys(BaselineMethod)


def classifier_of(method: type[Method], model: str) -> type[Method]:
    """Return the method of task classification for a model.

    Args:
        method: of the model for re-ID.
        model: its name.

    Raises:
        InputError: the method's models classify no images.
    """
    for ours, theirs in ((CDNetClassification, CDNetMethod), (BaselineClassification, BaselineMethod)):
        if method is theirs:
            return ours
    raise InputError(
        f"model.name {model} is for re-identification alone, and task is classification; take "
        f"{', '.join(CDNetMethod.factories)} or one of torchreid's networks as model.name, or set task reid"
    )
