"""Architecture: the value that a search finds, a model is built from, and a file holds."""
from __future__ import annotations

__all__ = ["Architecture", "ArchitectureSpec", "BN_SPACE", "FORMATS", "SHARE", "SPLIT", "authors_slots"]

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard, Union

from torchreid_nas.architecture_format import FORMATS, FORMER_NAMES, ArchitectureFormat, Choices
from torchreid_nas.bn_choices import BN_SPACE, SHARE, SPLIT, authors_slots, choices_of_ints, ints_of_choices
from torchreid_nas.errors import InputError, nearest, shown
from torchreid_nas.files import read_json, write_json, write_text
from torchreid_nas.genotypes import BLOCK_SLOTS, CANDIDATES, choices_of_layers, layers_of_choices


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A point of a search space.

    What depends on the space — presets, checks, files of other authors, the
    line for the terminal — is asked of the space's
    :class:`~torchreid_nas.architecture_format.ArchitectureFormat`.

    Args:
        space: the space's name; ``"norm_split"`` for CM-NAS (formerly ``"bn_split"``, which stays accepted), ``"combined_depth"``
            and ``"combined"`` for CDNet.
        choices: ``(slot, choice)`` pairs in definition order. In the norm space
            a slot is the dotted name of a norm and the choice ``"share"``
            or ``"split"``. In CDNet's spaces a slot is a block (``"stage1.0"``)
            and the choice one of :data:`torchreid_nas.genotypes.CANDIDATES`.
        source: where the architecture came from (config digest, seed, data,
            epoch, …), in free form. Equality ignores the source.

    >>> architecture = Architecture.preset("first-1", ["bn1", "layer1.0.bn1"])
    >>> architecture.choices
    (('bn1', 'split'), ('layer1.0.bn1', 'share'))
    >>> print(architecture)
    1 of 2 norms split: bn1
    """

    space: str
    choices: Choices
    source: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", FORMER_NAMES.get(self.space, self.space))

    def __len__(self) -> int:
        return len(self.choices)

    def __str__(self) -> str:
        return self.format.describe(self.choices)

    @property
    def format(self) -> ArchitectureFormat:
        """The format of the space; a plain one where the space is not registered."""
        return FORMATS.get(self.space) or ArchitectureFormat(self.space)

    @property
    def slots(self) -> tuple[str, ...]:
        """The slot names in definition order."""
        return tuple(slot for slot, _ in self.choices)

    # -- making ---------------------------------------------------------------

    @classmethod
    def preset(cls, name: str, slots: Sequence[str], spaces: Sequence[str] = (BN_SPACE,)) -> Architecture:
        """Return a hand-made point of one of the ``spaces`` for a network with ``slots``.

        In the norm space ``share`` and ``split`` treat all slots alike;
        ``first-<k>`` / ``last-<k>`` split the first / last k; ``random-<seed>``
        splits each with probability one half; ``stages-stem+layer2`` splits
        the named stages (:func:`torchreid_nas.slots.stages`). In CDNet's spaces ``cdnet`` and
        ``cnet`` are the published genotypes.

        Raises:
            InputError: unknown preset, or k larger than the number of slots.
        """
        for space in spaces:
            choices = FORMATS[space].preset(name, slots)
            if choices is not None:
                return cls(space, choices, {"preset": name})
        known = [preset for space in spaces for preset in FORMATS[space].presets]
        raise InputError(
            f'the architecture "{shown(name)}" is neither a file nor a preset ({", ".join(known)}){nearest(name, known)}'
        )

    @classmethod
    def from_ints(cls, values: Sequence[int], source: Mapping[str, Any] | None = None) -> Architecture:
        """Read the CM-NAS authors' list: 0 = split, 1 = share, in their order of a ResNet's BatchNorms.

        Raises:
            InputError: a value other than 0 and 1, or a length that fits no ResNet.
        """
        return cls(BN_SPACE, choices_of_ints(values), source or {})

    @classmethod
    def from_layers(cls, layers: Sequence[Any], source: Mapping[str, Any] | None = None) -> Architecture:
        """Read the CDNet authors' ``layers``: ``[k1, k2, depth]`` or ``[k1, k2]`` for each of six blocks.

        Raises:
            InputError: another number of blocks, or an unknown candidate.

        >>> str(Architecture.from_layers([[5, 7], [7, 9], [7, 9], [7, 9], [7, 9], [3, 5]]))
        'combined: stage1.0=5,7, stage1.1=7,9, stage2.0=7,9, stage2.1=7,9, stage3.0=7,9, stage3.1=3,5'
        """
        return cls(*choices_of_layers(layers), source or {})

    @classmethod
    def genotype(cls, spec: ArchitectureSpec) -> Architecture:
        """Return the architecture of CDNet's spaces that ``spec`` names.

        Args:
            spec: an architecture, the name of a published one (``cdnet``,
                ``cnet``), the path of a file, the authors' ``layers`` or six
                candidates' names.

        Raises:
            InputError: unreadable, of another space, another number of blocks,
                or an unknown candidate.
        """
        return cls.resolve(spec, BLOCK_SLOTS, tuple(CANDIDATES))

    @classmethod
    def resolve(
        cls, spec: ArchitectureSpec, slots: Sequence[str], spaces: Sequence[str] = (BN_SPACE,),
    ) -> Architecture:
        """Return the architecture of one of the ``spaces`` that ``spec`` names, checked against a network with ``slots``.

        Args:
            spec: an architecture, a preset's name, the path of a file, or the authors' list.
            slots: of the network, in definition order.
            spaces: names of the spaces that the network can be built from.

        Raises:
            InputError: unreadable, of another space, or made for a network with other slots.
        """
        if _is_preset_name(spec):
            return cls.preset(str(spec), slots, spaces)
        name = f'the architecture file "{spec}"' if isinstance(spec, (str, os.PathLike)) else "the architecture"
        architecture = cls._read(spec, spaces)
        if architecture.space not in spaces:
            expected = " or ".join(f'"{space}"' for space in spaces)
            raise InputError(f'{name} is of the space "{shown(architecture.space)}", expected {expected}')
        architecture.format.check_slots(architecture.slots, slots, name)
        with _naming(name):
            architecture.format.check(architecture.choices)
        return architecture

    @classmethod
    def _read(cls, spec: ArchitectureSpec, spaces: Sequence[str]) -> Architecture:
        if isinstance(spec, cls):
            return spec
        if isinstance(spec, (str, os.PathLike)):
            return cls.load(spec)
        if isinstance(spec, Mapping) or not isinstance(spec, Iterable):
            raise InputError(f"an architecture is a name, a file or a list, got {shown(spec)}")
        found = _ask_formats(list(spec), spaces)
        if found is None:
            raise InputError(f"a list is no architecture of {' or '.join(spaces)}; give a file, got {shown(spec)}")
        return cls(*found)

    # -- files ----------------------------------------------------------------

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Architecture:
        """Read an architecture file: our JSON, the CM-NAS authors' ints, or the CDNet authors' JSON.

        The JSON of the CDNet authors holds ``layers`` and the logits ``alphas1``; the source keeps the logits.

        Raises:
            InputError: missing or malformed; the file and the fault are named.
        """
        path = Path(path)
        name = f'the architecture file "{shown(path, 500)}"'
        content = _content(path)
        with _naming(name):
            if not isinstance(content, Mapping):
                return cls.from_ints(content, {"file": str(path)})
            found = None if "choices" in content else _ask_formats(content, tuple(FORMATS))
            if found is not None:
                alphas = {"alphas": content["alphas1"]} if "alphas1" in content else {}
                return cls(*found, {"file": str(path), **alphas})
        space, choices, source = content.get("space"), content.get("choices"), content.get("source") or {}
        if not isinstance(space, str) or not _is_choices(choices):
            raise InputError(f'{name} lacks "space" or "choices" (a slot: choice mapping)')
        if not isinstance(source, Mapping):
            raise InputError(f'{name} sets "source" to {shown(source)}, expected a mapping; restore the file or remove that key')
        architecture = cls(space, tuple(choices.items()), source)
        with _naming(name):
            architecture.format.check(architecture.choices)
        return architecture

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the architecture as JSON: space, choices by slot, source."""
        write_json(path, {"space": self.space, "choices": dict(self.choices), "source": dict(self.source)})

    def export(self, path: str | os.PathLike[str]) -> bool:
        """Write the file of the space's authors, which their own scripts read; return False where they have none.

        Of CM-NAS it is the one-line ``config.cfg`` of ints, for ResNets only; of CDNet the JSON with ``layers``.
        """
        text = self.format.export(self.choices)
        if text is not None:
            write_text(path, text)
        return text is not None

    def to_ints(self) -> list[int]:
        """Return the CM-NAS authors' list (0 = split, 1 = share, in their order).

        Raises:
            InputError: the architecture is of another space, or its slots are not those of a ResNet.
        """
        values = ints_of_choices(self.choices) if self.space == BN_SPACE else None
        if values is None:
            raise InputError("the authors' format exists for ResNets only; save this architecture as JSON")
        return values

    def to_layers(self) -> list[list[int]]:
        """Return the CDNet authors' ``layers``: ``[k1, k2, depth]``, in the combined space ``[k1, k2]``, per block.

        Raises:
            InputError: the architecture is of another space.
        """
        if self.space not in CANDIDATES:
            raise InputError(f'the authors\' `layers` exist for CDNet only, this architecture is of "{self.space}"')
        return layers_of_choices(self.choices)


