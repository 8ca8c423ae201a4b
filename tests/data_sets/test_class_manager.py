"""Batches of classification: the authors' augmentation, every image once, held-out images, the parts of a search."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from cifar import write_cifar100
from PIL import Image

from torchreid_nas.data.class_manager import ClassDataManager
from torchreid_nas.data.class_transforms import Cutout, build_class_transforms
from torchreid_nas.errors import InputError

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


@pytest.fixture
def make(tmp_path):
    """Return a maker of managers on CIFAR-100's layout with 26 training images of 4 classes."""
    write_cifar100(tmp_path, images=26)

    def made(names=(), **options):
        transforms = build_class_transforms(16, 16, list(names), MEAN, STD)
        return ClassDataManager(str(tmp_path), "cifar100", ["cifar100"], transforms, workers=0, **options)

    return made


def labels(loader):
    return [batch["pid"].tolist() for batch in loader]


def test_cutout_is_the_clipped_square_around_its_centre():
    image = torch.rand(3, 9, 7) + 1
    for seed in range(20):
        torch.manual_seed(seed)
        cut = Cutout(4)(image)
        torch.manual_seed(seed)
        row, column = int(torch.randint(9, ())), int(torch.randint(7, ()))
        expected = image.clone()
        for y in range(9):
            for x in range(7):
                if row - 2 <= y < row + 2 and column - 2 <= x < column + 2:
                    expected[:, y, x] = 0
        assert torch.equal(cut, expected)


def test_the_recipe_of_cifar_pads_crops_and_normalises_before_it_cuts():
    image = Image.fromarray(np.full((32, 32, 3), 255, np.uint8))
    train, test = build_class_transforms(32, 32, ["random_flip", "pad_crop", "cutout"], MEAN, STD)
    white = torch.tensor([(1 - m) / s for m, s in zip(MEAN, STD)])
    black = torch.tensor([-m / s for m, s in zip(MEAN, STD)])
    seen = torch.cat([train(image).flatten(1).T for _ in range(20)]).unique(dim=0)
    expected = torch.stack([white, black, torch.zeros(3)]).unique(dim=0)
    torch.testing.assert_close(seen, expected)
    torch.testing.assert_close(test(image), white[:, None, None].expand(3, 32, 32))


def test_the_test_of_imagenet_crops_the_centre_of_the_resized_image():
    image = Image.fromarray(np.arange(40 * 20 * 3, dtype=np.uint8).reshape(40, 20, 3))
    _, test = build_class_transforms(16, 16, [], [0.0] * 3, [1.0] * 3, resize=20)
    expected = torch.from_numpy(np.asarray(image)[12:28, 2:18].copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(test(image), expected)


@pytest.mark.parametrize(("names", "options", "message"), [
    (["pad_corp"], {}, 'no transform "pad_corp" for task classification.*did you mean "pad_crop"'),
    ([], {"resize": 8}, "classification.resize is 8, expected at least the input of 16x16"),
])
def test_a_recipe_that_cannot_be_is_one_sentence(names, options, message):
    with pytest.raises(InputError, match=message):
        build_class_transforms(16, 16, names, MEAN, STD, **options)


def test_every_image_comes_once_and_the_last_batch_is_smaller(make):
    manager = make(batch_size_train=8)
    batches = labels(manager.train_loader)
    assert [len(batch) for batch in batches] == [8, 8, 8, 2] and len(manager.train_loader) == 4
    assert sorted(sum(batches, [])) == sorted(manager.train_images.labels)


def test_a_last_batch_of_one_image_is_left_out(make):
    assert [len(batch) for batch in labels(make(batch_size_train=5).train_loader)] == [5] * 5


def test_the_number_of_batches_can_be_bounded(make):
    assert [len(batch) for batch in labels(make(batch_size_train=8, num_batches=2).train_loader)] == [8, 8]


def test_order_and_augmentation_follow_the_random_state(make):
    loader = make(["random_flip", "pad_crop", "cutout"], batch_size_train=8).train_loader
    passes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        passes.append(torch.cat([batch["img"] for batch in loader]))
    assert torch.equal(passes[0], passes[1]) and not torch.equal(passes[0], passes[2])


def test_held_out_images_are_a_share_of_each_class_and_not_trained_on(make):
    manager = make(holdout=0.3)
    assert sorted(labels(manager.validation_loader)[0]) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(manager.train_images) == 18
    held = {image.tobytes() for image in manager.validation_images.pixels}
    assert not held & {image.tobytes() for image in manager.train_images.pixels}


def test_a_search_has_images_of_every_class_in_both_parts(make):
    weights, architecture, classes = make(batch_size_train=4).search_split(images=2, overlap=False)
    assert classes == 4 and sorted(sum(labels(architecture), [])) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(sum(labels(weights), [])) == 18


def test_a_target_with_other_classes_is_refused(make, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "other" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / "other" / name / f"{number}.png")
    with pytest.raises(InputError, match='classes of "other" are not those of "cifar100"'):
        ClassDataManager(str(tmp_path), "cifar100", ["other"], build_class_transforms(16, 16, [], MEAN, STD))


def test_several_sources_are_refused(make):
    with pytest.raises(InputError, match="data.sources names cifar10, cifar100, expected one"):
        ClassDataManager("", ["cifar10", "cifar100"], [], build_class_transforms(16, 16, [], MEAN, STD))
