"""The entries of results.json: the trapezoid only where it is asked for, and means over trials."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from torchreid_nas.config import load_config
from torchreid_nas.metrics import average_results, rank_queries
from torchreid_nas.run.results import average_rows, result_row

DATA = SimpleNamespace(direction=lambda name: "", test_galleries=lambda name: [None], setting=lambda name: f"{name}'s own")


def row(seed=0, trapezoid=False, rerank=False, name="market1501"):
    rng = np.random.default_rng(seed)
    result = rank_queries(rng.random((20, 30)), rng.integers(4, size=20), rng.integers(4, size=30))
    cfg = load_config(None, ["test.trapezoid_map", str(trapezoid), "test.rerank", str(rerank)])
    return result_row(cfg, DATA, name, "test feature", *average_results([result]))


def test_the_trapezoid_is_in_the_row_only_where_it_is_asked_for():
    plain, asked = row(), row(trapezoid=True)
    assert asked.pop("mAP_trapezoid") < asked["mAP"] and asked.pop("mAP_trapezoid_std") == 0
    assert asked == plain and "mAP_trapezoid" not in plain


def test_the_mean_over_trials_has_the_mean_of_every_score():
    rows = [row(seed, trapezoid=True) for seed in range(3)]
    mean = average_rows(rows)
    assert mean["num_trials"] == 3
    for key in ("mAP", "mAP_trapezoid", "mINP"):
        values = [one[key] for one in rows]
        assert (mean[key], mean[f"{key}_std"]) == pytest.approx((np.mean(values), np.std(values)))
    np.testing.assert_allclose(mean["cmc_std"], np.std([one["cmc"] for one in rows], axis=0), atol=1e-12)


@pytest.mark.parametrize("order", [(True, False), (False, True)])
def test_a_trial_without_the_trapezoid_leaves_no_mean_of_it(order):
    rows = [row(seed, trapezoid) for seed, trapezoid in enumerate(order)]
    mean = average_rows(rows)
    assert not any(key.startswith("mAP_trapezoid") for key in mean)
    assert mean["mAP"] == pytest.approx(np.mean([one["mAP"] for one in rows]))


@pytest.mark.parametrize("name", ["market1501", "regdb", "sysu_mm01_indoor"])
def test_the_protocol_says_that_distances_were_re_ranked(name):
    plain, re_ranked = (row(rerank=value, name=name)["protocol"] for value in (False, True))
    assert re_ranked == f"{plain}, re-ranked"
    for value, protocol in ((False, "mean over trials"), (True, "mean over trials, re-ranked")):
        assert average_rows([row(seed, rerank=value, name=name) for seed in range(2)])["protocol"] == protocol
