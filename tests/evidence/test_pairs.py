"""Paired differences: exact small cases, uniform p-values for alike methods, Holm's correction."""
import itertools

import numpy as np
import pytest
from scipy import stats

from torchreid_nas.errors import InputError
from torchreid_nas.evidence import holm, interval, paired_test


def test_the_difference_has_the_interval_of_the_differences():
    generator = np.random.default_rng(0)
    a, b, pids = generator.random(60), generator.random(60), np.arange(60) // 4
    found = paired_test(a, b, pids)
    assert found[:3] == interval(a - b, pids)


def test_the_p_value_of_few_identities_counts_all_exchanges():
    generator = np.random.default_rng(1)
    a, b, pids = generator.random(21), generator.random(21), np.arange(21) // 3
    sums = np.array([(a - b)[pids == identity].sum() for identity in range(7)])
    means = [abs(np.dot(signs, sums)) for signs in itertools.product((-1, 1), repeat=7)]
    expected = np.mean([mean >= abs(sums.sum()) - 1e-12 for mean in means])
    assert paired_test(a, b, pids).p_value == expected


def test_two_methods_that_are_one_differ_by_nothing():
    values = np.random.default_rng(2).random(80)
    assert paired_test(values, values, np.arange(80) // 4) == (0.0, 0.0, 0.0, 1.0)


def test_a_and_b_exchanged_turn_the_difference_around():
    generator = np.random.default_rng(3)
    a, b, pids = generator.random(200), generator.random(200), np.arange(200) // 5
    forth, back = paired_test(a, b, pids), paired_test(b, a, pids)
    assert back.difference == pytest.approx(-forth.difference) and back.p_value == pytest.approx(forth.p_value, abs=0.03)


def test_p_values_of_alike_methods_are_uniform():
    generator = np.random.default_rng(4)
    pids = np.repeat(np.arange(40), 5)
    values = []
    for test_set in range(300):
        a, b = (
            (generator.standard_normal((40, 1)) + generator.standard_normal((40, 5))).ravel() for _ in range(2)
        )
        values.append(paired_test(a, b, pids, resamples=399, seed=test_set).p_value)
    assert stats.kstest(values, "uniform").pvalue > 0.01


def test_a_difference_of_every_identity_is_found():
    generator = np.random.default_rng(5)
    pids = np.repeat(np.arange(50), 4)
    b = generator.random(200) * 0.8
    assert paired_test(b + 0.1, b, pids).p_value < 1e-3


def test_holm_multiplies_the_smallest_by_all_and_never_falls():
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_scores_of_other_queries_are_refused():
    with pytest.raises(InputError, match=r"b have shape \(3,\), expected \(4,\)"):
        paired_test([0, 1, 0, 1], [0, 1, 0], [1, 1, 2, 2])
