"""Channel exchange and channel-adaptive grey: the authors' values and frequencies, plain and batched, by stream."""
from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from torchreid_nas.data import ChannelRule, Channels, CrossModalityDataManager
from torchreid_nas.data.channels import RULES, ChannelDraw, StreamedCompose, change_channels
from torchreid_nas.data.transforms import Erasing
from torchreid_nas.errors import InputError

CHOICES = ("channel_0", "channel_1", "channel_2", "gray", "image")
FREQUENCIES = json.loads((Path(__file__).resolve().parents[1] / "data" / "caj_frequencies.json").read_text(encoding="utf-8"))
CAJ = Channels(second_visible="exchange", infrared="adaptive")


@pytest.mark.parametrize("choice", range(5))
def test_each_choice_equals_the_authors_image_plain_and_batched(golden, choice):
    numbers = golden("caj")
    image, expected = numbers["image"].copy(), numbers[CHOICES[choice]]
    batch = torch.from_numpy(np.stack([image, image[::-1].copy()]))
    changed = ChannelDraw(CAJ).apply_to_batch(batch, torch.tensor([[choice], [4]]))
    change_channels(image, choice)
    assert np.array_equal(image, expected)
    assert np.array_equal(changed[0].numpy(), expected) and torch.equal(changed[1], batch[1])


@pytest.mark.parametrize("rule, authors", [
    ("exchange", "second visible (ChannelExchange gray=2)"), ("adaptive", "infrared and erased visible (ChannelAdapGray)"),
])
def test_choices_come_as_often_as_the_authors_draw_them(rule, authors):
    count = 6000
    drawn = ChannelDraw(Channels(visible=rule)).draw([0] * count, torch.Generator().manual_seed(0))
    batched = Counter(drawn[:, 0].tolist())
    random.seed(0)
    image = torch.tensor([0.0, 1.0, 2.0])[:, None, None]
    seen = Counter(tuple(ChannelRule(rule)(image.clone()).flatten().tolist()) for _ in range(count))
    gray = round(0.5870 + 2 * 0.1140, 4)
    plain = {tuple(round(value, 4) for value in values): times for values, times in seen.items()}
    for index, values in enumerate([(0.0,) * 3, (1.0,) * 3, (2.0,) * 3, (gray,) * 3, (0.0, 1.0, 2.0)]):
        expected = FREQUENCIES[authors].get(CHOICES[index], 0.0)
        # Four deviations of the difference between two shares of 6,000 draws.
        room = 4 * np.sqrt(2 * expected * (1 - expected) / count)
        assert abs(batched[index] / count - expected) <= room and abs(plain.get(values, 0) / count - expected) <= room


def test_each_stream_draws_by_its_own_rule():
    drawn = ChannelDraw(CAJ).draw([0] * 300 + [1] * 300 + [2] * 300, torch.Generator().manual_seed(0))[:, 0]
    assert set(drawn[:300].tolist()) == {4} and set(drawn[300:600].tolist()) == {0, 1, 2}
    assert set(drawn[600:].tolist()) == set(range(5))
    assert all(sum(shares) == pytest.approx(1) for shares in RULES.values())


@pytest.mark.parametrize("cache", ["on", "off"])
def test_a_batch_of_caj_is_visible_visible_infrared(data_root, cache):
    data = CrossModalityDataManager(
        root=str(data_root), sources="regdb", targets=[], height=48, width=24, transforms=[], batch_size_train=16,
        num_instances=2, num_batches=3, workers=0, cache=cache, channels=Channels("none", "exchange", "none"),
    )
    assert len(data.train_loader) == 3 and len(data.trainset.data) == 128
    for batch in data.train_loader:
        first, second, infrared = (slice(start, start + 8) for start in (0, 8, 16))
        assert batch["img"].shape == (24, 3, 48, 24)
        assert batch["modality"].tolist() == [0] * 16 + [1] * 8
        assert batch["impath"][first] == batch["impath"][second]
        assert torch.equal(batch["pid"][first], batch["pid"][infrared])
        images = batch["img"]
        assert torch.equal(images[second][:, 0], images[second][:, 1]) and torch.equal(images[second][:, 0], images[second][:, 2])
        # One of the three channels of the same image.
        assert all(any(torch.equal(two[0], channel) for channel in one) for one, two in zip(images[first], images[second]))


@pytest.mark.parametrize("transforms", [["pad_crop", "random_flip", "random_erase"], []])
def test_batched_operations_on_a_gpu_equal_those_on_a_cpu(data_root, transforms):
    from torchreid_nas.data.augmentation import BatchTransform
    from torchreid_nas.data.transforms import build_cross_modality_transforms

    plain, _ = build_cross_modality_transforms(32, 16, transforms, channels=CAJ)
    assert isinstance(plain, StreamedCompose)
    transform = BatchTransform.of(plain, 32, 16)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 32, 16, 3), dtype=np.uint8))
    drawn = transform.draw(12, 32, 16, torch.Generator().manual_seed(1), [0, 1, 2] * 4)
    out = torch.empty(12, 3, 32, 16)
    assert torch.equal(transform.apply_to_batch(pixels.clone(), drawn, out.clone()), transform.apply(pixels, drawn, out))


def test_channel_erasing_fills_by_the_authors_values():
    from torchreid_nas.data.transforms import build_cross_modality_transforms

    erasing = Erasing(probability=1.0, fill=(0.4914, 0.4822, 0.4465))
    piece = build_cross_modality_transforms(32, 16, ["random_erase"], erasing=erasing)[0].transforms[-1]
    random.seed(0)
    erased = piece(torch.zeros(3, 32, 16))
    assert [sorted(channel.unique().tolist()) for channel in erased] == [[0.0, pytest.approx(v)] for v in erasing.fill]


def test_an_unknown_rule_names_the_key_and_the_rules():
    with pytest.raises(InputError, match='data.channels.infrared is "adaptve", expected one of .*did you mean "adaptive"'):
        Channels(infrared="adaptve")
    with pytest.raises(InputError, match='channel rule "swap" is unknown, expected one of none, exchange, adaptive'):
        ChannelRule("swap")
    with pytest.raises(InputError, match="data.random_erase.fill is"):
        Erasing(fill=(0.5,))
