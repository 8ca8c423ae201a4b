"""Checks of single images, on planted measurements: exposure and sharpness against a camera's others, and modalities."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torchreid_nas.doctor import Data, Record
from torchreid_nas.doctor.check_images import Measured, camera_table, exposure_and_sharpness, modalities
from torchreid_nas.doctor.measure import MEASUREMENT


def measured(count=40, modality=lambda number: "", **values):
    """Usual images in one camera, with some measurements replaced: name -> {image: value}, or values for all."""
    rows = np.zeros(count, MEASUREMENT)
    draw = np.random.default_rng(0)
    rows["mean"], rows["sharpness"] = draw.normal(100, 4, count), draw.normal(0.5, 0.02, count)
    rows["spread"], rows["colour"] = 40, 9
    for name, value in values.items():
        for number, each in value.items() if isinstance(value, dict) else enumerate(value):
            rows[name][number] = each
    records = [Record(f"{number:02d}.jpg", "1", 0, modality(number), "train") for number in range(count)]
    return Measured(Data("toy", Path(), records), [record.path for record in records], rows)


def named(check, given):
    return {finding.name: finding.files for finding in check(given)}


def test_usual_images_have_no_finding():
    assert named(exposure_and_sharpness, measured()) == {}


@pytest.mark.parametrize("values, kind", [
    ({"mean": {3: 8}}, "dark_or_bright"), ({"mean": {3: 245}}, "dark_or_bright"), ({"sharpness": {3: 0.05}}, "blurred"),
])
def test_an_image_unlike_the_others_of_its_camera_is_named(values, kind):
    assert named(exposure_and_sharpness, measured(**values)) == {kind: ("03.jpg",)}


@pytest.mark.parametrize("values, kind", [
    ({"mean": [60, 110, 160] * 13 + [8]}, "dark_or_bright"), ({"sharpness": [0.3, 0.8, 2.5] * 13 + [0.04]}, "blurred"),
])
def test_a_camera_of_many_lights_hides_no_spoiled_image(values, kind):
    assert named(exposure_and_sharpness, measured(**values)) == {kind: ("39.jpg",)}


def test_of_a_dark_image_nothing_more_is_said():
    assert named(exposure_and_sharpness, measured(mean={3: 8}, sharpness={3: 0.01})) == {"dark_or_bright": ("03.jpg",)}


def test_a_camera_with_few_images_has_no_usual_exposure():
    assert named(exposure_and_sharpness, measured(11, mean={3: 8})) == {}


def test_colour_tells_images_in_the_wrong_modality():
    def modality(number):
        return ("visible", "infrared")[number % 2]

    grey = [(9, 0.1)[number % 2] for number in range(40)]
    assert named(modalities, measured(modality=modality, colour=grey)) == {}
    assert named(modalities, measured(modality=modality, colour=[*grey[:38], 0.1, 9])) == {
        "colour_in_infrared": ("39.jpg",), "grey_in_visible": ("38.jpg",),
    }
    exchanged = named(modalities, measured(modality=modality, colour=grey[1:] + grey[:1]))
    assert list(exchanged) == ["swapped_modalities"] and len(exchanged["swapped_modalities"]) == 40
    # Infrared images that are coloured by themselves, and visible ones by night, tell nothing.
    assert named(modalities, measured(modality=modality, colour=[9] * 40)) == {}


def test_the_table_of_cameras_counts_every_image():
    row, = camera_table(measured(sharpness=[0.5] * 40, mean=[100] * 40))
    assert row == {"camera": "1", "modality": "", "images": 40, "persons": 1, "mean": 100, "spread": 40, "sharpness": 0.5}
