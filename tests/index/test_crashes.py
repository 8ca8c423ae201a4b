"""An index loses nothing that it acknowledged, whenever its process dies."""
import multiprocessing
import os
import random
import signal
import time

import numpy as np
import torch

from torchreid_nas.features import FeatureSet
from torchreid_nas.index import GalleryIndex, gallery

DIM, KILLS = 32, 50


def images(first, count):
    """Return features that follow from their numbers, three images a person."""
    numbers = np.arange(first, first + count)
    features = np.stack([np.random.default_rng(number).normal(size=DIM) for number in numbers])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return FeatureSet(
        torch.from_numpy(features).float(), tuple(f"{number}.jpg" for number in numbers),
        tuple(str(number // 3) for number in numbers), numbers % 2, "net",
    )


def child(work, *arguments):
    """Run ``work`` in a process that can be killed; fork spares the import of torch."""
    process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
    process.start()
    return process


def add_for_ever(path, acknowledged):
    gallery._ROWS = 20
    index = GalleryIndex(path)
    start = index.store.rows

    def blocks():
        for first in range(start, start + 10**6, 10):
            yield images(first, 10)

    def write(count):
        with open(acknowledged, "a") as file:
            file.write(f"{start + count}\n")

    index.add(blocks(), write)


def remove_all(path, acknowledged):
    index = GalleryIndex(path)
    for label in sorted(index.store.columns().numbers, key=int):
        index.remove(label)
        with open(acknowledged, "a") as file:
            file.write(f"{label}\n")


def killed(work, path, acknowledged, seconds):
    """Kill ``work`` some time after its next acknowledgement, and return what it acknowledged so far."""
    acknowledged.touch()
    before, deadline = acknowledged.stat().st_size, time.monotonic() + 20
    process = child(work, path, acknowledged)
    while acknowledged.stat().st_size == before and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return acknowledged.read_text().split()


def test_fifty_kills_while_adding_lose_nothing(tmp_path):
    path, acknowledged, chance = tmp_path / "index", tmp_path / "acknowledged", random.Random(1)
    GalleryIndex.create(path, images(0, 1))
    for _ in range(KILLS):
        lines = killed(add_for_ever, path, acknowledged, chance.uniform(0, 0.02))
        index = GalleryIndex(path)
        # The process may die between the disk and the line that says so.
        assert len(index) - int(lines[-1]) in (0, 20)
    expected = images(0, len(index))
    # Their length is brought to 1 once more, which may change the last bit.
    np.testing.assert_allclose(index.store.vectors(), expected.features.numpy(), atol=1e-6)
    records = index.store.records(range(len(index)))
    assert [records[row].path for row in range(len(index))] == list(expected.paths)


def test_kills_while_removing_bring_nobody_back(tmp_path):
    path, acknowledged, chance = tmp_path / "index", tmp_path / "acknowledged", random.Random(2)
    index = GalleryIndex.create(path, images(0, 1))
    whole = images(0, 240)
    index.add([whole])
    stored = index.store.vectors().copy()
    for kill in range(1, 9):
        gone = killed(remove_all, path, acknowledged, chance.uniform(0, 0.03))
        index = GalleryIndex(path)
        left = set(index.store.columns().numbers)
        assert not left & set(gone) and 80 - len(left) - len(gone) in range(kill + 1)
        with index.store.writing():
            pass
        content = b"".join(file.read_bytes() for file in path.iterdir())
        for label, feature in zip(whole.labels, stored):
            assert (feature.tobytes() in content) == (label in left)


def test_bytes_behind_the_last_row_are_cut_off(tmp_path):
    index = GalleryIndex.create(tmp_path / "index", images(0, 1))
    index.add([images(0, 6)])
    for size in (1, 127, 128, 129):
        with index.store.vectors_file.open("ab") as file:
            file.write(b"x" * size)
        again = GalleryIndex(tmp_path / "index")
        assert len(again) == 6 and again.search(images(2, 1), 1).labels == [["0"]]
        with again.store.writing():
            assert again.store.vectors_file.stat().st_size == 6 * DIM * 4


def merge_and_die(path, other, acknowledged):
    """Merge, and die in the middle of it."""
    index = GalleryIndex(path)
    gallery._ROWS = 20
    blocks = GalleryIndex._blocks

    def first_blocks(self):
        for number, block in enumerate(blocks(self)):
            if number == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            yield block

    GalleryIndex._blocks = first_blocks
    index.merge([other])


def test_a_merge_that_is_killed_adds_nothing(tmp_path):
    index, other = (GalleryIndex.create(tmp_path / name, images(0, 1)) for name in ("index", "other"))
    index.add([images(0, 30)])
    other.add([images(100, 90)])
    process = child(merge_and_die, index.path, other.path, None)
    process.join()
    assert process.exitcode == -signal.SIGKILL and len(GalleryIndex(index.path)) == 30
    index = GalleryIndex(index.path)
    assert index.merge([other.path]) == 90 and len(index) == 120
    np.testing.assert_allclose(index.store.vectors()[:30], images(0, 30).features.numpy(), atol=1e-6)
