"""PieceReader: for what it drew, the plain pipeline's pixels, whatever the style and however large the image."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import functional as F

from torchreid_nas.data import CrossModalityDataset, StoredImages, readers
from torchreid_nas.data.camstyle import STYLERS, CameraStyleDataset, camstyle_folder, camstyle_name, make_camera_styler
from torchreid_nas.data.dataset import read_image
from torchreid_nas.data.readers import PieceReader
from torchreid_nas.data.transforms import RandomSizedRectCrop
from torchreid_nas.errors import InputError

SIZE = (64, 32)
CAMERAS, PERSONS = 3, 6


def write(path, seed, height, width):
    path.parent.mkdir(exist_ok=True)
    # Values of the middle: styles move them, and are not all clipped.
    Image.fromarray(np.random.default_rng(seed).integers(60, 200, (height, width, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def items(tmp_path):
    """Images of three cameras, all of other sizes, some larger than the network's input, with files of their styles."""
    items = []
    for number in range(CAMERAS * PERSONS):
        camid = number % CAMERAS
        path = tmp_path / "bounding_box_train" / f"{number:04d}_c{camid + 1}.jpg"
        write(path, number, 30 + 5 * number, 12 + 2 * number)
        items.append((str(path), number // CAMERAS, camid, 0))
        for new in set(range(CAMERAS)) - {camid}:
            if number % 5:
                write(camstyle_folder(path) / camstyle_name(path, camid, new), 100 * number + new, 90 - number, 40)
    return items


@pytest.fixture
def make(items, tmp_path):
    """A function to a data set, in styles or not, and its reader."""

    def make(kind="none", rectangle=True):
        dataset = CrossModalityDataset(items, items, items, verbose=False)
        if kind != "none":
            dataset = CameraStyleDataset(dataset, make_camera_styler(kind, items))
        images, files = (StoredImages(paths, tmp_path, [tmp_path / "cache"]) for paths in (
            (item[0] for item in items),
            (path for item in items for path in dataset.styler.files_of(item)) if kind == "files" else (),
        ))
        files = files if files.paths else None
        return dataset, PieceReader(images, files, dataset, SIZE, RandomSizedRectCrop(*SIZE) if rectangle else None)

    return make


def read(reader, drawn, indices):
    out = np.empty((len(indices), *SIZE, 3), np.uint8)
    reader.fill(indices, drawn, out)
    return out


@pytest.mark.parametrize("rectangle", [True, False])
@pytest.mark.parametrize("kind", ["none", *STYLERS])
def test_pixels_are_the_plain_pipelines_to_the_bit(make, items, kind, rectangle):
    dataset, reader = make(kind, rectangle)
    reader.open()
    indices = [*range(len(items)), *range(len(items))]
    drawn = reader.draw(indices, torch.Generator().manual_seed(0))
    real = 0
    for index, (style, numbers), pixels in zip(indices, drawn, read(reader, drawn, indices)):
        assert (style is None) == (kind == "none") and (numbers is None) != rectangle
        image = read_image(items[index][0]) if style is None else Image.fromarray(dataset.pixels(index, style))
        real += image.tobytes() == read_image(items[index][0]).tobytes()
        if rectangle:
            box = RandomSizedRectCrop(*SIZE).rectangle(*image.size, numbers)
            expected = F.resized_crop(image, *box, list(SIZE))
        else:
            expected = F.resize(image, list(SIZE))
        assert np.array_equal(pixels, np.asarray(expected))
    # Some are of the own camera, and of those that have no file the real one is shown.
    assert real == len(indices) if kind == "none" else 0 < real < len(indices)


@pytest.mark.parametrize("kind", STYLERS)
def test_threads_and_their_order_change_nothing(make, items, kind):
    _, reader = make(kind)
    reader.open()
    indices = list(range(len(items))) * 4
    drawn = reader.draw(indices, torch.Generator().manual_seed(0))
    whole = read(reader, drawn, indices)
    out = np.empty_like(whole)
    with ThreadPoolExecutor(4) as pool:
        starts = range(len(indices) - 3, -1, -3)
        jobs = [pool.submit(reader.fill, indices[at:at + 3], drawn[at:at + 3], out[at:at + 3]) for at in starts]
        [job.result() for job in jobs]
    assert np.array_equal(out, whole)


def test_what_is_drawn_depends_on_the_generator_alone(make):
    _, reader = make("fourier")
    state = torch.get_rng_state()
    first, again, other = (reader.draw([3, 1, 4], torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first == again != other and torch.equal(torch.get_rng_state(), state)


def test_styles_and_references_are_drawn_uniformly(make, items):
    dataset, reader = make("fourier")
    indices = list(range(len(items))) * 100
    drawn = reader.draw(indices, torch.Generator().manual_seed(0))
    styles = [style for style, _ in drawn]
    cameras = np.zeros((CAMERAS, CAMERAS))
    for index, style in zip(indices, styles):
        cameras[items[index][2], style.camid] += 1
    assert stats.chi2_contingency(cameras).pvalue > 1e-3 and stats.chisquare(cameras.sum(0)).pvalue > 1e-3
    other = [style.drawn for index, style in zip(indices, styles) if items[index][2] != style.camid]
    assert stats.chisquare(np.bincount(other, minlength=PERSONS)).pvalue > 1e-3
    assert reader.labels(drawn)["style_camid"].tolist() == [style.camid for style in styles]


@pytest.mark.parametrize("once", [True, False])
def test_files_of_styles_are_decoded_once_unless_they_are_many(make, items, monkeypatch, once):
    dataset, reader = make("files")
    # The images have 12 to 46 by 30 to 115 pixels, the files 40 by 73 to 90.
    size = sum(3 * 40 * (90 - number) for number in range(len(items)) if number % 5) * 2
    monkeypatch.setattr(readers, "_MOST_OF_FILES", size if once else size - 1)
    indices = [1] * 30
    drawn = reader.draw(indices, torch.Generator().manual_seed(0))
    reader.open()
    expected = read(reader, drawn, indices)
    path = dataset.styler.source(items[1], 2)
    with open(path, "r+b") as file:
        file.truncate(100)
    if once:
        assert np.array_equal(read(reader, drawn, indices), expected)
        _, reader = make("files")
        for _ in range(2):
            with pytest.raises(InputError, match=f'the image "{path}" is truncated or no image'):
                reader.open()
    else:
        reader.open()
        with pytest.raises(InputError, match=f'the image "{path}" is truncated or no image'):
            read(reader, drawn, indices)


def test_a_broken_image_is_named_when_the_reader_is_opened(make, items):
    _, reader = make()
    with open(items[2][0], "r+b") as file:
        file.truncate(400)
    with pytest.raises(InputError, match=f'the image "{items[2][0]}" is truncated or no image'):
        reader.open()
