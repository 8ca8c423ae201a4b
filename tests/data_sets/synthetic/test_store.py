"""Generated data sets on disk: whole or not at all, reused, never overwritten; settings, contact sheet and command."""
from __future__ import annotations

import errno
import json
import math
from pathlib import Path

import numpy as np
import pytest
from digests import digests
from generated import SMALL
from PIL import Image, ImageDraw

from torchreid_nas.cli.synthetic import main
from torchreid_nas.data.synthetic import (
    SyntheticSettings,
    contact_sheet,
    layouts,
    photograph,
    write_dataset,
    write_regdb,
    write_sysu_mm01,
)
from torchreid_nas.errors import InputError

# On disk: whole or not at all, reused, never overwritten


def test_same_settings_are_reused_and_others_refused(tmp_path: Path) -> None:
    settings = SyntheticSettings(**SMALL)
    folder = write_regdb(tmp_path, settings)
    marker = json.loads((folder / "synthetic.json").read_text())
    assert marker["settings"]["gap"] == 0.7 and "not RegDB itself" in marker["note"]
    victim = next((folder / "Visible").rglob("*.bmp"))
    victim.unlink()
    assert write_regdb(tmp_path, settings) == folder
    assert not victim.exists()
    before = digests(folder)
    with pytest.raises(InputError, match=r"gap=0\.7 instead of 0\.2.*remove it or choose another root"):
        write_regdb(tmp_path, SyntheticSettings(**SMALL, gap=0.2))
    assert digests(folder) == before