def _ask_formats(content: Mapping[str, Any] | Sequence[Any], spaces: Sequence[str]) -> tuple[str, Choices] | None:
    """Return the first of the ``spaces`` whose format reads ``content``, and the choices; None where none does."""
    for space in spaces:
        choices = FORMATS[space].read(content)
        if choices is not None:
            return space, choices
    return None


def _content(path: Path) -> Mapping[str, Any] | list[int]:
    """Return what an architecture file holds: a JSON object, or a list of ints.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        presets = [preset for known in FORMATS.values() for preset in known.presets]
        raise InputError(
            f'the architecture file "{shown(path, 500)}" cannot be read ({getattr(error, "strerror", None) or "no text"}); '
            f"give an existing file or a preset ({', '.join(presets)})"
        ) from error
    if text.startswith("{"):
        content: Mapping[str, Any] = read_json(path)
        return content
    words = re.split(r"[\s,]+", text.strip("[] \n"))
    if not all(re.fullmatch(r"-?[0-9]+", word) for word in words):
        raise InputError(
            f'the architecture file "{shown(path, 500)}" is neither JSON nor the authors\' list of ints (0 = split, 1 = share)'
        )
    longest = max(map(len, words))
    if longest > 9:
        # Python refuses to read a number of thousands of digits; a shorter one is no choice either.
        raise InputError(
            f'the architecture file "{shown(path, 500)}" holds a number of {longest} digits; the authors\' format holds 0 '
            "(split) and 1 (share) only"
        )
    return [int(word) for word in words]


def _is_choices(choices: Any) -> TypeGuard[dict[str, str]]:
    return isinstance(choices, dict) and bool(choices) and all(isinstance(choice, str) for choice in choices.values())


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Put ``name`` before the message of an InputError of the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _is_preset_name(spec: Any) -> bool:
    if not isinstance(spec, str) or "/" in spec or Path(spec).suffix:
        return False
    try:
        return not Path(spec).is_file()
    except OSError:  # a name too long for a file
        return True


ArchitectureSpec = Union[Architecture, str, "os.PathLike[str]", Sequence[Any]]
