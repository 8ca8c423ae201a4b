"""The interval of a mean score: known cases, a naive bootstrap, coverage, bad input."""
import numpy as np
import pytest
from scipy import stats

from torchreid_nas.errors import InputError
from torchreid_nas.evidence import interval
from torchreid_nas.evidence.clusters import Clusters


def scores(identities, queries, correlation, seed=0):
    generator = np.random.default_rng(seed)
    own = generator.standard_normal((identities, 1))
    z = correlation**0.5 * own + (1 - correlation) ** 0.5 * generator.standard_normal((identities, queries))
    return stats.norm.cdf(z).ravel(), np.repeat(np.arange(identities), queries)


def test_the_mean_is_the_mean_of_the_queries():
    values, pids = np.array([1.0, 1.0, 0.0, 0.25]), [3, 3, 3, 8]
    found = interval(values, pids)
    assert found.mean == values.mean() and found.low <= found.mean <= found.high


def test_resampled_means_equal_a_naive_loop_over_identities():
    values, pids = scores(9, 4, 0.5)
    pids = np.where(np.arange(36) == 5, 0, pids)  # groups of unequal size
    clusters = Clusters(pids)
    means = clusters.resampled_means(clusters.sums(values), 200, seed=3)
    drawn = np.random.default_rng(3).integers(0, 9, size=(200, 9))
    for mean, chosen in zip(means, drawn):
        sample = np.concatenate([values[pids == identity] for identity in chosen])
        assert mean == pytest.approx(sample.mean(), abs=1e-12)


def test_the_variance_by_linearisation_is_that_of_the_bootstrap():
    values, pids = scores(60, 5, 0.5)
    clusters = Clusters(pids)
    sums = clusters.sums(values)
    bootstrap = clusters.resampled_means(sums, 20_000, seed=0).var() * 60 / 59
    assert clusters.variance_of_mean(sums) == pytest.approx(bootstrap, rel=0.05)


def test_queries_of_one_identity_that_agree_widen_the_interval():
    values, pids = scores(50, 8, 0.8)
    width = lambda found: found.high - found.low
    assert width(interval(values, pids)) > 2 * width(interval(values, np.arange(len(values))))


def test_the_interval_holds_the_truth_in_nineteen_of_twenty_sets():
    held = 0
    for test_set in range(300):
        values, pids = scores(40, 6, 0.5, seed=test_set)
        found = interval(values, pids, resamples=400, seed=test_set)
        held += found.low <= 0.5 <= found.high
    # Three standard deviations of a binomial below and above 95 %.
    assert 0.91 <= held / 300 <= 0.99


def test_scores_that_are_all_alike_get_the_exact_bound():
    bound = 0.025 ** (1 / 20)
    assert interval(np.ones(40), np.arange(40) // 2) == pytest.approx((1.0, bound, 1.0))
    assert interval(np.zeros(40), np.arange(40) // 2) == pytest.approx((0.0, 0.0, 1 - bound))


def test_the_seed_decides_the_interval_and_order_does_not_matter():
    values, pids = scores(20, 3, 0.4)
    order = np.random.default_rng(1).permutation(60)
    assert interval(values, pids, seed=5) == interval(values, pids, seed=5)
    assert interval(values[order], pids[order], seed=5) == pytest.approx(interval(values, pids, seed=5))
    assert interval(values, pids, seed=5) != interval(values, pids, seed=6)


@pytest.mark.parametrize("change, said", [
    ({"pids": [1] * 4}, "1 identity, expected at least 2"),
    ({"pids": [1, 2, 3]}, r"values have shape \(4,\), expected \(3,\)"),
    ({"pids": [1.5] * 4}, "expected one integer identity per query"),
    ({"values": [0, 1, np.nan, 1]}, r"values\[2\] is nan"),
    ({"level": 1.0}, "level is 1.0"),
    ({"resamples": 10}, "resamples is 10"),
    ({"seed": -1}, "seed is -1, expected a whole number"),
    ({"values": [], "pids": np.array([], dtype=int)}, "0 identities, expected at least 2"),
])
def test_bad_input_is_one_sentence(change, said):
    with pytest.raises(InputError, match=said):
        interval(**{"values": [0, 1, 0, 1], "pids": [1, 1, 2, 2], **change})
