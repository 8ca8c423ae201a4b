"""What is known of a search space below the search: how its architectures are called, checked, read and exported."""
from __future__ import annotations

__all__ = ["FORMATS", "FORMER_NAMES", "ArchitectureFormat", "Choices", "register_format"]

from collections.abc import Mapping, Sequence
from typing import Any

from torchreid_nas.errors import InputError

Choices = tuple[tuple[str, str], ...]
"""``(slot, choice)`` pairs in definition order."""


class ArchitectureFormat:
    """The names, rules and files of one search space's architectures; no torch, so that layers and config can ask it.

    This class is complete for a space without presets and without files of
    other authors: its architectures are kept as JSON, and every choice is
    accepted. A space with more overrides the method concerned.

    Args:
        name: of the space, as ``search.space`` and ``architecture.json`` hold it.

    Attributes:
        presets: names of the presets, for messages: ``share``, ``first-<k>``, ….

    >>> depth = ArchitectureFormat("depth")
    >>> depth.describe((("layer1", "2"), ("layer2", "1")))
    'depth: layer1=2, layer2=1'
    """

    presets: Sequence[str] = ()

    def __init__(self, name: str) -> None:
        self.name = name

    def describe(self, choices: Choices) -> str:
        """Return the architecture in one line, for the terminal."""
        return f"{self.name}: " + ", ".join(f"{slot}={choice}" for slot, choice in choices)

    def check(self, choices: Choices) -> None:
        """Check that every slot has a choice of this space.

        Raises:
            InputError: a slot has not; its name and its choice are in the message.
        """

    def check_slots(self, given: Sequence[str], slots: Sequence[str], name: str) -> None:
        """Check that an architecture of the slots ``given`` fits a network of the slots ``slots``.

        Raises:
            InputError: the slots differ; the message calls the architecture ``name``.
        """
        if len(given) != len(slots):
            raise InputError(
                f"{name} names {len(given)} slots, this network has {len(slots)}; search again for this network or choose the "
                "one that the architecture was made for"
            )
        for mine, other in zip(slots, given):
            if mine != other:
                raise InputError(
                    f'{name} names the slot "{other}" where this network has "{mine}"; the architecture is for another network'
                )

    def preset(self, name: str, slots: Sequence[str]) -> Choices | None:
        """Return the choices of the preset ``name`` for a network of ``slots``, None where no preset has that name.

        Raises:
            InputError: the preset does not fit the number of slots.
        """
        return None

    def read(self, content: Mapping[str, Any] | Sequence[Any]) -> Choices | None:
        """Return the choices that a file or a list of other authors means, None where it is not of this space.

        Args:
            content: the mapping of a JSON file that has no ``choices``, or a list from Python. A file of ints alone
                is always one of the CM-NAS authors.

        Raises:
            InputError: the content is of this space and wrong.
        """
        return None

    def export(self, choices: Choices) -> str | None:
        """Return the text of the authors' own file, None where the authors have none for these slots."""
        return None


FORMATS: dict[str, ArchitectureFormat] = {}
"""The formats by the names of their spaces, in the order of registration."""


FORMER_NAMES: dict[str, str] = {}
"""The names of today by the names that spaces once had, which configs and architecture files may hold."""


def register_format(architecture_format: ArchitectureFormat, *former_names: str) -> None:
    """Make the format known to :class:`~torchreid_nas.architecture.Architecture`; again is harmless.

    Args:
        architecture_format: of the space.
        former_names: names that the space once had.

    Raises:
        ValueError: another format has that name.
    """
    name = architecture_format.name
    if FORMATS.setdefault(name, architecture_format) is not architecture_format:
        raise ValueError(f'there is another search space "{name}"; give the new one another name')
    FORMER_NAMES.update(dict.fromkeys(former_names, name))
