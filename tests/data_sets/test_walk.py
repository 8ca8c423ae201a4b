"""Walk: a pass that goes on from a position has the batches of a whole pass, and leaves the random state alone."""
from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from torchreid_nas.data import JointLoader
from torchreid_nas.data.seeding import random_state
from torchreid_nas.data.walk import Walk


def loader(count, offset=0):
    return DataLoader([{"index": number + offset} for number in range(count)], 2, shuffle=True, drop_last=True)


LOADERS = {
    "one loader": lambda: loader(12),
    "two loaders, one of which starts anew": lambda: JointLoader(loader(12), loader(6, 100)),
}


def numbers(batch):
    return [batch["index"].tolist(), batch.get("target", {"index": torch.tensor([])})["index"].tolist()]


def drawing(walk, count=99):
    """Batches of a walk; the training between them draws from the global random state, too."""
    found = []
    for batch, _ in zip(walk, range(count)):
        found.append(numbers(batch))
        torch.rand(3)
    return found


@pytest.mark.parametrize("make", LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("done", [1, 3, 4, 5])
def test_a_walk_goes_on_to_the_batches_of_a_whole_one(make, done):
    torch.manual_seed(0)
    whole = drawing(Walk(make()))
    torch.manual_seed(0)
    first = Walk(make())
    begun = []
    while len(begun) < done:
        begun.append(numbers(next(first)))
        torch.rand(3)
    position, state = first.position(), torch.get_rng_state()
    torch.manual_seed(99)
    second = Walk(make())
    before = random_state()
    second.go_on(position)
    assert torch.equal(random_state()["torch"], before["torch"]) and second.done == done
    torch.set_rng_state(state)
    assert begun + drawing(second) == whole
