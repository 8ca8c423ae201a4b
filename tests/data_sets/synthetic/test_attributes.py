"""The class folder of generated persons: whose images stand where, and that a class is what a person wears."""
from __future__ import annotations

import pytest

from torchreid_nas.data.classes import load_classes
from torchreid_nas.data.synthetic import Person, SyntheticSettings, write_attributes
from torchreid_nas.data.synthetic.attributes import class_of
from torchreid_nas.data.synthetic.settings import domain_seed
from torchreid_nas.errors import InputError

SETTINGS = SyntheticSettings(identities=40, images=2, height=32, width=16, difficulty=0.3)


def test_every_image_lies_in_the_class_of_its_person_and_persons_are_in_one_part(tmp_path):
    folder = write_attributes(tmp_path, SETTINGS)
    seed = domain_seed(0, "attributes")
    parts = {
        part: [(path.parent.name, int(path.name[:4])) for path in (folder / part).rglob("*.jpg")] for part in ("train", "test")
    }
    for images in parts.values():
        assert all(name == class_of(Person.of(seed, number, 0.3)) for name, number in images)
    train, test = ({number for _, number in images} for images in parts.values())
    assert not train & test and {name for name, _ in parts["train"]} == {name for name, _ in parts["test"]}
    assert len(parts["test"]) == 2 * len(test)
    data = load_classes("attributes", tmp_path)
    assert len(data.train) == len(parts["train"]) and len(data.classes) == len(test)


def test_too_few_persons_are_one_sentence_and_leave_nothing(tmp_path):
    with pytest.raises(InputError, match="of 4 persons no two classes have two persons each"):
        write_attributes(tmp_path, SyntheticSettings(identities=4, images=1, height=32, width=16))
    assert not list(tmp_path.iterdir())