def test_a_folder_that_was_not_generated_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "SYSU-MM01").mkdir()
    (tmp_path / "SYSU-MM01" / "real.txt").write_text("precious")
    with pytest.raises(InputError, match="SYSU-MM01.*is no generated data set.*choose another root"):
        write_sysu_mm01(tmp_path, SyntheticSettings(**SMALL))
    assert [path.name for path in tmp_path.rglob("*")] == ["SYSU-MM01", "real.txt"]


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_nothing_half_written_is_left(failure: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail(*arguments: object) -> np.ndarray:
        calls.append(arguments)
        if len(calls) > 5:
            raise failure
        return photograph(*arguments)

    monkeypatch.setattr(layouts, "photograph", fail)
    with pytest.raises((InputError, KeyboardInterrupt)) as error:
        write_regdb(tmp_path, SyntheticSettings(**SMALL))
    if isinstance(failure, OSError):
        assert "RegDB" in str(error.value) and "No space left on device" in str(error.value)
    assert len(calls) == 6 and not list(tmp_path.iterdir())


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        write_regdb(tmp_path / "file", SyntheticSettings(**SMALL))


# Bad input


@pytest.mark.parametrize(
    "name, value, limits",
    [
        ("identities", 3, "a whole number from 4 to 9999"),
        ("identities", True, "a whole number"),
        ("images", 0, "from 1 to 9999"),
        ("height", 2.5, "a whole number from 32"),
        ("width", 8, "from 16"),
        ("gap", -0.1, "a number from 0.0 to 2.0"),
        ("gap", math.nan, "a number from 0.0 to 2.0"),
        ("difficulty", 1.01, "from 0.0 to 1.0"),
        ("difficulty", "hard", "a number from 0.0 to 1.0"),
        ("seed", -1, "from 0"),
        ("trials", 0, "from 1"),
    ],
)
def test_settings_out_of_range(name: str, value: object, limits: str) -> None:
    with pytest.raises(InputError) as error:
        SyntheticSettings(**{name: value})
    assert f"{name} is {value!r}, expected" in str(error.value) and limits in str(error.value)


def test_settings_take_numpy_numbers() -> None:
    settings = SyntheticSettings(identities=np.int64(8), gap=np.float32(0.5))
    assert settings == SyntheticSettings(identities=8, gap=0.5) and type(settings.identities) is int


def test_regdb_needs_two_halves(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="identities=7 must be even"):
        write_regdb(tmp_path, SyntheticSettings(**{**SMALL, "identities": 7}))


def test_unknown_layout(tmp_path: Path) -> None:
    with pytest.raises(InputError, match='"sysu".*regdb, sysu_mm01.*did you mean "sysu_mm01"'):
        write_dataset("sysu", tmp_path, SyntheticSettings(**SMALL))


# Contact sheet and command


def test_contact_sheet(sysu: Path, tmp_path: Path) -> None:
    path = contact_sheet(sysu.parent, tmp_path / "sheet.png", identities=3, images=2, columns=2)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    # 2 rows of 2 x 48 pixels and margins of 8 below a caption of lines of 12, on the narrowest sheet.
    head = pixels.shape[0] - 2 * (2 * 48 + 8) - 8
    assert head > 20 and head % 12 == 8 and pixels.shape[1] == 320
    visible, infrared = pixels[head : head + 48, 8:32], pixels[head + 48 : head + 96, 8:32]
    assert (visible != visible[..., :1]).any() and (infrared == infrared[..., :1]).all()
    first = next(sysu / f"cam{c}/0001/0001.jpg" for c in (1, 2, 4, 5) if (sysu / f"cam{c}/0001").exists())
    with Image.open(first) as image:
        assert (np.asarray(image) == visible).all()
    dark = next(sysu / f"cam{c}/0001/0001.jpg" for c in (3, 6) if (sysu / f"cam{c}/0001").exists())
    with Image.open(dark) as image:
        assert np.ptp(np.asarray(image)) < np.ptp(infrared) and infrared.min() < 20 and infrared.max() > 235


def test_the_caption_is_wrapped_and_says_that_infrared_is_stretched(sysu: Path, tmp_path: Path, monkeypatch) -> None:
    drawn = []
    text = ImageDraw.ImageDraw.multiline_text

    def keep(self, at, lines, **options):
        drawn.append((at, lines, options))
        text(self, at, lines, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "multiline_text", keep)
    path = contact_sheet(sysu.parent, tmp_path / "sheet.png", identities=1, images=1)
    ((left, _), lines, options), = drawn
    assert "infrared brightness stretched for display" in " ".join(lines.split("\n"))
    with Image.open(path) as image:
        assert all(left + options["font"].getlength(line) <= image.width for line in lines.split("\n"))


def test_contact_sheet_refuses_what_was_not_generated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no generated data set"):
        contact_sheet(tmp_path, tmp_path / "sheet.png")
    for write in (write_regdb, write_sysu_mm01):
        write(tmp_path, SyntheticSettings(**SMALL))
    with pytest.raises(InputError, match='"RegDB" and "SYSU-MM01".*name one'):
        contact_sheet(tmp_path, tmp_path / "sheet.png")
    with pytest.raises(InputError, match="must end in .png"):
        contact_sheet(tmp_path / "RegDB", tmp_path / "sheet.pdf")
    with pytest.raises(InputError, match="images=0 must be at least 1"):
        contact_sheet(tmp_path / "RegDB", tmp_path / "sheet.png", images=0)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["regdb", "--root", str(tmp_path), "--identities", "4", "--images", "2", "--height", "40"]
    arguments += ["--width", "20", "--gap", "0.3", "--difficulty", "0.2", "--seed", "5", "--trials", "1"]
    assert main([*arguments, "--sheet", str(tmp_path / "sheet.png")]) == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "RegDB") in said and "4 synthetic identities, 16 images" in said
    assert "no substitute for the real RegDB" in said and (tmp_path / "sheet.png").is_file()
    settings = json.loads((tmp_path / "RegDB" / "synthetic.json").read_text())["settings"]
    assert settings == {
        "identities": 4, "images": 2, "height": 40, "width": 20, "gap": 0.3, "difficulty": 0.2, "seed": 5, "trials": 1
    }
    with pytest.raises(InputError, match="did you mean"):
        main(["regbd", "--root", str(tmp_path)])
