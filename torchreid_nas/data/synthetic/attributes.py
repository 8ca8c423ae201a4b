"""A folder of classes of generated persons: what each wears and carries, for a classification before a re-ID."""
from __future__ import annotations

__all__ = ["ATTRIBUTES", "class_of", "write_attributes"]

import os
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from torchreid_nas.data.synthetic.camera import photograph
from torchreid_nas.data.synthetic.camera_network import Look
from torchreid_nas.data.synthetic.figure import Pose
from torchreid_nas.data.synthetic.person import Person
from torchreid_nas.data.synthetic.settings import COMMON_SETTINGS, SyntheticSettings, domain_seed, generator
from torchreid_nas.data.synthetic.store import stored
from torchreid_nas.errors import InputError

ATTRIBUTES = "attributes"
"""The name of the data set, of its folder, and of the domain of its persons: no other data set shows them."""

_DARK = 0.35
_CAST = 0.06


def class_of(person: Person) -> str:
    """Return the class of a person: upper garment, its colour, and bag.

    The colour is ``dark`` where no channel reaches 0.35, or else the name of the strongest channel.

    Example:
        >>> class_of(Person.of(0, 1, 0.5)).split("-")[2] in ("none", "backpack", "shoulder", "handbag")
        True
    """
    strongest = max(person.upper.rgb)
    colour = "dark" if strongest < _DARK else ("red", "green", "blue")[person.upper.rgb.index(strongest)]
    return f"{person.top}-{colour}-{person.bag}"


def write_attributes(root: str | os.PathLike[str], settings: SyntheticSettings) -> Path:
    """Write ``<root>/attributes/{train,test}/<class>/<person>_<number>.jpg`` and return the folder.

    ``settings.images`` images of each of ``settings.identities`` persons, each from one of ``settings.cameras`` cameras.
    The last person of each class is for test, all others for training; a class that one person alone has is left out.

    Raises:
        InputError: fewer than two classes have two persons, or see :func:`~.store.stored`.
    """
    uses = (*COMMON_SETTINGS, "cameras")
    return stored(root, ATTRIBUTES, ATTRIBUTES, settings, uses, lambda folder: _fill(folder, settings))


def _fill(folder: Path, settings: SyntheticSettings) -> None:
    seed, look = domain_seed(settings.seed, ATTRIBUTES), Look()
    persons = {number: look.person(seed, number, settings.difficulty) for number in range(1, settings.identities + 1)}
    members: dict[str, list[int]] = {}
    for number, person in persons.items():
        members.setdefault(class_of(person), []).append(number)
    members = {name: numbers for name, numbers in members.items() if len(numbers) > 1}
    if len(members) < 2:
        raise InputError(
            f"of {settings.identities} persons no two classes have two persons each; set synthetic.identities to 40 or more"
        )
    numbers = range(1, settings.cameras + 1)
    cameras = {number: look.camera(seed, number, _CAST) for number in numbers}
    scenes = {number: look.scene(seed, number) for number in numbers}
    images = [
        (f"{'test' if number == same[-1] else 'train'}/{name}/{number:04d}_{image}.jpg", number, image)
        for name, same in members.items() for number in same for image in range(1, settings.images + 1)
    ]
    for file, number, image in tqdm(images, desc="attributes (synthetic)", unit="image", disable=None):
        rng = generator(seed, "image", number, image)
        camera = int(rng.integers(1, settings.cameras + 1))
        pose = look.frame(Pose.sample(rng, settings.difficulty))
        picture = photograph(
            persons[number], pose, scenes[camera], cameras[camera], rng, settings.height, settings.width, settings.difficulty
        )
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / file, quality=95)
