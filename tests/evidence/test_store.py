"""scores.npz: figures follow from it exactly, its size, damaged files."""
import dataclasses

import numpy as np
import pytest

from torchreid_nas.errors import InputError
from torchreid_nas.evidence.store import StoredTest, load_scores, save_scores
from torchreid_nas.metrics import average_results, evaluate_sysu_mm01, find_protocol, rank_features


def sysu(queries=80, trials=3, identities=12, seed=0):
    """Return tests of random features in SYSU-MM01's form: ten galleries of one image per identity and camera."""
    generator = np.random.default_rng(seed)
    q_pids, q_camids = generator.integers(0, identities, queries), generator.choice([2, 5], queries)
    g_pids, g_camids = np.repeat(np.arange(identities), 4), np.tile([0, 1, 3, 4], identities)
    results = [
        evaluate_sysu_mm01(generator.random((queries, len(g_pids))), q_pids, g_pids, q_camids, g_camids) for _ in range(trials)
    ]
    paths = [f"SYSU-MM01/cam3/{pid:04d}/{number:04d}.jpg" for number, pid in enumerate(q_pids)]
    trials = [result.queries for result in results]
    return results, StoredTest("sysu_mm01", "after BNNeck", "all", trials, paths, q_pids, q_camids)


def test_what_is_loaded_is_what_was_saved_to_the_bit(tmp_path):
    _, test = sysu()
    save_scores(tmp_path / "scores.npz", [test])
    (loaded,) = load_scores(tmp_path / "scores.npz")
    assert (loaded.dataset, loaded.feature, loaded.protocol) == (test.dataset, test.feature, test.protocol)
    assert loaded.paths == test.paths
    assert np.array_equal(loaded.pids, test.pids) and np.array_equal(loaded.camids, test.camids)
    for mine, own in zip(loaded.trials, test.trials):
        assert np.array_equal(mine.first, own.first) and np.array_equal(mine.positives, own.positives)
        assert mine.gallery == own.gallery == 48 and mine.values.keys() == own.values.keys()
        assert all(np.array_equal(mine.values[name], own.values[name]) for name in own.values)


@pytest.mark.parametrize("trials", [1, 3, 10])
def test_figures_follow_exactly_from_the_stored_scores(trials, tmp_path):
    results, test = sysu(trials=trials)
    save_scores(tmp_path / "scores.npz", [test])
    mean, _ = average_results(results)
    (loaded,) = load_scores(tmp_path / "scores.npz")
    assert [loaded.mean(name) for name in ("mAP", "mINP", "mAP_trapezoid")] == [mean.mAP, mean.mINP, mean.mAP_trapezoid]
    assert [loaded.mean(f"rank{rank}") for rank in range(1, 21)] == mean.cmc.tolist()


def test_scores_of_blocks_are_in_the_order_of_the_queries():
    generator = np.random.default_rng(3)
    query, gallery = generator.random((60, 8), dtype=np.float32), generator.random((200, 8), dtype=np.float32)
    q_pids, g_pids = generator.integers(0, 9, 60), generator.integers(0, 9, 200)
    blocks = rank_features(query, gallery, q_pids, g_pids).queries
    distmat = ((query[:, None].astype(float) - gallery[None]) ** 2).sum(-1)
    whole = find_protocol("regdb").evaluate(distmat, q_pids, g_pids, None, None).queries
    assert np.array_equal(blocks.first, whole.first) and np.array_equal(blocks.positives, whole.positives)
    np.testing.assert_allclose(blocks.values["mAP"], whole.values["mAP"], atol=1e-12)


def test_a_query_without_a_match_is_stored_as_one_that_does_not_count(tmp_path):
    result = find_protocol("regdb").evaluate([[0.1, 0.2], [0.2, 0.1]], [1, 5], [1, 2], None, None)
    test = StoredTest("regdb", "f", "RegDB", [result.queries], ["a", "b"], np.array([1, 5]), np.array([0, 0]))
    save_scores(tmp_path / "scores.npz", [test])
    (loaded,) = load_scores(tmp_path / "scores.npz")
    assert loaded.valid.tolist() == [True, False] and loaded.scores("rank1").tolist() == [[1.0]]
    assert loaded.mean("mAP") == result.mAP and np.isnan(loaded.trials[0].values["mAP"][1])


def test_ten_trials_of_sysu_mm01_take_less_than_a_megabyte(tmp_path):
    tests = []
    for seed, feature in enumerate(("before BNNeck", "after BNNeck")):
        _, test = sysu(queries=3803, trials=10, identities=96, seed=seed)
        trials = [trial.only({"mAP", "mINP"}) for trial in test.trials]
        tests.append(dataclasses.replace(test, feature=feature, trials=trials))
    save_scores(tmp_path / "scores.npz", tests)
    assert (tmp_path / "scores.npz").stat().st_size < 2**20


def test_missing_and_damaged_files_are_one_sentence(tmp_path):
    path = tmp_path / "scores.npz"
    with pytest.raises(InputError, match="does not exist.*--stages test"):
        load_scores(path)
    save_scores(path, [sysu()[1]])
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-40], b"PK\x03\x04" + bytes(50)):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is damaged"):
            load_scores(path)
    for place in range(30, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1:])
        try:
            load_scores(path)
        except InputError as error:
            assert "is damaged" in str(error) or "has format" in str(error)
