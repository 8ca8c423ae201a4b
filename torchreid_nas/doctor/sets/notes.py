"""What a tolerant reader meets on its way: lines, names and files that are not as they should be."""
from __future__ import annotations

__all__ = ["Notes", "marked"]

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from torchreid_nas.data.own.folder import find_images
from torchreid_nas.data.synthetic.store import in_synthetic
from torchreid_nas.doctor.findings import Finding, are, counted
from torchreid_nas.doctor.records import Data
from torchreid_nas.errors import InputError, shown

_EXPECTED = (".txt", ".mat", ".json", ".md", ".csv")


class Notes:
    """The files of a data set, and what is wrong with them.

    Args:
        folder: of the data set.

    Attributes:
        images: names of the images below the folder, with ``/``, in order.
        others: names of the other files.

    Raises:
        InputError: the folder, or a folder in it, cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images, self.others = find_images(folder)
        self._there = frozenset(self.images)
        self._bad_lines: dict[str, list[str]] = {}
        self._missing: dict[str, list[str]] = {}
        self._lone_persons: dict[str, list[str]] = {}
        self._bad_names: list[str] = []
        self._unlisted: list[str] = []
        self._disagreements: list[tuple[str, tuple[str, ...]]] = []

    def path(self, name: str) -> str:
        """Return the path of a file by its name below the folder."""
        return f"{self.folder}/{name}"

    def has(self, name: str) -> bool:
        """Return whether an image is there."""
        return name in self._there

    def lines(self, index: str) -> list[tuple[int, str]]:
        """Return the lines of a list by their numbers, those that are text; a list that cannot be read has none."""
        try:
            content = (self.folder / index).read_bytes().removeprefix(b"\xef\xbb\xbf")
        except OSError as error:
            self.disagree(f"The list {index} cannot be read ({error.strerror})")
            return []
        lines = []
        for number, raw in enumerate(content.splitlines(), start=1):
            try:
                text = raw.decode("utf-8").strip()
            except UnicodeDecodeError:
                self.bad_line(index, number, "no text")
                continue
            if text:
                lines.append((number, text))
        if not lines:
            self.disagree(f"The list {index} is empty")
        return lines

    def numbers(self, index: str) -> set[int]:
        """Return the numbers of a list of persons, separated by commas."""
        numbers = set()
        for number, line in self.lines(index):
            for word in line.strip(",").split(","):
                if re.fullmatch("[0-9]{1,18}", word.strip()):
                    numbers.add(int(word))
                else:
                    self.bad_line(index, number, word)
        return numbers

    def labelled(self, index: str) -> list[tuple[str, int]]:
        """Return the images and labels of a list, also those that are not on the disk, which are noted."""
        items: list[tuple[str, int]] = []
        seen: set[str] = set()
        for number, line in self.lines(index):
            image, _, label = line.replace("\t", " ").rpartition(" ")
            image = image.strip().replace("\\", "/").removeprefix("./")
            if not image or image in seen or not re.fullmatch("[0-9]{1,18}", label):
                self.bad_line(index, number, f"{line} (a second time)" if image in seen else line)
                continue
            seen.add(image)
            items.append((image, int(label)))
        return items

    def bad_line(self, index: str, number: int | None, text: str) -> None:
        """Note a line that says nothing; None for a number that is not known."""
        where = "one" if number is None else f"line {number}"
        self._bad_lines.setdefault(index, []).append(f'{where} is "{shown(text)}"')

    def missing(self, index: str, name: str) -> None:
        """Note a listed image that is not on the disk."""
        self._missing.setdefault(index, []).append(name)

    def without_images(self, index: str, persons: Iterable[str]) -> None:
        """Note listed persons of whom there is no image."""
        persons = list(persons)
        if persons:
            self._lone_persons[index] = persons

    def bad_name(self, name: str) -> None:
        """Note an image whose name tells nothing."""
        self._bad_names.append(name)

    def not_listed(self, name: str) -> None:
        """Note an image that no list names."""
        self._unlisted.append(name)

    def disagree(self, what: str, files: Iterable[str] = ()) -> None:
        """Note that a list contradicts another one or the disk."""
        self._disagreements.append((what, tuple(self.path(name) for name in files)))

    def check_labels(self, what: str, pairs: Iterable[tuple[int, str]]) -> None:
        """Hold labels against persons: each label stands for one person, and each person has one label.

        Args:
            what: the lists, for the sentence: ``"The training lists"``.
            pairs: label and person of every listed image.
        """
        labels: dict[int, set[str]] = {}
        persons: dict[str, set[int]] = {}
        for label, person in pairs:
            labels.setdefault(label, set()).add(person)
            persons.setdefault(person, set()).add(label)
        mixed = sorted(label for label, names in labels.items() if len(names) > 1)
        twice = sorted(name for name, numbers in persons.items() if len(numbers) > 1)
        if mixed or twice:
            example = (
                f"label {mixed[0]} stands for {len(labels[mixed[0]])} persons" if mixed
                else f"person {twice[0]} has {len(persons[twice[0]])} labels"
            )
            self.disagree(f"{what} disagree on {counted(max(len(mixed), len(twice)), 'label')}: {example}")

    def findings(self) -> list[Finding]:
        """Return all of it."""
        found = []
        for index, names in self._missing.items():
            words = {"files": counted(len(names), "file"), "index": index, "verb": are(len(names))}
            found.append(Finding("listed_missing", len(names), words, self._paths(names)))
        for index, persons in self._lone_persons.items():
            files = counted(len(persons), "person")
            words = {"files": f"The images of {files} ({', '.join(persons[:5])}{', …' * (len(persons) > 5)})", "index": index}
            found.append(Finding("listed_missing", len(persons), {**words, "verb": "are"}))
        for index, texts in self._bad_lines.items():
            words = {"lines": counted(len(texts), "line"), "index": index, "example": texts[0]}
            found.append(Finding("bad_line", len(texts), words, (self.path(index),)))
        for what, paths in self._disagreements:
            found.append(Finding("list_disagrees", max(len(paths), 1), {"what": what}, paths))
        for kind, names, word, verbs in (
            ("bad_name", self._bad_names, "image", ("has", "have")), ("not_listed", self._unlisted, "image", ("is", "are")),
            ("other_files", self.others, "file", ("is", "are")),
        ):
            # Lists, and what a data set comes with, are no surprise.
            names = [name for name in names if kind != "other_files" or not name.endswith(_EXPECTED)]
            if names:
                number = counted(len(names), word)
                words = {"images": number, "files": number, "verb": are(len(names), *verbs), "example": shown(names[0], 100)}
                found.append(Finding(kind, len(names), words, self._paths(names)))
        return found

    def _paths(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.path(name) for name in names)


def marked(data: Data, notes: Notes) -> Data:
    """Return a named data set with its notes; of a generated stand-in no complete copy is expected.

    Raises:
        InputError: the folder holds no image at all.
    """
    if not notes.images:
        held = f" (it holds {len(notes.others):,} other files)" if notes.others else ""
        raise InputError(f'the folder "{notes.folder}" of {data.name} holds no image{held}; unpack the data set again')
    data.found += notes.findings()
    if in_synthetic(notes.path(notes.images[0])):
        data.expected, data.persons = (), None
        data.remarks.append(f"generated stand-in for {data.name}: the counts of a complete copy are not asked for")
    return data
