"""The entry of a trained network: its model, its source, its figures, and the checksum of its file."""
from __future__ import annotations

__all__ = ["FORMATS", "FROM_FILE", "MODALITIES", "ZOO_PREFIX", "Entry", "Figure", "Source", "described", "key_text"]

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torchreid_nas.architecture import Architecture, ArchitectureSpec
from torchreid_nas.errors import InputError, nearest, shown
from torchreid_nas.metrics.scores import SCORES

FORMATS = ("ours", "cdnet_authors", "cmnas_authors", "torchreid")
FROM_FILE = "from file"
ZOO_PREFIX = "zoo:"
"""Prefix that marks the name of a zoo entry where a path is allowed too: ``zoo:cdnet_market1501_pretrained``."""
MODALITIES = ("visible", "visible-infrared")
_INTERPOLATIONS = ("bilinear", "bicubic", "lanczos")
_DIGESTS = {"git_blob": 40, "sha256": 64}
# Required keys of each kind of source, and the optional keys.
_SOURCES = {"url": ("url",), "drive": ("folder", "pattern"), "torchreid": ("cached",), "file": ("path",)}
_MORE = {"drive": {"architecture_folder", "architecture_pattern"}}


@dataclasses.dataclass(frozen=True)
class Figure:
    """The scores of a network on one data set, in percent, and who measured them.

    Attributes:
        dataset: by the name of torchreid's data managers.
        scores: some of :data:`~torchreid_nas.metrics.SCORES` by name, in percent.
        source: a paper, a log file, or the run that measured it.
        protocol: how it was measured, where the data set has several ways.
        feature: of networks with several, which one.
    """

    dataset: str
    scores: Mapping[str, float]
    source: str
    protocol: str = ""
    feature: str = ""

    def percent(self, score: str) -> str:
        """Return one of the scores as tables show it, ``""`` where it is not known."""
        return f"{self.scores[score]:.2f}" if score in self.scores else ""


@dataclasses.dataclass(frozen=True)
class Source:
    """The source of the file of an entry.

    Attributes:
        kind: ``url`` (a file on the web), ``drive`` (a file in a Google Drive
            folder), ``torchreid`` (torchreid's own loader) or ``file`` (on this machine).
        url: of a ``url``.
        folder: id of a ``drive`` folder.
        pattern: which file in the folder: a glob over its path there.
        architecture_folder, architecture_pattern: of a ``drive``, the same for
            the file of the architecture, where one lies there.
        cached: the name under which torchreid's loader keeps the file.
        path: of a ``file``; a relative one starts at the folder of the entry's YAML.
    """

    kind: str
    url: str = ""
    folder: str = ""
    pattern: str = ""
    architecture_folder: str = ""
    architecture_pattern: str = ""
    cached: str = ""
    path: str = ""

    @property
    def address(self) -> str:
        """The address where a person finds the file."""
        if self.kind == "drive":
            return f"https://drive.google.com/drive/folders/{self.folder}"
        return {"url": self.url, "torchreid": "torchreid's own loader", "file": self.path}[self.kind]


