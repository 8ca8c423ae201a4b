"""Ranking a gallery that comes in blocks, against plain loops."""
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchreid

from torchreid_nas.errors import InputError
from torchreid_nas.features import FeatureSet, GalleryRanking, matching, pairwise_distances
from torchreid_nas.features.matching import to_distance, to_score, unit
from torchreid_nas.features.report import summary


def random_features(count, dim=8, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def naive_distance(a, b, metric):
    a, b = (x.double() / math.sqrt(sum(v * v for v in x.double().tolist())) for x in (a, b))
    if metric == "cosine":
        return 1 - sum(x * y for x, y in zip(a.tolist(), b.tolist()))
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist())))


def rank(queries, blocks, top=3, metric="euclidean"):
    ranking = GalleryRanking(queries, top, metric)
    for block in blocks:
        ranking.add(block)
    return ranking.result()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_distances_are_those_of_the_formula(metric):
    q, g = random_features(3), random_features(4, seed=1)
    expected = [[naive_distance(a, b, metric) for b in g] for a in q]
    torch.testing.assert_close(
        pairwise_distances(unit(q), unit(g), metric), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_small_distances_keep_their_digits():
    a = torch.tensor([[1.0, 0.0]])
    b = torch.tensor([[1.0, 1e-4]])
    assert pairwise_distances(unit(a), unit(b)).item() == pytest.approx(1e-4, rel=1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("block", [1, 4, 7, 50])
def test_lists_are_those_of_a_full_sort_whatever_the_blocks(metric, block, make_set):
    queries, gallery = make_set(random_features(5), prefix="q"), make_set(random_features(23, seed=1), prefix="g")
    matches = rank(queries, gallery.blocks(block), 6, metric)
    for query, feature in enumerate(queries.features):
        ranked = sorted((naive_distance(feature, g, metric), path) for g, path in zip(gallery.features, gallery.paths))
        assert matches.paths[query] == [path for _, path in ranked[:6]]
        assert matches.distances[query] == pytest.approx([distance for distance, _ in ranked[:6]], abs=1e-9)
    assert matches.gallery_size == 23


def test_little_memory_gives_the_same(make_set, monkeypatch):
    queries, gallery = make_set(random_features(9), prefix="q"), make_set(random_features(40, seed=1), prefix="g")
    whole = rank(queries, [gallery])
    monkeypatch.setattr(matching, "BLOCK_ENTRIES", 20)
    assert rank(queries, [gallery]).paths == whole.paths


@pytest.mark.parametrize("block", [1, 3, 10])
def test_equal_distances_keep_the_order_of_the_gallery(block, make_set):
    # Sums of powers of two: the distances of equal features are equal to the last bit.
    features = torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0], [0, 1], [1, 0], [1, 0], [0, 1], [1, 0], [0, 1]])
    matches = rank(make_set([[1.0, 0]], prefix="q"), make_set(features, prefix="g").blocks(block), 7)
    assert matches.paths[0] == [f"g{i}.jpg" for i in (0, 3, 5, 6, 8, 1, 2)]


def test_an_image_is_not_ranked_for_itself(make_set):
    both = make_set(random_features(6), prefix="x")
    matches = rank(both, both.blocks(4), 6)
    for query, path in enumerate(both.paths):
        assert path not in matches.paths[query] and len(matches.paths[query]) == 5


def test_a_person_known_from_the_query_alone_is_not_to_be_found(make_set):
    both = make_set([[1.0, 0], [1, 0.1], [0, 1.0], [0.1, 1], [1, 1]], [7, 7, 8, 9, ""], prefix="x")
    for blocks in (both.blocks(2), [both, both.blocks(1)[3]]):  # an image that comes twice is still the query itself
        matches = rank(both, blocks)
        assert matches.findable == (True, True, False, False, False)
        assert "first for 2 of the 2 queries whose person is in the gallery (100.0%; by chance " in summary(matches)
    assert rank(both, [make_set([[1.0, 1]], [8], prefix="y")]).findable == (False, False, True, False, False)


def test_the_same_person_by_the_same_camera_is_not_counted(make_set):
    queries = make_set([[1.0, 0], [0, 1.0], [1, 1.0]], [7, 8, 9], [0, 0, -1], prefix="q")
    gallery = make_set([[1.0, 0], [1, 0.5], [0, 1], [1, 1]], [7, 7, 8, 9], [0, 1, 0, -1], prefix="g")
    matches = rank(queries, gallery.blocks(2), 9)
    assert matches.paths[0][0] == "g1.jpg" and "g0.jpg" not in matches.paths[0] and "g0.jpg" in matches.paths[1]
    assert matches.findable == (True, False, True)  # a camera that is unknown is not the same
    assert matches.left_out == (0, 2) and matches.counted == (3, 3, 4) and matches.positives == (1, 0, 1)
    said = summary(matches)
    assert "for 2 of the 2 queries whose person is in the gallery (100.0%; by chance 29.2%)" in said
    assert "the same person by the same camera (0 and 2 pairs)" in said


