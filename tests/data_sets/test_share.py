"""Each of several processes takes its block of each part of a batch; all blocks together are the batch of one process."""
from __future__ import annotations

import pytest
import torch

from torchreid_nas.data import share
from torchreid_nas.data.share import OwnShare, check_divides, own_places
from torchreid_nas.errors import InputError


class Batches:
    """Twelve indices in batches of three parts, [visible; visible; infrared]."""

    parts, num_instances = 3, 2

    def __init__(self, length=24):
        self.length, self.epoch = length, 0

    def __iter__(self):
        return iter(range(self.length))

    def __len__(self):
        return self.length

    def set_epoch(self, epoch):
        self.epoch = epoch


@pytest.fixture
def process(monkeypatch):
    def become(number, count):
        monkeypatch.setattr(share, "rank", lambda: number)
        monkeypatch.setattr(share, "processes", lambda: count)
    return become


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_shares_are_the_batch_part_by_part_and_process_by_process(process, count, parts):
    batch = torch.arange(36)
    shares = []
    for number in range(count):
        process(number, count)
        shares.append(batch[own_places(36, parts)].unflatten(0, (parts, -1)))
    assert torch.equal(torch.cat(shares, dim=1).flatten(), batch)


def test_a_process_takes_whole_persons_of_each_part(process):
    process(1, 2)
    own = OwnShare(Batches(), batch_size=12)
    assert list(own) == [2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23]
    assert len(own) == 12
    own.set_epoch(3)
    assert own.epoch == 3


@pytest.mark.parametrize("length, kept", [(17, 12), (18, 18), (23, 12)])
def test_a_last_batch_that_has_no_equal_shares_is_left_out(process, length, kept):
    for number in range(2):
        process(number, 2)
        own = OwnShare(Batches(length), batch_size=12)
        assert len(list(own)) == len(own) == kept // 2


@pytest.mark.parametrize("size, count", [(12, 1), (12, 2), (18, 3)])
def test_batches_of_equal_shares_are_taken(process, size, count):
    process(0, count)
    check_divides(size, Batches())


def test_unequal_shares_are_one_sentence_that_names_the_key(process):
    process(0, 4)
    with pytest.raises(InputError, match=r"4 processes .* \(ecn.batch_size_target\): each of its 3 parts has 4 images of 2 "):
        check_divides(12, Batches(), "ecn.batch_size_target")
