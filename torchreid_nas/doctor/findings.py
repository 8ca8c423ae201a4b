"""What a check has found, and the words that findings share."""
from __future__ import annotations

__all__ = ["Finding", "Group", "are", "counted", "in_order", "listed", "worst_first"]

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torchreid_nas.data.own.records import natural
from torchreid_nas.doctor.kinds import KINDS, Kind, Severity
from torchreid_nas.errors import printable


@dataclass(frozen=True)
class Group:
    """Pictures that belong side by side.

    Attributes:
        title: what they show together.
        files: their paths.
        captions: one for each; empty for none.
    """

    title: str
    files: tuple[str, ...]
    captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the data.

    Attributes:
        name: of its row in :data:`~torchreid_nas.doctor.kinds.KINDS`.
        count: images, files or persons that it concerns.
        words: for the fields of the row's sentences.
        files: every file that it concerns, as paths.
        groups: pictures side by side, the worst first; empty where the files speak for themselves.

    Example:
        >>> finding = Finding("empty_file", 1, {"files": "1 file", "verb": "is"}, ("cam1/0001/0001.jpg",))
        >>> finding.sentence, finding.severity.name
        ('1 file is empty.', 'ERROR')
    """

    name: str
    count: int
    words: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()

    @property
    def kind(self) -> Kind:
        """Its row of the table."""
        return KINDS[self.name]

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return self.kind.severity

    @property
    def sentence(self) -> str:
        """What is wrong, in one line: names of files may hold anything."""
        return _one_line(self.kind.says.format_map(self.words))

    @property
    def way_out(self) -> str:
        """What to do."""
        return _one_line(self.kind.way_out.format_map(self.words))


def counted(number: int, word: str, plural: str = "") -> str:
    """Return a number with its word.

    >>> counted(1, "image"), counted(28_000, "image"), counted(2, "query", "queries")
    ('1 image', '28,000 images', '2 queries')
    """
    return f"{number:,} {word if number == 1 else plural or f'{word}s'}"


def are(number: int, singular: str = "is", plural: str = "are") -> str:
    """Return the verb for a number of things.

    >>> are(1), are(2), are(1, "has", "have")
    ('is', 'are', 'has')
    """
    return singular if number == 1 else plural


def in_order(names: Iterable[str]) -> list[str]:
    """Return names sorted so that 9 comes before 10.

    >>> in_order(["p10", "p9", "anna"])
    ['anna', 'p9', 'p10']
    """
    return sorted(names, key=natural)


def listed(names: Sequence[str] | Iterable[str], most: int = 5) -> str:
    """Return the first names of many.

    >>> listed("abcdefg", most=3)
    'a, b, c, … (7)'
    """
    names = list(names)
    return ", ".join(names[:most]) + (f", … ({len(names):,})" if len(names) > most else "")


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by the order of the table, and within a row by how many images they concern.

    >>> [found.name for found in worst_first([Finding("tiny", 9), Finding("deep", 1), Finding("tiny", 10)])]
    ['deep', 'tiny', 'tiny']
    """
    place = {name: number for number, name in enumerate(KINDS)}
    return sorted(findings, key=lambda finding: (place[finding.name], -finding.count))


def _one_line(text: str) -> str:
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
