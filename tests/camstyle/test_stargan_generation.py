"""Writing camera-style images: all of them, under the released names, whole or not at all."""
from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from PIL import Image

from torchreid_nas.camstyle import generation
from torchreid_nas.camstyle.generation import MARKER, CamStyleFiles, generate, weights_digest
from torchreid_nas.camstyle.images import CameraImages, to_tensor
from torchreid_nas.camstyle.networks import Generator
from torchreid_nas.data.camstyle.names import CAMSTYLE_FOLDER
from torchreid_nas.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture
def generator():
    torch.manual_seed(0)
    return Generator(3, 4, 1)


def write(generator, images, batch_size=4, **options):
    return generate(generator, images, CamStyleFiles(images), {"iteration": 7}, CPU, batch_size, **options)


def folder_of(images):
    return Path(images.items[0][0]).parents[1] / CAMSTYLE_FOLDER


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def layout(folder, names, camids):
    """Copies of one image under the names of a data set."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 24), (90, 60, 30)).save(folder / name)
    return CameraImages([(str(folder / name), 0, camid, 0) for name, camid in zip(names, camids)], 16, 8)


# -- names --------------------------------------------------------------------


@pytest.mark.parametrize("part, names, camids, msmt17, expected", [
    ("market1501/bounding_box_train", ["0002_c1s1_000451_03.jpg", "0002_c6s1_000001_01.jpg"], (0, 5), False,
     {"0002_c1s1_000451_03_fake_1to6.jpg", "0002_c6s1_000001_01_fake_6to1.jpg"}),
    ("dukemtmc-reid/DukeMTMC-reID/bounding_box_train", ["0001_c2_f0046182.jpg", "0001_c8_f0046302.jpg"], (1, 7), False,
     {"0001_c2_f0046182_fake_2to8.jpg", "0001_c8_f0046302_fake_8to2.jpg"}),
    ("msmt17/MSMT17_V1/train", ["0000/0000_000_01_0303morning_0015_0.jpg", "0000/0000_001_15_0303noon_0001_0.jpg"],
     (0, 14), True, {"0000_000_01_0303morning_0015_0_fake_15.jpg", "0000_001_15_0303noon_0001_0_fake_1.jpg"}),
])
def test_files_have_the_released_names_beside_the_training_folder(part, names, camids, msmt17, expected, tmp_path):
    images = layout(tmp_path / part, names, camids)
    files = CamStyleFiles(images, msmt17)
    torch.manual_seed(0)
    assert generate(Generator(2, 2, 0), images, files, {}, CPU) == len(files) == 2
    folder = (tmp_path / part).parent / CAMSTYLE_FOLDER
    assert files.folders == [folder] and {path.name for path in folder.glob("*.jpg")} == expected


def test_two_images_that_would_share_a_file_are_refused(tmp_path):
    images = layout(tmp_path / "d", ["cam1/0001/0001.jpg", "cam1/0002/0001.jpg", "cam2/0001/0001.jpg"], (0, 0, 1))
    with pytest.raises(InputError, match='2 training images are named "0001", .* would share a file'):
        CamStyleFiles(images)


# -- files --------------------------------------------------------------------


def test_every_image_is_there_in_the_style_of_every_other_camera(camera_images, generator):
    images = camera_images()
    assert write(generator, images) == 12
    folder = folder_of(images)
    expected = {
        f"{Path(path).stem}_fake_{camid + 1}to{new + 1}.jpg": (path, label)
        for path, _, camid, _ in images.items for label, new in enumerate(images.camids) if new != camid
    }
    assert {path.name for path in folder.glob("*.jpg")} == set(expected) and len(expected) == 12
    assert set(os.listdir(folder)) == {*expected, MARKER}
    for name, (path, label) in expected.items():
        with Image.open(folder / name) as image:
            assert image.size == (16, 32) and image.format == "JPEG"
            stored = to_tensor(image.convert("RGB"), 32, 16)
        with Image.open(path) as image:
            real = to_tensor(image.convert("RGB"), 32, 16)
        with torch.no_grad():
            fakes = generator(real.expand(3, -1, -1, -1), torch.arange(3))
        # JPEG loses a little of the noise that an untrained network makes.
        away = (stored - fakes).abs().mean((1, 2, 3))
        assert away.argmin() == label and away[label] < 0.05


def test_the_marker_says_whose_images_they_are(camera_images, generator):
    images = camera_images()
    write(generator, images)
    marker = json.loads((folder_of(images) / MARKER).read_text())
    assert marker == {"iteration": 7, "generator": weights_digest(generator)}
    with torch.no_grad():
        next(generator.parameters())[0, 0, 0, 0] += 1
    assert weights_digest(generator) != marker["generator"]


def test_files_that_are_there_are_not_touched(camera_images, generator):
    images = camera_images()
    write(generator, images)
    folder = folder_of(images)
    first, second = sorted(folder.glob("*.jpg"))[:2]
    first.write_bytes(b"mine")
    whole = second.read_bytes()
    second.unlink()
    assert write(generator, images) == 1
    assert first.read_bytes() == b"mine" and second.read_bytes() == whole
    assert write(generator, images) == 0


@pytest.mark.parametrize("batch_size, workers", [(1, 0), (5, 0), (4, 1)])
def test_batches_and_loader_processes_change_no_picture(batch_size, workers, camera_images, generator):
    images = camera_images()
    write(generator, images)
    before = contents(folder_of(images))
    write(generator, images, batch_size=batch_size, workers=workers, overwrite=True)
    for name, data in contents(folder_of(images)).items():
        # Convolutions may round otherwise in batches of another size: a step of a pixel at most.
        if name != MARKER and data != before[name]:
            assert batch_size != 4 and len(data) == pytest.approx(len(before[name]), rel=0.01)


def test_images_of_another_network_are_replaced_only_when_asked(camera_images, generator):
    images = camera_images()
    write(generator, images)
    folder = folder_of(images)
    before, other = contents(folder), Generator(3, 4, 1)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="12 camera-style images of another network or source; add --overwrite"):
        write(other, images)
    assert {name: data for name, data in contents(folder).items() if name != "notes.txt"} == before
    assert write(other, images, overwrite=True) == 12
    after = contents(folder)
    assert after.pop("notes.txt") == b"mine" and set(after) == set(before)
    assert all(after[name] != before[name] for name in before)


def test_released_images_without_a_marker_are_not_mixed_with_ours(camera_images, generator):
    images = camera_images()
    folder = folder_of(images)
    folder.mkdir()
    released = CamStyleFiles(images).path(0, 1)
    released.write_bytes(b"released")
    with pytest.raises(InputError, match="1 camera-style images of another network or source"):
        write(generator, images)
    assert contents(folder) == {released.name: b"released"}


# -- interruptions ------------------------------------------------------------


def _generate_and_die(generator, images, after):
    """Generate in a forked process that is killed while it writes a file: half of it is on disk."""
    torch.set_num_threads(1)
    save, saved = Image.Image.save, []

    def dying_save(self, path, **options):
        save(self, path, **options)
        saved.append(path)
        if len(saved) > after:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    Image.Image.save = dying_save
    write(generator, images)


def test_a_kill_leaves_whole_files_and_the_next_call_makes_the_same(camera_images, generator, monkeypatch):
    images = camera_images()
    write(generator, images)
    folder = folder_of(images)
    whole = contents(folder)
    CamStyleFiles(images).remove()
    monkeypatch.setattr(generation, "_WRITERS", 1)
    process = multiprocessing.get_context("fork").Process(target=_generate_and_die, args=(generator, images, 6))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = contents(folder)
    jpegs = {name: data for name, data in left.items() if name.endswith(".jpg") and not name.startswith(".")}
    assert len(jpegs) == 6 and all(whole[name] == data for name, data in jpegs.items())
    assert [name for name in left if name.startswith(".")], "the half file has a temporary name"
    assert write(generator, images) == 6
    assert contents(folder) == whole


def test_a_full_disk_is_said_in_one_sentence_and_leaves_whole_files(camera_images, generator, monkeypatch):
    images = camera_images()
    save, count = Image.Image.save, []

    def full(self, path, **options):
        count.append(path)
        if len(count) == 4:
            raise OSError(28, "No space left on device")
        save(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match="could not be written .No space left on device"):
        write(generator, images)
    monkeypatch.undo()
    folder = folder_of(images)
    assert not [name for name in os.listdir(folder) if name.startswith(".")]
    for path in folder.glob("*.jpg"):
        with Image.open(path) as image:
            image.load()


# -- two at once ----------------------------------------------------------------


def test_a_second_process_does_not_mix_its_images_in(generator, camera_images):
    images = camera_images()
    with FileLock(folder_of(images).with_name(f".{CAMSTYLE_FOLDER}.lock")):
        with pytest.raises(InputError, match=f'another process writes camera-style images into ".*{CAMSTYLE_FOLDER}"'):
            write(generator, images)
        assert not folder_of(images).exists()
    assert write(generator, images) == len(CamStyleFiles(images))


def test_images_that_another_network_wrote_meanwhile_are_refused(generator, camera_images):
    images = camera_images()
    listed_before = CamStyleFiles(images)
    write(generator, images)
    before = contents(folder_of(images))
    torch.manual_seed(1)
    with pytest.raises(InputError, match="camera-style images of another network"):
        generate(Generator(3, 4, 1), images, listed_before, {"iteration": 7}, CPU, 4)
    assert contents(folder_of(images)) == before
