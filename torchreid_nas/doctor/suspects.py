"""Label suspects by a model's features: a person who is two, and two who are one, ranked, with the pictures side by side."""
from __future__ import annotations

__all__ = ["Judge", "find_imagenet_weights", "make_judge"]

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from torchreid_nas.doctor.check_images import Measured
from torchreid_nas.doctor.findings import Finding, Group, counted, in_order, listed
from torchreid_nas.doctor.likeness import Likeness
from torchreid_nas.errors import InputError

if TYPE_CHECKING:
    from torchreid_nas.checkpoints.trained import TrainedModel

# A person is named whose images fall into groups more unlike than this, two persons who are less unlike than that (ours:
# 0 is one person, 1 is two; benchmarks/doctor_suspects.py measures how many planted faults are found, on other seeds than
# those that these were chosen on).
_TWO = 0.5
_ONE = 0.45
# Suspects that are named at most, of each kind.
_MOST = 20
# Pictures of each person, or group, that stand side by side.
_PICTURES = 4

# Files of ImageNet weights as torch and torchreid keep them, and torchreid's names of the networks; the best judge first.
_IMAGENET = (
    ("osnet_x1_0", "osnet_x1_0_imagenet.pth"), ("resnet50", "resnet50-*.pth"), ("mobilenetv2_x1_0", "mobilenet_v2-*.pth"),
    ("resnet18", "resnet18-*.pth"),
)


@dataclass
class Judge:
    """Names suspects by the features of a network.

    Attributes:
        trained: the network.
        device: where it computes; None chooses.
        visible_only: judge visible images alone: a network that has seen no infrared tells little about it.
        progress: show a bar, on terminals only.
        left_out: what was not judged, and why.
    """

    trained: TrainedModel
    device: str | None = None
    visible_only: bool = False
    progress: bool = True
    left_out: list[str] = field(default_factory=list)

    def suspects(self, measured: Measured) -> list[Finding]:
        """Return the findings ``one_is_two`` and ``two_are_one``; each modality is judged by itself.

        Raises:
            InputError: the network gives features that are not finite.
        """
        person, camera = measured.of(lambda record: record.person), measured.of(lambda record: record.camera)
        modality = measured.of(lambda record: record.modality)
        part = measured.of(lambda record: record.part == "train")
        splits: list[tuple[float, str, Group]] = []
        pairs: list[tuple[float, str, Group]] = []
        for word in sorted(set(modality)):
            if self.visible_only and word == "infrared":
                self.left_out.append("label suspects among infrared images: the weights are of visible images; give --model")
                continue
            # The persons of training and test may have equal names in data sets that count each from 0.
            for side in (True, False):
                chosen = np.flatnonzero(measured.good & (modality == word) & (part == side) & (person != ""))
                if len(chosen) < 2:
                    continue
                names, index = np.unique(person[chosen].astype(str), return_inverse=True)
                cameras = np.array([-1 if each is None else each for each in camera[chosen]])
                files = [measured.paths[number] for number in chosen]
                likeness = Likeness(self._features(files, word), index, cameras)
                splits += _splits(likeness, names, files)
                pairs += _pairs(likeness, names, files, index)
        return [*_findings("one_is_two", "persons", "person", sorted(splits, key=lambda found: -found[0]), self.trained.name),
                *_findings("two_are_one", "pairs", "pair", sorted(pairs, key=lambda found: found[0]), self.trained.name)]

    def _features(self, files: Sequence[str], modality: str) -> np.ndarray:
        from torchreid_nas.features.extractor import FeatureExtractor

        known = self.trained.modalities
        extractor = FeatureExtractor(
            self.trained, (modality or known[0]) if known else None, self.device, progress=self.progress,
        )
        features = extractor(list(files)).numpy()
        if len(features) != len(files):
            raise InputError(f"{len(files) - len(features):,} images changed while the doctor looked at them; start again")
        return features


def make_judge(model: str | None, weights: str | None = None, device: str | None = None, progress: bool = True) -> Judge | None:
    """Return a judge by a trained network, or by ImageNet weights that lie on this machine; None where there are none.

    Args:
        model: see :func:`torchreid_nas.zoo.trained.load_trained`; None looks for ImageNet weights, and downloads nothing.
        weights: likewise.
        device: default a GPU where there is one.
        progress: show bars, on terminals only.

    Raises:
        InputError: the model cannot be had.
    """
    from torchreid_nas.zoo.trained import load_trained

    if model is not None:
        return Judge(load_trained(model, weights), device, progress=progress)
    found = find_imagenet_weights()
    return None if found is None else Judge(load_trained(*found), device, visible_only=True, progress=progress)


def find_imagenet_weights() -> tuple[str, Path] | None:
    """Return torchreid's name of a network and the file of its ImageNet weights in torch's cache; None for none."""
    home = Path(os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")).expanduser()
    for name, pattern in _IMAGENET:
        for folder in (home / "checkpoints", home / "hub" / "checkpoints"):
            for path in sorted(folder.glob(pattern)):
                return name, path
    return None


def _splits(likeness: Likeness, names: np.ndarray, files: Sequence[str]) -> Iterator[tuple[float, str, Group]]:
    for split in likeness.splits():
        if split.score > _TWO:
            name = str(names[split.person])
            chosen = [(files[number], f"group {'AB'[side]}") for side in range(2) for number in _some(split.groups[side])]
            title = f"person {name}: {len(split.groups[0])} and {len(split.groups[1])} images, unlikeness {split.score:.2f}"
            yield split.score, name, Group(title, *(tuple(column) for column in zip(*chosen)))


def _pairs(
    likeness: Likeness, names: np.ndarray, files: Sequence[str], index: np.ndarray,
) -> Iterator[tuple[float, str, Group]]:
    for pair in likeness.pairs(_MOST)[0]:
        if pair.score < _ONE:
            both = in_order(str(names[person]) for person in pair.persons)
            chosen = [
                (files[number], f"person {name}") for name in both for number in _some(np.flatnonzero(names[index] == name))
            ]
            title = f"persons {' and '.join(both)}: unlikeness {pair.score:.2f}"
            yield pair.score, " and ".join(both), Group(title, *(tuple(column) for column in zip(*chosen)))


def _some(numbers: np.ndarray) -> list[int]:
    """Return a few of many, spread evenly."""
    return numbers[np.unique(np.linspace(0, len(numbers) - 1, _PICTURES).astype(int))].tolist()


def _findings(
    kind: str, field_name: str, word: str, found: Sequence[tuple[float, str, Group]], model: str,
) -> Iterator[Finding]:
    found = found[:_MOST]
    if found:
        words = {field_name: counted(len(found), word), "model": model, "names": listed(name for _, name, _ in found)}
        files = tuple(dict.fromkeys(path for *_, group in found for path in group.files))
        yield Finding(kind, len(found), words, files, tuple(group for *_, group in found))
