"""An index answers as `match` does, and loses nothing."""
import numpy as np
import pytest
import torch

from torchreid_nas.errors import InputError
from torchreid_nas.features import FeatureSet, GalleryRanking
from torchreid_nas.index import GalleryIndex, engines

DIM = 16


def people(count, images, seed=0, cameras=3, first=0, prefix=""):
    """Return features of persons, each image near its person's centre."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(count, DIM)).repeat(images, 0)
    features = torch.from_numpy(centres + 0.3 * generator.normal(size=centres.shape)).float()
    labels = np.arange(first, first + count).repeat(images)
    return FeatureSet(
        torch.nn.functional.normalize(features), tuple(f"{prefix}{seed}/{place}.jpg" for place in range(len(labels))),
        tuple(map(str, labels)), generator.integers(0, cameras, len(labels)), "net", "visible", "abc",
    )


def by_match(queries, gallery, top, metric="euclidean"):
    ranking = GalleryRanking(queries, top, metric)
    ranking.add(gallery)
    return ranking.result()


@pytest.fixture
def gallery():
    return people(60, 8)


@pytest.fixture
def index(tmp_path, gallery):
    made = GalleryIndex.create(tmp_path / "gallery", gallery)
    made.add(gallery.blocks(100))
    return made


@pytest.mark.parametrize("with_faiss", [True, False])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_an_exact_index_answers_as_match_does(index, gallery, metric, with_faiss, monkeypatch):
    if not with_faiss:
        monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    strangers, unlabelled = people(3, 2, seed=5, first=900), people(2, 2, seed=6)
    unlabelled = FeatureSet(unlabelled.features, unlabelled.paths, ("",) * 4, np.full(4, -1), "net", "visible", "abc")
    queries = FeatureSet.concatenate([gallery.take(range(0, 480, 7)), strangers, unlabelled])
    ours, theirs = index.search(queries, 12, metric), by_match(queries, gallery, 12, metric)
    assert ours.paths == theirs.paths and ours.labels == theirs.labels
    for row, expected in zip(ours.distances, theirs.distances):
        assert row == pytest.approx(expected, abs=1e-7)
    assert (ours.positives, ours.counted, ours.left_out) == (theirs.positives, theirs.counted, theirs.left_out)
    assert (ours.gallery_size, ours.gallery_identities) == (theirs.gallery_size, theirs.gallery_identities)
    assert ours.gallery_modality == "visible"


def test_what_is_left_out_is_made_up_for_by_the_next_images(tmp_path):
    one_camera = people(2, 60, cameras=1)
    index = GalleryIndex.create(tmp_path / "gallery", one_camera)
    index.add([one_camera])
    queries = one_camera.take([0, 60])
    assert index.search(queries, 5).paths == by_match(queries, one_camera, 5).paths
    assert index.search(queries, 500).paths == by_match(queries, one_camera, 500).paths


def test_an_index_is_the_same_after_it_was_opened_again(index, gallery):
    again = GalleryIndex(index.path)
    queries = gallery.take([3, 50])
    assert len(again) == len(gallery) and again.search(queries, 3).paths == index.search(queries, 3).paths
    counts = again.info()
    assert counts["images"] == 480 and counts["identities"] == 60 and counts["modality"] == {"visible": 480}
    assert sum(counts["camid"].values()) == 480


def test_nothing_of_a_removed_person_stays_in_the_folder(index, gallery):
    gone = [place for place, label in enumerate(gallery.labels) if label == "7"]
    bytes_of = [index.store.vectors()[row].tobytes() for row in gone]
    paths = [gallery.paths[row] for row in gone]
    whole = b"".join(file.read_bytes() for file in index.path.iterdir())
    assert all(one in whole for one in bytes_of) and all(f"/{path}".encode() in whole for path in paths)
    assert index.remove("7") == 8
    whole = b"".join(file.read_bytes() for file in index.path.iterdir())
    assert not any(one in whole for one in bytes_of) and not any(f"/{path}".encode() in whole for path in paths)
    rest = gallery.take([place for place, label in enumerate(gallery.labels) if label != "7"])
    queries = gallery.take([*gone[:2], 0])
    for opened in (index, GalleryIndex(index.path)):
        assert opened.search(queries, 5).paths == by_match(queries, rest, 5).paths
    index.merge()
    assert index.store.rows == len(rest) == len(index)
    assert index.search(queries, 5).paths == by_match(queries, rest, 5).paths
    with pytest.raises(InputError, match='holds no images of "7"'):
        index.remove("7")


def test_indexes_merge_into_one(index, gallery, tmp_path):
    more = people(10, 4, seed=9, first=100)
    other = GalleryIndex.create(tmp_path / "other", more)
    other.add([more])
    other.remove("101")
    assert index.merge([other.path]) == 36
    rest = FeatureSet.concatenate([gallery, more.take([place for place in range(40) if more.labels[place] != "101"])])
    queries = FeatureSet.concatenate([gallery.take([5]), more.take([0, 4])])
    assert index.search(queries, 6).paths == by_match(queries, rest, 6).paths
    with pytest.raises(InputError, match="expected a folder for the index"):
        GalleryIndex.create(index.store.vectors_file, gallery)
    with pytest.raises(InputError, match="cannot be merged with itself"):
        index.merge([index.path])


@pytest.mark.parametrize("kind", ["ivfpq", "hnsw"])
def test_the_engines_find_nearly_what_exact_search_finds(tmp_path, kind, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr("torchreid_nas.index.gallery.LEAST", 500)
    gallery = people(300, 8, seed=2)
    index = GalleryIndex.create(tmp_path / "gallery", gallery, kind)
    index.add([gallery.take(range(2000))])
    # The second call adds to the engine's file; a removal takes rows out, or builds the engine anew.
    index.add([gallery.take(range(2000, 2400))])
    index.remove("3")
    rest = gallery.take([place for place, label in enumerate(gallery.labels) if label != "3"])
    assert index.info()["indexed"] == 2400 and index.store.engine_file is not None
    queries = gallery.take(range(0, 2400, 11))
    for opened in (index, GalleryIndex(index.path)):
        ours, theirs = opened.search(queries, 10), by_match(queries, rest, 10)
        found = np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(ours.paths, theirs.paths)])
        assert found >= 0.99 and ours.positives == theirs.positives
    index.store.engine_file.write_bytes(b"damage")
    with pytest.raises(InputError, match="is damaged; build it again: torchreid-nas index merge"):
        GalleryIndex(index.path).search(queries, 10)


def test_the_threshold_accepts_the_chosen_share_of_strangers(index):
    strangers = people(50, 4, seed=3, first=500)
    chosen = index.calibrate(strangers, 0.05)
    nearest = np.array([row[0] for row in index.search(strangers, 1).distances])
    assert (nearest <= chosen.distance).mean() == chosen.far == 0.05
    assert (chosen.queries, chosen.persons, chosen.images) == (200, 50, 480)
    assert GalleryIndex(index.path).calibration == chosen
    with pytest.raises(InputError, match='holds images of "59", who is among the strangers'):
        index.calibrate(people(1, 2, first=59), 0.05)


def test_features_of_another_model_are_refused(index):
    other = people(1, 2, seed=4)
    for wrong, said in (
        (FeatureSet(other.features, other.paths, other.labels, other.camids, "net", "visible", "other"), 'the model "net"'),
        (FeatureSet(other.features[:, :8], other.paths, other.labels, other.camids, "net", "", "abc"), "length 8"),
    ):
        with pytest.raises(InputError, match=said):
            index.add([wrong])
        with pytest.raises(InputError, match=said):
            index.search(wrong)


def test_faults_are_one_sentence(tmp_path, index, gallery):
    with pytest.raises(InputError, match="holds no index; make one"):
        GalleryIndex(tmp_path / "none")
    with pytest.raises(InputError, match="is not empty"):
        GalleryIndex.create(index.path, gallery)
    with pytest.raises(InputError, match='the engine is "ivf", expected exact, ivfpq, hnsw'):
        GalleryIndex.create(tmp_path / "new", gallery, "ivf")
    empty = GalleryIndex.create(tmp_path / "empty", gallery)
    with pytest.raises(InputError, match="is empty; add images first"):
        empty.search(gallery)
    with index.store.writing(), pytest.raises(InputError, match="is being changed by another process"):
        GalleryIndex(index.path).add([gallery])
    with index.store.vectors_file.open("r+b") as file:
        file.truncate(100)
    with pytest.raises(InputError, match="are truncated: 100 bytes"):
        GalleryIndex(index.path)
    (index.path / "index.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="are damaged"):
        GalleryIndex(index.path)


def test_an_engine_of_faiss_says_what_to_install(tmp_path, gallery, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(InputError, match="torchreid-nas\\[search\\]"):
        GalleryIndex.create(tmp_path / "new", gallery, "hnsw")
    assert engines.exact_candidates(np.eye(3, dtype="f4"), np.ones(3, bool), np.eye(3, dtype="f4"), 1).tolist() == [[0], [1], [2]]
