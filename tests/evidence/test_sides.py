"""Methods over seeds and trials: variance by level, paired and unpaired seeds, false alarms."""
import numpy as np
import pytest

from torchreid_nas.errors import InputError
from torchreid_nas.evidence import interval, paired_test
from torchreid_nas.evidence.sides import Side, compare_sides, estimate

PIDS = np.repeat(np.arange(40), 5)


def side(name="a", seeds=(1, 2, 3), trials=1, spread=0.02, shift=0.0, generator=None):
    generator = generator or np.random.default_rng(0)
    common = np.random.default_rng(9).random((1, 1, 200))
    trained = spread * generator.standard_normal((len(seeds), 1, 1))
    drawn = 0.05 * np.random.default_rng(8).standard_normal((1, trials, 1)) if trials > 1 else 0.0
    return Side(name, common + trained + drawn + shift + 0.05 * generator.standard_normal((len(seeds), trials, 200)), PIDS, seeds)


def test_one_training_on_one_gallery_has_the_plain_interval():
    one = side(seeds=(1,))
    found = estimate(one)
    assert (found.mean, found.low, found.high) == interval(one.scores[0, 0], PIDS) and found.shares == {"identity": 1.0}


def test_one_training_a_side_has_the_plain_test_and_says_so():
    a, b = side(seeds=(1,)), side("b", seeds=(2,), shift=-0.01, generator=np.random.default_rng(1))
    found = compare_sides(a, b)
    plain = paired_test(a.scores[0, 0], b.scores[0, 0], PIDS)
    assert (found.difference, found.low, found.high, found.p_value) == pytest.approx(plain) and not found.replicated


def test_seeds_that_spread_take_the_greater_share_of_the_variance():
    calm, wild = estimate(side(spread=0.001)), estimate(side(spread=0.5))
    assert calm.shares["identity"] > 0.9 and wild.shares["seed"] > 0.9
    assert sum(wild.shares.values()) == pytest.approx(1.0) and wild.high - wild.low > 3 * (calm.high - calm.low)


def test_gallery_trials_are_a_level_of_their_own():
    assert set(estimate(side(trials=10)).shares) == {"identity", "trial", "seed"}
    paired = compare_sides(side(seeds=(1,), trials=10), side("b", seeds=(1,), trials=10, generator=np.random.default_rng(3)))
    alone = estimate(side(seeds=(1,), trials=10))
    # Both sides share their draws, whose effect therefore leaves the difference.
    assert paired.high - paired.low < alone.high - alone.low


def test_shared_seeds_are_paired_and_others_are_not():
    generator = np.random.default_rng(4)
    trained = 0.3 * generator.standard_normal((4, 1, 1))
    base = np.random.default_rng(9).random((1, 1, 200)) + trained
    a, b = (
        Side(name, base + shift + 0.01 * generator.standard_normal((4, 1, 200)), PIDS, (1, 2, 3, 4))
        for name, shift in (("a", 0.05), ("b", 0))
    )
    assert compare_sides(a, b).p_value < 1e-3
    assert compare_sides(a, Side("b", b.scores, PIDS, (5, 6, 7, 8))).p_value > 0.5


def test_false_alarms_of_several_trainings_stay_below_the_level():
    generator = np.random.default_rng(5)
    alarms = sum(
        compare_sides(
            side("a", (1, 2, 3), generator=generator), side("b", (4, 5, 6), generator=generator), resamples=100
        ).p_value < 0.05 for _ in range(200)
    )
    assert alarms <= 20


def test_the_smallest_difference_is_one_that_is_mostly_found():
    generator = np.random.default_rng(6)
    smallest = compare_sides(side("a", generator=generator), side("b", (4, 5, 6), generator=generator)).smallest
    found = sum(
        compare_sides(
            side("a", shift=smallest, generator=generator), side("b", (4, 5, 6), generator=generator), resamples=100
        ).p_value < 0.05 for _ in range(100)
    )
    assert found >= 55


def test_other_queries_are_refused_by_name():
    with pytest.raises(InputError, match='"a" and "b" were not tested on the same queries'):
        compare_sides(side("a"), Side("b", side().scores, PIDS[::-1].copy(), (1, 2, 3)))
    with pytest.raises(InputError, match="expected .seeds, trials, queries."):
        Side("a", np.zeros((2, 1, 3)), np.arange(3), (1,))
