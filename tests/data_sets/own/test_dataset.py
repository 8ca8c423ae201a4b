"""Own images as a data set: the division of persons, queries, cameras, captures, both directions, images without labels."""
from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from torchreid_nas.data import (
    CrossModalityDataManager,
    DomainAdaptationDataManager,
    IdentityDataManager,
    OwnDataset,
    dataset_facts,
    read_records,
)
from torchreid_nas.data.own.split import divide
from torchreid_nas.errors import InputError
from torchreid_nas.metrics import PROTOCOLS, rank_queries


def draw(folder, names):
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 8, 3), dtype=np.uint8)).save(path)
    return folder


def people(count, *pattern):
    return [name.format(person) for person in range(count) for name in pattern]


def manager(cls, name, **options):
    return cls(sources=name, height=16, width=8, batch_size_train=4, num_instances=2, workers=0, cache="off", **options)


def test_persons_are_divided_by_seed_and_share_alone(tmp_path):
    name = f"folder:{draw(tmp_path, people(10, 'p{}/1.png', 'p{}/2.png'))}"
    first = OwnDataset(name, split_seed=3, train_share=0.3, verbose=False)
    assert first.num_train_pids == 3 and len(first.train) == 6 and {item[1] for item in first.train} == {0, 1, 2}
    again = OwnDataset(name, split_seed=3, train_share=0.3, verbose=False)
    assert first.train == again.train and first.query == again.query
    other = OwnDataset(name, split_seed=4, train_share=0.3, verbose=False)
    assert other.train != first.train
    assert not {item[1] for item in first.train} & {item[1] for item in first.query}
    assert "seed 3" in first.describe("x") and any("shuffled by NumPy" in remark for remark in first.remarks)


def test_without_cameras_a_query_skips_its_own_file_alone(tmp_path):
    draw(tmp_path, people(6, "p{}/1.png", "p{}/2.png", "p{}/3.png"))
    tested = next(row for row in divide(read_records(str(tmp_path))).rows if row.split == "test")
    os.link(tested.path, tested.path.replace(".png", " copy.png"))
    data = OwnDataset(f"folder:{tmp_path}", verbose=False)
    assert data.protocol == "captures" and (len(data.query), len(data.gallery)) == (9, 10)
    by_path = {item[0]: item[2] for item in data.gallery}
    assert by_path[tested.path] == by_path[tested.path.replace(".png", " copy.png")]
    assert len(set(by_path.values())) == 9
    assert any("higher than those of a protocol across cameras" in remark for remark in data.remarks)
    assert data.count_cameras(data.query) is None and {item[2] for item in data.train} == {0}


def test_sequences_are_skipped_and_one_image_of_each_queries(tmp_path):
    draw(tmp_path, people(4, "p{}/a-1.png", "p{}/a-2.png", "p{}/b-1.png"))
    data = OwnDataset(f"folder:{tmp_path}", layout="{pid}/{sequence}-{frame}", verbose=False)
    assert len(data.query) == 4 and len(data.gallery) == 6
    camera = {os.path.relpath(path, tmp_path): camid for path, _, camid, _ in data.gallery}
    person = next(iter(camera)).split("/")[0]
    assert camera[f"{person}/a-1.png"] == camera[f"{person}/a-2.png"] != camera[f"{person}/b-1.png"]
    assert "own sequence skipped" in data.describe("x")


@pytest.mark.parametrize("seed", range(4))
def test_the_protocol_of_captures_equals_a_mask_by_matrix_and_blocks(seed):
    generator = np.random.default_rng(seed)
    query, gallery = generator.normal(size=(30, 4)).astype(np.float32), generator.normal(size=(50, 4)).astype(np.float32)
    q_pids, g_pids = generator.integers(0, 6, 30), generator.integers(0, 6, 50)
    q_files, g_files = generator.integers(0, 20, 30), generator.integers(0, 20, 50)
    distmat = ((query[:, None] - gallery[None]) ** 2).sum(axis=2)
    skipped = (q_pids[:, None] == g_pids) & (q_files[:, None] == g_files)
    expected = rank_queries(distmat, q_pids, g_pids, excluded=lambda span: skipped[span])
    protocol = PROTOCOLS["captures"]
    for found in (
        protocol.evaluate(distmat, q_pids, g_pids, q_files, g_files),
        protocol.evaluate_features(query, gallery, q_pids, g_pids, q_files, g_files),
    ):
        assert found.mAP == pytest.approx(expected.mAP, abs=1e-6) and np.allclose(found.cmc, expected.cmc, atol=1e-12)
    assert rank_queries(distmat, q_pids, g_pids).mAP != pytest.approx(expected.mAP, abs=1e-6)


