"""Agreement of features by its formulas, and latencies taken turn by turn."""
import math

import numpy as np
import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.export.check import agreement, compare, latencies


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_agreement_equals_its_formulas_in_a_loop():
    expected = draw(5, 7)
    actual = expected + 0.1 * draw(5, 7, seed=1)
    found = agreement(expected, actual)
    a, b = expected.double().numpy(), actual.double().numpy()
    largest = max(abs(a[i, j] - b[i, j]) for i in range(5) for j in range(7))
    length = sum(math.sqrt(sum(x * x for x in row)) for row in a) / 5
    cosines = [np.dot(x, y) / math.sqrt(np.dot(x, x) * np.dot(y, y)) for x, y in zip(a, b)]
    assert found.images == 5
    assert found.difference == pytest.approx(largest, rel=1e-12)
    assert found.relative == pytest.approx(largest / length, rel=1e-12)
    assert found.cosine == pytest.approx(min(cosines), rel=1e-12)


def test_the_relative_difference_has_no_unit():
    expected, actual = draw(4, 6), draw(4, 6, seed=1)
    assert agreement(1000 * expected, 1000 * actual).relative == pytest.approx(agreement(expected, actual).relative)


def test_equal_features_and_features_of_zeros():
    zeros = torch.zeros(3, 4)
    for features in (draw(3, 4), zeros):
        found = agreement(features, features.clone())
        assert (found.difference, found.relative) == (0, 0) and found.cosine == pytest.approx(1)
    found = agreement(zeros, draw(3, 4))
    assert math.isinf(found.relative) and found.cosine == 0


def test_features_of_another_shape_or_not_finite_are_refused():
    with pytest.raises(InputError, match=r"shape \(3, 4\), the network \(3, 5\)"):
        agreement(draw(3, 5), draw(3, 4))
    broken = draw(3, 5)
    broken[1, 2] = float("inf")
    with pytest.raises(InputError, match="the exported file gives features that are not finite"):
        agreement(draw(3, 5), broken)
    with pytest.raises(InputError, match="the network gives features that are not finite"):
        agreement(broken, draw(3, 5))


def test_all_images_are_compared_in_batches_of_the_size():
    sizes = []

    def network(batch):
        sizes.append(len(batch))
        return batch.flatten(1)

    def wrong_at_the_end(batch):
        return batch.flatten(1) + (len(batch) == 1)

    found = compare(network, wrong_at_the_end, draw(7, 3, 2, 2), 3)
    assert sizes == [3, 3, 1] and found.images == 7 and found.difference == pytest.approx(1, rel=1e-6)


def test_latencies_run_every_network_in_turn():
    turns = []

    def network(name):
        def run(batch):
            turns.append(name)
            return batch
        return run

    medians = latencies([network("a"), network("b")], draw(2, 3), repetitions=3)
    assert turns == ["a", "b"] * 5 and len(medians) == 2 and min(medians) > 0