def test_first_places_are_rank_1_of_the_protocol(make_set):
    labels, camids = [0, 1, 2, 0, 1, 2, 0, 1, 2, 3], [0, 0, 0, 0, 1, 1, 1, 0, 1, 1]
    queries = make_set(random_features(10), labels, camids, prefix="x")
    gallery = make_set(random_features(10, seed=1), labels, camids, prefix="y")
    matches = rank(queries, [gallery], 10)
    distances = pairwise_distances(unit(queries.features), unit(gallery.features)).float().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cmc, _ = torchreid.metrics.evaluate_rank(
            distances, np.array(labels), np.array(labels), np.array(camids), np.array(camids), 5, use_cython=False
        )
    known = [row for row, findable in enumerate(matches.findable) if findable]
    assert sum(matches.is_correct(row, 0) for row in known) / len(known) == pytest.approx(cmc[0])


@pytest.mark.parametrize("way", ["symlink", "hard link", "relative", "folder link"])
def test_an_image_is_itself_whatever_leads_to_its_file(way, make_set, tmp_path, monkeypatch):
    (tmp_path / "q").mkdir()
    real = tmp_path / "q" / "a.jpg"
    real.write_bytes(b"image")
    other = tmp_path / "g" / "b.jpg"
    if way == "folder link":
        (tmp_path / "g").symlink_to(tmp_path / "q")
        other = tmp_path / "g" / "a.jpg"
    elif way == "relative":
        monkeypatch.chdir(tmp_path)
        other = Path("q/../q/a.jpg")
    else:
        other.parent.mkdir()
        other.symlink_to(real) if way == "symlink" else other.hardlink_to(real)
    camids = np.array([-1])
    queries = FeatureSet(torch.eye(1), (str(real),), ("7",), camids)
    gallery = FeatureSet(torch.eye(1), (str(other),), ("8",), camids)
    saved = FeatureSet.load(gallery.save(tmp_path / "g.npz"))
    monkeypatch.chdir("/")  # saved features know their files from everywhere
    for part in (gallery, saved):
        matches = rank(queries, [part])
        assert matches.paths == [[]] and matches.left_out == (1, 0)


def test_images_without_files_are_not_the_same_by_their_numbers(make_set):
    queries, gallery = (
        FeatureSet(random_features(3, seed=seed), tuple(f"image {n}" for n in range(3)), ("",) * 3, np.full(3, -1))
        for seed in (0, 1)
    )
    assert [len(row) for row in rank(queries, [gallery]).paths] == [3, 3, 3]


def test_two_boxes_or_frames_of_one_file_are_two_images(tmp_path):
    (tmp_path / "v.avi").write_bytes(b"video")
    names = tuple(f"{tmp_path}/v.avi{end}" for end in ("#1", "#2", "#1@0,0,5,9", "#1@5,0,5,9"))
    part = FeatureSet(random_features(4), names, ("",) * 4, np.full(4, -1))
    assert [len(row) for row in rank(part, [part], 9).paths] == [3] * 4


def test_a_gallery_smaller_than_the_list(make_set):
    matches = rank(make_set(random_features(2), prefix="q"), [make_set(random_features(3, seed=2), prefix="g")], 10)
    assert [len(row) for row in matches.paths] == [3, 3]


def test_correctness_needs_both_labels(make_set):
    queries = make_set([[1.0, 0], [1.0, 0]], ["7", ""], prefix="q")
    matches = rank(queries, [make_set([[1.0, 0], [1, 0.1], [1, 0.2]], ["7", "8", ""], prefix="g")])
    assert [matches.is_correct(0, rank) for rank in range(3)] == [True, False, None]
    assert matches.is_correct(1, 0) is None and matches.gallery_identities == {"7", "8"}


def test_scores_are_distances_read_by_people():
    assert to_score(0.25, "cosine") == 0.75 and to_distance(0.75, "cosine") == 0.25
    assert to_score(0.25, "euclidean") == 0.25


def test_bad_input(make_set):
    queries = make_set(random_features(2))
    with pytest.raises(InputError, match="top.*at least 1"):
        GalleryRanking(queries, 0)
    with pytest.raises(InputError, match="length 5 and the queries of length 8"):
        GalleryRanking(queries).add(make_set(random_features(2, 5)))
    with pytest.raises(InputError, match='did you mean "cosine"'):
        rank(queries, [queries], metric="cosin")
    with pytest.raises(InputError, match="gallery is empty"):
        GalleryRanking(queries).result()
