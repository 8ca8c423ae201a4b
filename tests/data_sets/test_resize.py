"""resize_pixels: the bits of torchvision's resize of PIL images, whichever kernel computes them."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as F

from torchreid_nas.data import resize
from torchreid_nas.data.resize import resize_pixels


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_plain(pixels, height, width):
    out = np.full((height, width, 3), 7, np.uint8)
    resize_pixels(pixels, out)
    assert np.array_equal(out, np.asarray(F.resize(Image.fromarray(pixels), [height, width])))


@pytest.fixture(params=[True, False], ids=["fast", "Pillow alone"])
def fast(request, monkeypatch):
    monkeypatch.setattr(resize, "_FAST", request.param)


@pytest.mark.parametrize("height, width", [(256, 128), (64, 32), (16, 512), (384, 128), (48, 24), (224, 224)])
def test_any_size_becomes_any_other_with_the_same_bits(height, width, fast):
    generator = np.random.default_rng(height + width)
    for seed in range(30):
        # Half of them grow in both directions.
        most = (height, width) if seed % 2 else (2 * height, 2 * width)
        own = [int(generator.integers(1, size + 1)) for size in most]
        assert_plain(noise(*own, seed), height, width)
    assert_plain(noise(height, width), height, width)


def test_extreme_pixels_and_sizes_are_no_exception(fast):
    checks = np.indices((37, 19)).sum(0) % 2
    assert_plain(np.repeat(255 * checks[:, :, None], 3, axis=2).astype(np.uint8), 256, 128)
    assert_plain(noise(1, 1), 256, 128)
    assert_plain(noise(8001, 3), 8192, 4)
    assert_plain(noise(16001, 3), 16384, 4)


def test_windows_of_images_mapped_read_only_are_taken(tmp_path, fast, recwarn):
    np.save(tmp_path / "images.npy", noise(40, 30))
    pixels = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert_plain(pixels[3:37, 5:29], 64, 32)
    assert_plain(pixels[3:37, 5:29], 50, 32)
    assert not recwarn.list


@pytest.mark.skipif(not resize._FAST, reason="Pillow alone resizes here")
def test_the_fast_kernel_is_what_the_papers_size_is_computed_by(monkeypatch):
    monkeypatch.setattr(resize.Image, "fromarray", None)
    resize_pixels(noise(128, 64), np.empty((256, 128, 3), np.uint8))
    for own, new in ((257, 256), (100, 192), (8192, 16384)):
        assert not resize._exact(own, new)


def test_a_processor_without_avx2_gives_the_same_bits():
    code = """
import numpy as np
from torchreid_nas.data import resize
pixels = np.random.default_rng(0).integers(0, 256, (110, 51, 3), dtype=np.uint8)
results = []
assert not resize._FAST
for resize._FAST in (False, True):
    results.append(np.empty((256, 128, 3), np.uint8))
    resize.resize_pixels(pixels, results[-1])
print(np.array_equal(*results))
"""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
