"""Decoded images, of one size and of their own: the plain pipeline's pixels, one file for all who ask, no half of one."""
from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms as T

from torchreid_nas.data import cache
from torchreid_nas.data.cache import DecodedImages, StoredImages, cache_folders
from torchreid_nas.errors import InputError

HEIGHT, WIDTH = 24, 12


@pytest.fixture
def paths(tmp_path):
    """Images of several sizes and formats, one of them grey, and one of the network's size."""
    generator = np.random.default_rng(0)
    sizes = {"a.jpg": (40, 20, 3), "b.bmp": (HEIGHT, WIDTH, 3), "c.png": (10, 30, 3), "d.jpg": (33, 17)}
    folder = tmp_path / "data"
    folder.mkdir()
    for name, size in sizes.items():
        Image.fromarray(generator.integers(0, 256, size, dtype=np.uint8)).save(folder / name)
    return [str(folder / name) for name in sizes]


@pytest.fixture(params=["at one size", "as stored"])
def stored(request) -> bool:
    return request.param == "as stored"


@pytest.fixture
def make(paths, tmp_path, stored):
    def make(images=None, folders=(tmp_path / "cache",), root=tmp_path / "data", height=HEIGHT):
        images = paths if images is None else images
        return StoredImages(images, root, folders) if stored else DecodedImages(images, height, WIDTH, root, folders)

    return make


def content(images) -> list[np.ndarray]:
    """Copies of all images."""
    return [np.array(image) for image in images.pixels]


def same(one, other) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("[!.]*.npy"))


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".tmp" in path.name]


def never(path):
    raise AssertionError(f"{path} was decoded again")


def test_rows_are_what_the_plain_pipeline_sees(paths, tmp_path):
    images = DecodedImages([*reversed(paths), paths[1]], HEIGHT, WIDTH, tmp_path / "data", [tmp_path / "cache"])
    assert images.pixels.shape == (4, HEIGHT, WIDTH, 3) and images.pixels.dtype == np.uint8
    assert images.nbytes == images.pixels.nbytes and isinstance(images.pixels, np.memmap)
    resize = T.Resize((HEIGHT, WIDTH))
    for path, row in zip(paths, images.rows(paths)):
        assert np.array_equal(images.pixels[row], np.asarray(resize(Image.open(path).convert("RGB"))))
    assert images.covers(paths) and not images.covers([*paths, "other.jpg"])


def test_images_are_found_as_they_are_stored(paths, tmp_path):
    images = StoredImages([*reversed(paths), paths[1]], tmp_path / "data", [tmp_path / "cache"])
    assert len(images.pixels) == 4 and len({image.shape for image in images.pixels}) == 4
    for path in paths:
        image = images.find(path)
        assert np.array_equal(image, np.asarray(Image.open(path).convert("RGB")))
        assert image.dtype == np.uint8 and not image.flags.owndata and not image.flags.writeable
    assert images.find("other.jpg") is None


def test_both_kinds_lie_side_by_side(paths, tmp_path):
    shared = {"root": tmp_path / "data", "folders": [tmp_path / "cache"]}
    stored, resized = StoredImages(paths, **shared), DecodedImages(paths, HEIGHT, WIDTH, **shared)
    assert stored.pixels[0].shape == (40, 20, 3) and resized.pixels[0].shape == (HEIGHT, WIDTH, 3)
    assert [name.rpartition("-")[2] for name in files(tmp_path / "cache")].count("stored.npy") == 1
    assert len(files(tmp_path / "cache")) == 2


