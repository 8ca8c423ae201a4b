"""Methods over seeds and trials: variance by level, paired and unpaired seeds, false alarms."""
import numpy as np
import pytest
from scipy import stats

from torchreid_nas.errors import InputError
from torchreid_nas.evidence import interval, paired_test, sides
from torchreid_nas.evidence.clusters import Clusters
from torchreid_nas.evidence.sides import Side, compare_sides, compare_splits, estimate, estimate_splits
from torchreid_nas.evidence.words import sentence

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


def test_the_interval_of_a_figure_stays_between_0_and_1():
    near = Side("a", np.stack([np.full((1, 200), 0.99), np.full((1, 200), 0.96)]), PIDS, (1, 2))
    found = estimate(near)
    assert found.high == 1.0 and found.low < 0.96
    assert estimate(Side("a", 1 - near.scores, PIDS, (1, 2))).low == 0.0


def test_perfect_scores_of_several_seeds_get_the_exact_bound():
    found = estimate(Side("a", np.ones((3, 1, 200)), PIDS, (1, 2, 3)))
    assert (found.low, found.high) == pytest.approx((0.025 ** (1 / 40), 1.0))
    found = estimate_splits([np.ones(200), np.ones(200)], [PIDS, PIDS])
    assert (found.low, found.high) == pytest.approx((0.025 ** (1 / 40), 1.0))


def test_two_splits_that_differ_alike_are_no_proof():
    ones, persons = np.ones(20), [np.arange(20)] * 2
    found = compare_splits("a", "b", [ones * 0.75, ones * 0.75], [ones * 0.5, ones * 0.5], persons)
    assert found.p_value == 0.5 and found.wins == 2
    assert "no difference of mAP can be told (p = 0.50)." in sentence(found, "mAP", 0.95)


def split_differences(generator, splits=10):
    """Return per split differences of two alike methods, half of 60 persons each, and the persons."""
    effect = generator.standard_normal(60)
    persons = [np.repeat(generator.permutation(60)[:30], 4) for _ in range(splits)]
    return [effect[chosen] + 0.3 * generator.standard_normal(120) for chosen in persons], persons


def test_splits_that_share_persons_give_no_more_false_alarms_than_the_level():
    generator = np.random.default_rng(11)
    alarms, of_splits_alone = 0, 0
    for _ in range(200):
        differences, persons = split_differences(generator)
        zeros = [np.zeros(120)] * len(persons)
        found = compare_splits("a", "b", differences, zeros, persons)
        assert (found.low > 0 or found.high < 0) == (found.p_value < 0.05)
        alarms += found.p_value < 0.05
        of_splits_alone += stats.ttest_1samp([values.mean() for values in differences], 0).pvalue < 0.05
    assert alarms <= 20 < 60 < of_splits_alone


def test_a_difference_on_all_splits_is_found():
    generator = np.random.default_rng(12)
    differences, persons = split_differences(generator)
    found = compare_splits("a", "b", [values + 2 for values in differences], [np.zeros(120)] * 10, persons)
    assert found.p_value < 1e-3 and found.low > 0 and found.wins == 10


def test_more_comparisons_ask_for_a_larger_difference():
    a, b = side("a"), side("b", (4, 5, 6), generator=np.random.default_rng(1))
    alone, of_six = (compare_sides(a, b, resamples=100, family=count) for count in (1, 6))
    assert of_six.smallest > 1.1 * alone.smallest and of_six.p_value == alone.p_value


def test_other_queries_are_refused_by_name():
    with pytest.raises(InputError, match='"a" and "b" were not tested on the same queries'):
        compare_sides(side("a"), Side("b", side().scores, PIDS[::-1].copy(), (1, 2, 3)))
    with pytest.raises(InputError, match="expected .seeds, trials, queries."):
        Side("a", np.zeros((2, 1, 3)), np.arange(3), (1,))


def test_interaction_is_the_mean_square_of_two_way_anova():
    scores = np.random.default_rng(0).random((3, 4 * 5))
    pids = np.repeat(np.arange(4), 5)
    cells = scores.reshape(3, 4, 5).mean(axis=2)
    square = 0.0
    for training in range(3):
        for person in range(4):
            effects = cells[training].mean() + cells[:, person].mean() - cells.mean()
            square += (cells[training, person] - effects) ** 2
    assert sides._interaction(Clusters(pids), scores) == pytest.approx(square / (2 * 3) / (3 * 4))


@pytest.mark.parametrize("paired", [True, False])
def test_variance_of_a_difference_is_that_of_repeated_trials(paired):
    generator = np.random.default_rng(1)
    pids = np.repeat(np.arange(20), 2)
    differences, variances = [], []
    for _ in range(400):
        # All noise is of a training and a person together: it counts once, although persons and trainings both hold it.
        a, b = (Side(name, np.repeat(generator.standard_normal((4, 1, 20)), 2, axis=2), pids, seeds)
                for name, seeds in (("a", (1, 2, 3, 4)), ("b", (1, 2, 3, 4) if paired else (5, 6, 7, 8))))
        differences.append(a.scores.mean() - b.scores.mean())
        parts = sides._difference_variances(Clusters(pids), a, b)
        variances.append(sum(variance for variance, _ in parts.values()))
    assert np.mean(variances) == pytest.approx(np.var(differences), rel=0.2)
