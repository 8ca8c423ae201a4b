"""RegDB for the doctor."""
from __future__ import annotations

__all__ = ["read_regdb"]

from pathlib import Path

from torchreid_nas.data.dataset import MODALITIES
from torchreid_nas.data.regdb import LAYOUT, NUM_TRIALS, WORDS
from torchreid_nas.doctor.findings import counted, listed
from torchreid_nas.doctor.records import Data, Expected, Record
from torchreid_nas.doctor.sets.notes import Notes, marked
from torchreid_nas.metrics.protocols import PROTOCOLS

_PARTS = "train", "test"


def read_regdb(folder: Path, split_id: int = 0) -> Data:
    """Read RegDB (Nguyen et al., Sensors 2017): all trials' lists against the disk; the parts are those of one trial.

    Args:
        folder: of the data set.
        split_id: the trial, from 0.

    Raises:
        InputError: the folder cannot be read, or holds no image.
    """
    notes = Notes(folder)
    trials = sorted(
        trial for trial in range(1, NUM_TRIALS + 1)
        if trial == split_id + 1 or any((folder / _list(part, word, trial)).exists() for part in _PARTS for word in WORDS)
    )
    part_of: dict[str, set[str]] = {}
    named: set[str] = set()
    for trial in trials:
        persons = {part: _read_trial(notes, part, trial, named, part_of if trial == split_id + 1 else None) for part in _PARTS}
        shared = sorted(persons["train"] & persons["test"], key=lambda name: (len(name), name))
        # Those of the chosen trial are found among the records.
        if shared and trial != split_id + 1:
            notes.disagree(f"Trial {trial} trains and tests on {counted(len(shared), 'person')}: {listed(shared)}")
    records = []
    for name in notes.images:
        folders = name.split("/")
        if len(folders) != 3 or folders[0].lower() not in WORDS:
            notes.bad_name(name)
            continue
        camera = WORDS.index(folders[0].lower())
        if name not in named:
            notes.not_listed(name)
        for part in sorted(part_of.get(name, {""})):
            role = {"test": ("query", "gallery")[camera]}.get(part, part)
            records.append(Record(notes.path(name), folders[1], camera, MODALITIES[camera], role))
    expected = [Expected("persons", (412,), ("train", "query", "gallery"), "persons")]
    for part, words in (("train", "training"), ("query", "query"), ("gallery", "gallery")):
        expected.append(Expected(f"{words} identities of trial {split_id + 1}", (206,), (part,), "persons"))
        modalities = MODALITIES if part == "train" else ("",)
        expected += [
            Expected(f"{modality} {words} images of trial {split_id + 1}".strip(), (2_060,), (part,), modality=modality)
            for modality in modalities
        ]
    data = Data(
        LAYOUT.name, folder, records, PROTOCOLS["regdb"], tuple(expected), frozenset({0, 1}), (1, 412), source=LAYOUT.request,
        remarks=[f"parts of trial {split_id + 1} of {len(trials)}; the lists of all trials were read"],
    )
    return marked(data, notes)


def _list(part: str, word: str, trial: int) -> str:
    return f"idx/{part}_{word}_{trial}.txt"


def _read_trial(notes: Notes, part: str, trial: int, named: set[str], part_of: dict[str, set[str]] | None) -> set[str]:
    """Read the two lists of a part, note what is wrong with them, and return the persons."""
    pairs: list[tuple[int, str]] = []
    for word in WORDS:
        index = _list(part, word, trial)
        strangers = []
        for image, label in notes.labelled(index):
            folders = image.split("/")
            if len(folders) != 3:
                notes.bad_line(index, None, image)
                continue
            if folders[0].lower() != word:
                strangers.append(image)
            named.add(image)
            if not notes.has(image):
                notes.missing(index, image)
                continue
            pairs.append((label, folders[1]))
            if part_of is not None:
                part_of.setdefault(image, set()).add(part)
        if strangers:
            notes.disagree(f"{index} names {counted(len(strangers), 'image')} of the other modality", strangers)
    notes.check_labels(f"The lists of the {part} part of trial {trial}", pairs)
    return {person for _, person in pairs}
