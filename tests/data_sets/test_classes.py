"""Data sets of classes: CIFAR's files and class folders as torchvision reads them, and what is refused in them."""
from __future__ import annotations

import pickle

import numpy as np
import pytest
from cifar import write_cifar10, write_cifar100
from PIL import Image
from torchvision import datasets

from torchreid_nas.data.classes import load_classes
from torchreid_nas.errors import InputError


def write_folder(root, **counts):
    """Write ``<root>/<class>/<number>.png`` for counts of images by class."""
    for label, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (6, 4), (40 * label, number, 0)).save(root / name / f"{number}.png")
    return root


def test_cifar_100_has_the_images_and_labels_of_its_files(tmp_path):
    folder = write_cifar100(tmp_path)
    data = load_classes("cifar100", tmp_path)
    content = pickle.loads((folder / "train").read_bytes())
    assert data.classes == ["class 0", "class 1", "class 2", "class 3"] and data.train.labels == content["fine_labels"]
    for index in (0, 23):
        pixels = content["data"][index].reshape(3, 32, 32).transpose(1, 2, 0)
        assert np.array_equal(np.asarray(data.train.read(index)), pixels)
    assert set(data.train.paths) == {str(folder / "train")} and set(data.test.paths) == {str(folder / "test")}
    assert "not the published ones" in data.title


def test_cifar_10_joins_its_five_files(tmp_path):
    folder = write_cifar10(tmp_path)
    data = load_classes("cifar10", tmp_path)
    assert (len(data.classes), len(data.train), len(data.test)) == (10, 50, 10)
    assert data.train.paths[9].endswith("data_batch_1") and data.train.paths[10] == str(folder / "data_batch_2")


def test_a_folder_with_parts_is_read_as_torchvision_reads_it(tmp_path):
    write_folder(tmp_path / "fruit" / "train", apple=3, pear=2)
    write_folder(tmp_path / "fruit" / "val", pear=1)
    data = load_classes("fruit", tmp_path)
    theirs = datasets.ImageFolder(str(tmp_path / "fruit" / "train"))
    assert list(zip(data.train.paths, data.train.labels)) == theirs.samples and data.classes == theirs.classes
    # The test part alone would number its only class 0.
    assert data.test.labels == [1]


def test_of_a_folder_without_parts_every_fifth_image_of_a_class_is_tested(tmp_path):
    write_folder(tmp_path / "fruit", apple=6, pear=3)
    data = load_classes("fruit", tmp_path)
    assert [path.rsplit("fruit/")[1] for path in data.test.paths] == ["apple/0.png", "apple/5.png", "pear/0.png"]
    assert len(data.train) == 6 and not set(data.train.paths) & set(data.test.paths)


def test_a_path_names_a_folder_outside_of_the_root(tmp_path):
    write_folder(tmp_path / "fruit", apple=3, pear=3)
    assert load_classes(str(tmp_path / "fruit"), "elsewhere").classes == ["apple", "pear"]


@pytest.mark.parametrize(("write", "name", "message"), [
    (lambda root: None, "fruit", 'no folder of classes ".*fruit"; put it there as fruit/train/<class>/<image>'),
    (lambda root: write_folder(root / "fruit", apple=5), "fruit", '"fruit" has one class \\("apple"\\), expected two or more'),
    (lambda root: write_folder(root / "fruit", apple=5, pear=1), "fruit", 'class "pear" in .* has one image, expected two'),
    (lambda root: write_folder(root / "fruit", apple=5, pear=2), "fruit", 'class "pear" of "fruit" has 1 training image'),
    (lambda root: write_folder(root / "fruit", apple=5, pear=0), "fruit", "is no folder of classes .*pear"),
    (lambda root: write_folder(root / "fruit"), "fruit", 'no folder of classes ".*fruit"'),
    (
        lambda root: (write_folder(root / "fruit/train", apple=2, pear=2), write_folder(root / "fruit/val", plum=1)), "fruit",
        'has the class "plum", which ".*train" lacks',
    ),
    (lambda root: None, "market1501", '"market1501" is a data set of persons, and task is classification'),
    (lambda root: None, "cifar100", "CIFAR-100 is missing or incomplete: .*train. does not exist.*classification.download True"),
    (lambda root: (write_cifar100(root) / "test").unlink(), "cifar100", "incomplete: .*test. does not exist"),
    (lambda root: (write_cifar100(root) / "train").write_bytes(b"no pickle"), "cifar100", "CIFAR-100 in .* is broken"),
    (lambda root: (write_cifar100(root) / "meta").write_bytes(pickle.dumps({})), "cifar100", "CIFAR-100 in .* is broken"),
    (
        lambda root: write_cifar100(root, test={"fine_labels": [0, 1, 2, 3, 0, 1, 2, 9]}), "cifar100",
        "the test file of CIFAR-100 .* has the label 9, expected 0 to 3",
    ),
    (lambda root: write_cifar100(root, train={"fine_labels": [0, 1]}), "cifar100", "training file .* has 24 images and 2 labels"),
    (lambda root: write_cifar100(root, train={"data": "pixels"}), "cifar100", "CIFAR-100 in .* is broken"),
])
def test_what_cannot_be_trained_is_one_sentence(tmp_path, write, name, message):
    write(tmp_path)
    with pytest.raises(InputError, match=message):
        load_classes(name, tmp_path)


def test_a_download_that_fails_is_one_sentence(tmp_path, monkeypatch):
    def offline(self):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.CIFAR100, "download", offline)
    with pytest.raises(InputError, match="CIFAR-100 cannot be downloaded .*no route to host.*; fetch https"):
        load_classes("cifar100", tmp_path, download=True)


def test_a_broken_image_is_one_sentence(tmp_path):
    write_folder(tmp_path / "fruit", apple=5, pear=5)
    (tmp_path / "fruit" / "pear" / "3.png").write_bytes(b"no image")
    data = load_classes("fruit", tmp_path)
    with pytest.raises(InputError, match=r"3\.png"):
        data.train.read(data.train.paths.index(str(tmp_path / "fruit" / "pear" / "3.png")))