def test_images_are_decoded_once_whatever_their_order(paths, make, tmp_path, monkeypatch):
    pixels = content(make())
    monkeypatch.setattr(cache, "read_image", never)
    assert same(make(paths[::-1]).pixels, pixels)
    moved = (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert same(make([str(moved / Path(path).name) for path in paths], root=moved).pixels, pixels)
    assert len(files(tmp_path / "cache")) == 1


@pytest.mark.parametrize("change", ["touched", "rewritten", "fewer"])
def test_a_change_of_any_image_makes_another_file(paths, make, tmp_path, change):
    before = content(make())
    if change == "touched":
        os.utime(paths[2], ns=(0, 1))
        assert same(make().pixels, before)
    elif change == "rewritten":
        Image.new("RGB", (30, 10), (9, 8, 7)).save(paths[2])
        assert (make().pixels[2] == (9, 8, 7)).all()
    else:
        assert same(make(paths[1:]).pixels, before[1:])
    assert len(files(tmp_path / "cache")) == 2


def test_another_length_at_the_same_time_makes_another_file(paths, make, tmp_path):
    """Copies by some tools keep the time of the file that they replace."""
    make().pixels  # noqa: B018
    before = os.stat(paths[2])
    Image.new("RGB", (30, 10), (9, 8, 7)).save(paths[2])
    assert os.stat(paths[2]).st_size != before.st_size
    os.utime(paths[2], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (make().pixels[2] == (9, 8, 7)).all() and len(files(tmp_path / "cache")) == 2


def test_another_version_of_pillow_makes_another_file(make, tmp_path, monkeypatch):
    """Pillow's decoders and filters may change."""
    before = content(make())
    monkeypatch.setattr(cache.PIL, "__version__", "0.0")
    assert same(make().pixels, before) and len(files(tmp_path / "cache")) == 2


@pytest.mark.parametrize("stored", [False], indirect=True)
def test_another_size_makes_another_file(make, tmp_path):
    assert make().pixels.shape[1:3] == (HEIGHT, WIDTH) and make(height=16).pixels.shape[1:3] == (16, WIDTH)
    assert len(files(tmp_path / "cache")) == 2


def test_a_missing_image_is_named(paths, make):
    os.remove(paths[3])
    with pytest.raises(InputError, match=f'the image "{paths[3]}" cannot be read'):
        make().pixels


def test_a_broken_image_is_named_and_leaves_nothing(paths, make, tmp_path):
    with open(paths[0], "r+b") as file:
        file.truncate(300)
    with pytest.raises(InputError, match=f'the image "{paths[0]}" is truncated or no image'):
        make().pixels
    assert not files(tmp_path / "cache") and not leftovers(tmp_path / "cache")


@pytest.mark.parametrize("length", [0, 60, 1000])
def test_a_truncated_file_is_written_again(make, tmp_path, length):
    pixels = content(make())
    (name,) = files(tmp_path / "cache")
    os.truncate(tmp_path / "cache" / name, length)
    assert same(make().pixels, pixels)


@pytest.mark.parametrize("stored", [True], indirect=True)
@pytest.mark.parametrize("what", [[], [5] * 8, [1] * 70])
def test_a_file_whose_sizes_do_not_add_up_is_written_again(make, tmp_path, what):
    pixels = content(make())
    (name,) = files(tmp_path / "cache")
    np.save(tmp_path / "cache" / name, np.frombuffer(np.array(what, dtype="<i8").tobytes(), dtype=np.uint8))
    assert same(make().pixels, pixels)


def slowly(read):
    def read_slowly(path):
        time.sleep(0.1)
        return read(path)

    return read_slowly


def test_of_two_processes_at_once_one_decodes(paths, make, tmp_path, monkeypatch):
    fork = multiprocessing.get_context("fork")
    decoded, pixels = fork.Value("i", 0), fork.SimpleQueue()
    read = slowly(cache.read_image)

    def count(path):
        with decoded.get_lock():
            decoded.value += 1
        return read(path)

    monkeypatch.setattr(cache, "read_image", count)
    processes = [fork.Process(target=lambda: pixels.put(np.concatenate(content(make()), None).tobytes())) for _ in range(3)]
    for process in processes:
        process.start()
    found = {pixels.get() for _ in processes}
    for process in processes:
        process.join()
    assert decoded.value == len(paths) and found == {np.concatenate(content(make()), None).tobytes()}


def test_a_killed_process_is_no_hindrance(make, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_BLOCK", 1)
    with monkeypatch.context() as patched:
        patched.setattr(cache, "read_image", slowly(cache.read_image))
        process = multiprocessing.get_context("fork").Process(target=lambda: make().pixels)
        process.start()
        while not leftovers(tmp_path / "cache"):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert leftovers(tmp_path / "cache") and not files(tmp_path / "cache")
    assert len(make().pixels) == 4
    assert not leftovers(tmp_path / "cache")


def test_data_that_may_only_be_read_send_the_cache_elsewhere(make, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    # A folder below a file cannot be made by anybody, root included.
    closed = tmp_path / "file" / "cache"
    assert len(make(folders=(closed, tmp_path / "second")).pixels) == 4
    assert len(files(tmp_path / "second")) == 1
    with pytest.raises(InputError, match=f'cannot be kept in "{closed}" .*data.cache_dir.*data.cache off'):
        make(folders=(closed,)).pixels
    # What somebody else wrote is used, wherever it is.
    monkeypatch.setattr(cache, "read_image", never)
    assert len(make(folders=(closed, tmp_path / "first", tmp_path / "second")).pixels) == 4


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folders("data") == (Path("data/.cache/torchreid_nas"), tmp_path / "torchreid_nas" / "images")
    assert cache_folders("data", "~/here") == (Path("~/here").expanduser(),)


def test_a_disk_too_small_is_told_before_decoding(make, tmp_path, monkeypatch):
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 100}))
    monkeypatch.setattr(cache, "read_image", never)
    with pytest.raises(InputError, match=f'"{tmp_path / "cache"}" has 0.0 GiB free; .*data.cache off'):
        make().pixels


@pytest.mark.parametrize("when", ["write", "close"])
def test_a_disk_that_fills_up_leaves_nothing(make, tmp_path, monkeypatch, when):
    class Full:
        """Says so at the third image, or only when what was buffered is written at the end."""

        def __init__(self, file):
            self.file, self.written = file, 0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()
            if when == "close":
                raise OSError(errno.ENOSPC, "No space left on device")

        def write(self, data):
            self.written += memoryview(data).nbytes
            if when == "write" and self.written > 2500:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *mode: Full(opened(path, *mode)) if mode == ("wb",) else opened(path, *mode)
    )
    with pytest.raises(InputError, match=f'cannot be written to "{tmp_path / "cache"}" .No space left.*data.cache_dir'):
        make().pixels
    assert not files(tmp_path / "cache") and not leftovers(tmp_path / "cache")
