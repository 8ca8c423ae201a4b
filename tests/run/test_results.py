"""The entries of results.json: the trapezoid only where it is asked for, and means over trials."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from torchreid_nas.config import load_config
from torchreid_nas.engine.scoring import ProtocolResult, ProtocolTest
from torchreid_nas.metrics import find_protocol, rank_queries
from torchreid_nas.run.results import average_rows, result_row

DATA = SimpleNamespace(direction=lambda name: "", setting=lambda name, protocol: f"{name}'s own")


def row(seed=0, trapezoid=False, name="market1501", **test):
    rng = np.random.default_rng(seed)
    result = rank_queries(rng.random((20, 30)), rng.integers(4, size=20), rng.integers(4, size=30))
    keys = {"trapezoid_map": trapezoid, **test}
    cfg = load_config(None, [word for key, value in keys.items() for word in (f"test.{key}", str(value))])
    test = ProtocolTest(find_protocol(name), [np.arange(30)])
    return result_row(cfg, DATA, ProtocolResult(name, "test feature", test, [result], [result.queries]))


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


@pytest.mark.parametrize("name", ["market1501", "regdb", "sysu_mm01"])
@pytest.mark.parametrize("keys, mark", [
    ({"rerank": True}, ", re-ranked"), ({"flip": True}, ", flipped"), ({"flip": True, "rerank": True}, ", flipped, re-ranked"),
])
def test_the_protocol_says_what_keeps_figures_from_comparing(name, keys, mark):
    plain, marked = row(name=name), row(name=name, **keys)
    assert marked["protocol"] == plain["protocol"] + mark and marked["flipped"] == ("flip" in keys)
    assert plain["protocol_name"] == marked["protocol_name"] == name
    assert average_rows([row(seed, name=name) for seed in range(2)])["protocol"] == "mean over trials"
    assert average_rows([row(seed, name=name, **keys) for seed in range(2)])["protocol"] == f"mean over trials{mark}"


def test_the_mean_over_trials_names_a_protocol_that_is_not_the_first():
    rows = [row(seed, name="regdb_identities") for seed in range(2)]
    assert average_rows(rows)["protocol"] == "mean over trials RegDB (identities)"