@dataclasses.dataclass(frozen=True)
class Entry:
    r"""A network of the zoo.

    Attributes:
        name: how the zoo calls it.
        model: a name that torchreid's ``build_model`` knows.
        architecture: a preset or genotype, the authors' ints or ``layers``, a
            mapping of space and choices, ``"from file"`` (it follows from the
            weights), or None for torchreid's own models.
        options: further arguments of the model's factory (``neck``, ``width``, …).
        dataset: what it was trained on.
        protocol: how its figures are measured.
        modality: ``"visible"``, or ``"visible-infrared"`` for two-stream networks.
        feature_dim, height, width: of the feature, of the images in pixels.
        norm_mean, norm_std: by which images in 0…1 are normalised.
        interpolation: by which images are resized: ``bilinear``, ``bicubic`` or ``lanczos``.
        format: layout of the file; one of :data:`FORMATS`.
        source: where the file comes from.
        licence: what is known of it.
        file: the name under which the file is kept.
        size: bytes; None where unknown.
        checksum: kind (``git_blob``: SHA-1 of ``blob <size>\0`` and content;
            ``sha256``) and hexadecimal digest; None where unknown.
        config: the name of a shipped config or the file of a config that reproduces the figures, and the keys to
            change; None where there is none.
        published: figures of those who made it.
        measured: figures of this project.
        initial: whether ``pretrained=True`` of its model starts from it.
        generated: whether the network was trained on generated images, whose figures compare with no other.
        note: what else is to be known.
        origin: the YAML file that holds the entry.
    """

    name: str
    model: str
    dataset: str
    modality: str
    feature_dim: int
    height: int
    width: int
    format: str
    source: Source
    licence: str
    file: str
    architecture: str | list | Mapping[str, Any] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    protocol: str = ""
    norm_mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    norm_std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    size: int | None = None
    checksum: tuple[str, str] | None = None
    config: tuple[str, Mapping[str, Any]] | None = None
    published: tuple[Figure, ...] = ()
    measured: tuple[Figure, ...] = ()
    initial: bool = False
    generated: bool = False
    note: str = ""
    origin: str = ""

    @classmethod
    def from_mapping(cls, content: Any, origin: str | Path) -> Entry:
        """Return the entry that a YAML mapping describes.

        Raises:
            InputError: a key that is unknown, missing or of another kind; file and key are named.
        """
        name = content.get("name") if isinstance(content, Mapping) else None
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]+", name):
            raise InputError(
                f'the zoo file "{origin}" holds an entry with the name {described(name)}, expected `name:` with letters, digits '
                "and _ . + - only"
            )
        where = f'the zoo file "{origin}", entry "{name}"'
        known = {field.name for field in dataclasses.fields(cls)} - {"origin"}
        for key in content:
            if key not in known:
                raise InputError(f'{where} has the unknown key "{key_text(key)}"{nearest(key_text(key), known)}')
        for key, (required, valid, expected) in _KEYS.items():
            if key not in content and required:
                raise InputError(f'{where} lacks the key "{key}"; expected {expected}')
            if key in content and not valid(content[key]):
                raise InputError(f'{where} sets "{key}" to {described(content[key])}, expected {expected}')
        values = dict(content, origin=str(origin), source=_source(content["source"], where))
        values["file"] = content.get("file") or f"{name}.pth"
        for key in ("norm_mean", "norm_std"):
            if key in content:
                values[key] = tuple(map(float, content[key]))
        for key in ("checksum", "config"):
            if content.get(key) is not None:
                values[key] = _PARSERS[key](content[key], where)
        for key in ("published", "measured"):
            values[key] = tuple(_figure(figure, f"{where}, {key}") for figure in content.get(key) or ())
        entry = cls(**values)
        entry.resolved_architecture()
        return entry

    def resolved_architecture(self) -> ArchitectureSpec | None:
        """Return the architecture as model factories take it; None where the file decides or the model has none.

        Raises:
            InputError: a mapping that is no architecture.
        """
        if self.architecture is None or self.architecture == FROM_FILE:
            return None
        if not isinstance(self.architecture, Mapping):
            return self.architecture
        space, choices = self.architecture.get("space"), self.architecture.get("choices")
        texts = isinstance(choices, Mapping) and all(isinstance(text, str) for item in choices.items() for text in item)
        if not isinstance(space, str) or not isinstance(choices, Mapping) or not choices or not texts:
            raise InputError(
                f'the zoo file "{self.origin}", entry "{self.name}" sets "architecture" to a mapping without "space" '
                'and "choices" (a slot: choice mapping); see architecture.json of a run'
            )
        return Architecture(space, tuple(choices.items()), {"zoo": self.name})


def described(value: Any) -> str:
    """Return a value of a parsed file as a message can hold it.

    >>> described("a b"), described([1, None])
    ("'a b'", '[1, None]')
    """
    try:
        return shown(repr(value))
    except (ValueError, RecursionError):  # numbers of thousands of digits, lists of thousands of levels
        return f"a value of type {type(value).__name__} that is too long to show"


def key_text(key: Any) -> str:
    """Return a key of a parsed file, which may be no text, as a message can hold it."""
    return shown(key) if isinstance(key, str) else described(key)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_line(value: Any) -> bool:
    return _is_text(value) and value.isprintable()


def _is_name(value: Any) -> bool:
    """Say whether a value names a file of a folder: ``..`` names the folder above."""
    return _is_line(value) and Path(value).name == value and value != ".."


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < _LARGE


