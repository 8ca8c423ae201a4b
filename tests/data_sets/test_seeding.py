"""What is random about an image does not follow the number of loader processes."""
from __future__ import annotations

import pickle
import random

import numpy as np
import pytest
import torch

from torchreid_nas.data import CrossModalityDataManager, DomainAdaptationDataManager, IdentityDataManager
from torchreid_nas.data.seeding import SeededIndex, SeededSampler, seeded

ALL = ["pad_crop", "random_flip", "color_jitter", "random_erase"]
MANAGERS = {
    "cross-modality": (CrossModalityDataManager, {"sources": "regdb"}),
    "identity": (IdentityDataManager, {"sources": "market1501"}),
    "adaptation": (DomainAdaptationDataManager, {
        "sources": "dukemtmcreid", "load_train_targets": ["market1501"], "camstyle": "statistics",
    }),
    "two modalities": (DomainAdaptationDataManager, {"sources": "regdb", "load_train_targets": ["regdb"]}),
}


def passes(data_root, kind, workers):
    """The images of a pass of every training loader, with a draw of the network's own between batches."""
    manager, own = MANAGERS[kind]
    data = manager(
        str(data_root), targets=[], height=24, width=12, batch_size_train=8, num_instances=2, workers=workers, cache="off",
        transforms=ALL, **own,
    )
    found = []
    for loader in filter(None, (data.train_loader, getattr(data, "train_loader_t", None))):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        for batch, _ in zip(loader, range(4)):
            found += [batch["img"], torch.tensor([hash(path) for path in batch["impath"]]), torch.rand(3)]
    return found


@pytest.mark.parametrize("kind", MANAGERS)
def test_batches_are_the_same_from_any_number_of_workers(data_root, kind):
    alone, *others = (passes(data_root, kind, workers) for workers in (0, 1, 2))
    assert len(alone) >= 6
    for other in others:
        assert len(alone) == len(other) and all(map(torch.equal, alone, other))


def test_a_pass_depends_on_the_state_at_its_start(data_root):
    data = CrossModalityDataManager(
        str(data_root), "regdb", targets=[], height=24, width=12, batch_size_train=8, num_instances=2, workers=0, cache="off",
    )
    first, second, other = ([], [], [])
    for seed, images in ((0, first), (0, second), (1, other)):
        torch.manual_seed(seed)
        data.train_loader.sampler.set_epoch(3)
        images += [batch["img"] for batch, _ in zip(data.train_loader, range(2))]
    assert torch.equal(first[0], second[0]) and not torch.equal(first[0], other[0])


def test_the_states_outside_are_left_alone():
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    expected = torch.rand(2), random.random(), np.random.random()
    torch.manual_seed(0), random.seed(0), np.random.seed(0)
    with seeded(SeededIndex(0, seed=5)):
        torch.rand(7), random.random(), np.random.random()
    assert torch.equal(torch.rand(2), expected[0]) and (random.random(), np.random.random()) == expected[1:]


def test_an_index_keeps_its_seed_on_the_way_to_a_worker():
    index = pickle.loads(pickle.dumps(SeededIndex(7, seed=11)))
    assert (index, index.seed, list("abcdefgh")[index]) == (7, 11, "h")
    torch.manual_seed(0)
    drawn = list(SeededSampler([3, 1, 3]))
    assert drawn == [3, 1, 3] and len({index.seed for index in drawn}) == 3