def test_two_modalities_are_tested_in_both_directions(tmp_path):
    draw(tmp_path, [*people(6, "rgb/p{}/1.png", "rgb/p{}/2.png", "ir/p{}/1.png"), "rgb/alone/1.png"])
    names = [f"folder:{tmp_path}", f"folder_ir2vis:{tmp_path}"]
    data = manager(CrossModalityDataManager, names[0], targets=names)
    assert [data.direction(name) for name in names] == ["visible → infrared", "infrared → visible"]
    assert data.protocols(names[0]) == [PROTOCOLS["regdb"]]
    assert "1 persons of" in data.summary() and "left out of what crosses modalities: alone" in data.summary()
    parts = [*data.trainset.train, *data.test_dataset[names[0]]["query"], *data.test_dataset[names[0]]["gallery"]]
    assert not any("alone" in item[0] for item in parts) and len(parts) == 18


def test_roles_and_splits_of_a_csv_are_kept(tmp_path):
    draw(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    (tmp_path / "all.csv").write_text(
        "path,pid,camid,split,role\na.png,1,1,train,\nb.png,2,1,test,query\nc.png,2,2,test,gallery\nd.png,3,2,,gallery\n"
    )
    data = OwnDataset(f"csv:{tmp_path / 'all.csv'}", verbose=False)
    names = [[os.path.basename(item[0]) for item in part] for part in (data.train, data.query, data.gallery)]
    assert names == [["a.png"], ["b.png"], ["c.png", "d.png"]]
    assert data.protocol == "market1501" and "divided" not in data.describe("x")


def test_a_named_set_and_own_images_train_together(tmp_path, data_root):
    draw(tmp_path, people(6, "p{}/cam1/1.png", "p{}/cam2/1.png"))
    name = f"folder:{tmp_path}"
    data = IdentityDataManager(
        str(data_root), ["market1501", name], [name, "market1501"], height=16, width=8, batch_size_train=4, num_instances=2,
        workers=0, cache="off",
    )
    alone = manager(IdentityDataManager, name)
    market = manager(IdentityDataManager, "market1501", root=str(data_root))
    assert data.num_train_pids == alone.num_train_pids + market.num_train_pids
    assert len(next(iter(data.train_loader))["img"]) == 4


def test_held_out_persons_without_cameras_can_be_found(tmp_path):
    name = f"folder:{draw(tmp_path, people(12, 'p{}/1.png', 'p{}/2.png', 'p{}/3.png'))}"
    data = manager(IdentityDataManager, name, holdout=0.4)
    parts = data.validation_dataset
    assert parts["query"] == parts["gallery"] and len({item[2] for item in parts["query"]}) == len(parts["query"]) == 6


def test_images_without_labels_serve_adaptation_alone(tmp_path):
    bare = f"folder:{draw(tmp_path / 'bare', [f'{n}.png' for n in range(8)])}"
    labelled = f"folder:{draw(tmp_path / 'people', people(6, 'p{}/1.png', 'p{}/2.png'))}"
    data = manager(DomainAdaptationDataManager, labelled, targets=[bare, labelled], load_train_targets=True)
    assert data.targets == [labelled]
    data = manager(DomainAdaptationDataManager, labelled, targets=[], load_train_targets=[bare])
    assert len(data.trainset_t.train) == 8 and not data.trainset_t.labelled
    with pytest.raises(InputError, match="leave test out of --stages"):
        manager(DomainAdaptationDataManager, labelled, targets=[bare], load_train_targets=[])
    with pytest.raises(InputError, match="have no labels, expected labelled ones to train on"):
        manager(IdentityDataManager, bare)


def test_one_person_cannot_be_divided(tmp_path):
    with pytest.raises(InputError, match="has 1 person, expected at least 2"):
        OwnDataset(f"folder:{draw(tmp_path, ['p1/1.png', 'p1/2.png'])}", verbose=False)


def test_persons_seen_once_cannot_be_tested_in_one_sentence(tmp_path):
    with pytest.raises(InputError, match="in another file or sequence, under this protocol"):
        manager(IdentityDataManager, f"folder:{draw(tmp_path, people(8, 'p{}/1.png'))}")


def test_facts_of_own_images_need_no_files():
    facts = dataset_facts("folder:nowhere")
    assert facts.num_splits == 1 and {"layout", "split_seed", "train_share"} == facts.options