def _is_triple(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 3 and all(
        type(x) in (int, float) and -_LARGE < x < _LARGE for x in value
    )


_LARGE = 2**53


_TEXT = (_is_text, "text")
_COUNT = (_is_count, "a whole number above 0")
# For each key: whether it is required, the check of its value, and the words of the message.
_KEYS: dict[str, tuple[bool, Callable[[Any], bool], str]] = {
    "model": (True, *_TEXT),
    "dataset": (True, *_TEXT),
    "modality": (True, lambda v: v in MODALITIES, " or ".join(MODALITIES)),
    "feature_dim": (True, *_COUNT),
    "height": (True, *_COUNT),
    "width": (True, *_COUNT),
    "format": (True, lambda v: v in FORMATS, "one of " + ", ".join(FORMATS)),
    "source": (True, lambda v: isinstance(v, Mapping), "a mapping with kind: " + ", ".join(_SOURCES)),
    "licence": (True, *_TEXT),
    "file": (False, lambda v: _is_name(v), "a file's name without folder"),
    "architecture": (
        False, lambda v: v is None or _is_text(v) or isinstance(v, (list, Mapping)),
        f'a preset or genotype, the authors\' list, a mapping of space and choices, or "{FROM_FILE}"',
    ),
    "options": (
        False, lambda v: isinstance(v, Mapping) and all(isinstance(key, str) for key in v),
        "a mapping of the model's arguments",
    ),
    "protocol": (False, *_TEXT),
    "norm_mean": (False, _is_triple, "three numbers"),
    "norm_std": (False, lambda v: _is_triple(v) and all(x > 0 for x in v), "three numbers above 0"),
    "interpolation": (False, lambda v: v in _INTERPOLATIONS, "one of " + ", ".join(_INTERPOLATIONS)),
    "size": (False, lambda v: v is None or _is_count(v), "bytes, or null where unknown"),
    "published": (False, lambda v: v is None or isinstance(v, list), "a list of figures"),
    "measured": (False, lambda v: v is None or isinstance(v, list), "a list of figures"),
    "initial": (False, lambda v: isinstance(v, bool), "true or false"),
    "generated": (False, lambda v: isinstance(v, bool), "true or false"),
    "note": (False, *_TEXT),
}


def _source(content: Mapping[str, Any], where: str) -> Source:
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in _SOURCES:
        raise InputError(f'{where} sets "source.kind" to {described(kind)}, expected one of {", ".join(_SOURCES)}')
    expected = {"kind", *_SOURCES[kind]}
    if set(content) - _MORE.get(kind, set()) != expected or not all(_is_line(value) for value in content.values()):
        raise InputError(
            f'{where} has a "source" of kind {kind} with {", ".join(map(key_text, content))}; expected text for '
            f"{', '.join(sorted(expected))}"
        )
    if kind == "url" and not content["url"].startswith("https://"):
        raise InputError(f'{where} sets "source.url" to {described(content["url"])}, expected an address with https://')
    if kind == "torchreid" and not _is_name(content["cached"]):
        raise InputError(
            f'{where} sets "source.cached" to {described(content["cached"])}, expected a file\'s name without folder'
        )
    return Source(**content)


def _checksum(content: Any, where: str) -> tuple[str, str]:
    if isinstance(content, Mapping) and len(content) == 1:
        (kind, digest), = content.items()
        # YAML reads a digest without letters as a number.
        digest = str(digest) if type(digest) is int and 0 <= digest < 10**64 else digest
        if kind in _DIGESTS and isinstance(digest, str) and re.fullmatch(rf"[0-9a-f]{{{_DIGESTS[kind]}}}", digest):
            return kind, digest
    expected = " or ".join(f"{kind}: {length} hexadecimal digits" for kind, length in _DIGESTS.items())
    raise InputError(f'{where} sets "checksum" to {described(content)}, expected {expected}, or null where unknown')


def _config(content: Any, where: str) -> tuple[str, dict[str, Any]]:
    if isinstance(content, Mapping) and _is_text(content.get("file")) and set(content) <= {"file", "overrides"}:
        overrides = content.get("overrides") or {}
        if isinstance(overrides, Mapping):
            return content["file"], dict(overrides)
    raise InputError(f'{where} sets "config" to {described(content)}, expected a file, and overrides (key: value), or null')


def _figure(content: Any, where: str) -> Figure:
    texts = ("dataset", "source", "protocol", "feature")
    if not isinstance(content, Mapping):
        raise InputError(f"{where} holds {described(content)}, expected a mapping of dataset, source and scores")
    for key, value in content.items():
        if key not in (*texts, *SCORES):
            raise InputError(f'{where} has the unknown key "{key_text(key)}"{nearest(key_text(key), (*texts, *SCORES))}')
        if key in SCORES and not (type(value) in (int, float) and 0 <= value <= 100):
            raise InputError(f'{where} sets "{key}" to {described(value)}, expected percent')
    scores = {key: float(content[key]) for key in SCORES if key in content}
    for key in texts[2:]:
        if not isinstance(content.get(key, ""), str):
            raise InputError(f'{where} sets "{key}" to {described(content[key])}, expected text')
    if not _is_text(content.get("dataset")) or not _is_text(content.get("source")) or not scores:
        raise InputError(f'{where} lacks "dataset", "source" or a score ({", ".join(SCORES)})')
    return Figure(scores=scores, **{key: content[key] for key in texts if key in content})


_PARSERS = {"checksum": _checksum, "config": _config}
