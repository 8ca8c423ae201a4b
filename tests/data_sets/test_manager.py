from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torchreid

from torchreid_nas.data import SYSUMM01, CrossModalityDataManager, IdentityDataManager, RegDB
from torchreid_nas.errors import InputError, InputWarning

SMALL = {"height": 16, "width": 8, "batch_size_train": 8, "batch_size_test": 5, "num_instances": 2, "workers": 0}


def make(root, sources="regdb", **options):
    return CrossModalityDataManager(str(root), sources, **{**SMALL, **options})


def check_batch(batch, num_instances=2):
    half = len(batch["pid"]) // 2
    assert batch["modality"].tolist() == [0] * half + [1] * half
    assert torch.equal(batch["pid"][:half], batch["pid"][half:])
    assert len(batch["pid"].unique()) == half // num_instances


def test_offers_what_torchreids_engine_asks_for(regdb, capsys):
    manager = make(regdb, targets=["regdb", "regdb_ir2vis"])
    assert capsys.readouterr().out == ""
    assert manager.sources == ["regdb"] and manager.targets == ["regdb", "regdb_ir2vis"]
    assert (manager.num_train_pids, manager.num_train_cams) == (4, 2)
    assert (manager.height, manager.width, manager.data_type) == (16, 8, "image")
    assert len(manager.train_loader) == 12 // 4 + 1
    for batch in manager.train_loader:
        assert batch["img"].shape == (8, 3, 16, 8)
        check_batch(batch)

    dataset = RegDB(regdb, verbose=False)
    query, gallery = manager.fetch_test_loaders("regdb_ir2vis")
    assert query == dataset.gallery and gallery == dataset.query
    for name, swap in (("regdb", 1), ("regdb_ir2vis", -1)):
        for part, items in zip(("query", "gallery")[::swap], (dataset.query, dataset.gallery)):
            assert manager.test_dataset[name][part] == items
            batches = list(manager.test_loader[name][part])
            assert [path for batch in batches for path in batch["impath"]] == [item[0] for item in items]
    engine = torchreid.engine.ImageSoftmaxEngine(manager, torch.nn.Linear(1, 1), None, use_gpu=False)
    assert engine.train_loader is manager.train_loader and engine.test_loader is manager.test_loader
    assert manager.preprocess_pil_img(dataset[0]["img"]).shape == (3, 16, 8)


def test_targets_default_to_sources_and_may_be_none(regdb):
    assert make(regdb).targets == ["regdb"]
    manager = make(regdb, targets=[])
    assert manager.test_loader == {} and len(manager.train_loader) == 4
    with pytest.raises(InputError, match='"regdb" is not a target'):
        manager.test_galleries("regdb")


def test_galleries_of_a_fixed_and_of_a_drawn_protocol(regdb, make_sysu):
    make_sysu(regdb)
    manager = make(regdb, targets=["regdb", "sysu_mm01"], shot=1)
    (only,) = manager.test_galleries("regdb")
    assert only.tolist() == list(range(12))

    dataset = SYSUMM01(regdb, verbose=False)
    pool = manager.test_dataset["sysu_mm01"]["gallery"]
    assert pool == dataset.gallery_pool and len(manager.test_loader["sysu_mm01"]["gallery"].dataset) == len(pool)
    draws = manager.test_galleries("sysu_mm01")
    assert len(draws) == 10
    for trial, positions in enumerate(draws):
        assert [pool[position][:3] for position in positions] == dataset.draw_gallery(trial)
    options = make(regdb, targets="sysu_mm01", shot=2, num_trials=3)
    assert [len(positions) for positions in options.test_galleries("sysu_mm01")] == [20] * 3
    with pytest.raises(InputError, match="rand_perm_cam.mat"):
        make(regdb, targets="sysu_mm01", gallery_draw="official")


def test_a_target_whose_queries_cannot_be_scored_is_found_before(tmp_path, monkeypatch):
    def register(query, gallery):
        class Toy(torchreid.data.ImageDataset):
            def __init__(self, root="", **kwargs):
                super().__init__([("a.png", 0, 0), ("b.png", 1, 1)], query, gallery, **kwargs)

        monkeypatch.setitem(vars(torchreid.data.datasets)["__image_datasets"], "toy", Toy)
        return IdentityDataManager(str(tmp_path), "toy", **{**SMALL, "batch_size_train": 2, "num_instances": 1})

    register([("q.png", 5, 0), ("r.png", 6, 0)], [("g.png", 5, 1), ("h.png", 6, 0)])
    with pytest.raises(InputError, match='none of the 2 queries of "toy".*the same person, seen by another camera'):
        register([("q.png", 5, 0), ("r.png", 6, 0)], [("g.png", 5, 0), ("h.png", 6, 0)])
    with pytest.raises(InputError, match='none of the 1 queries of "toy"'):
        register([("q.png", 5, 0)], [("g.png", 6, 1)])


def test_split_id_reaches_the_data_set(regdb):
    assert make(regdb, split_id=1).test_dataset["regdb"]["query"] == RegDB(regdb, split_id=1, verbose=False).query


def test_two_sources_and_a_plain_one_in_front(regdb, make_sysu, monkeypatch):
    make_sysu(regdb)

    class PlainFolder(torchreid.data.ImageDataset):
        def __init__(self, root="", **kwargs):
            items = [(f"{root}/RegDB/Visible/1/v_0.bmp", 0, 0)]
            super().__init__(items, items, items, **kwargs)

    monkeypatch.setitem(vars(torchreid.data.datasets)["__image_datasets"], "plain_folder", PlainFolder)
    with pytest.warns(InputWarning, match="1 of 10 identities lack .*: labels 0$"):
        manager = make(regdb, ["plain_folder", "regdb", "sysu_mm01"], targets=[], batch_size_train=16)
    assert manager.num_train_pids == 10 and manager.num_train_cams == 1 + 2 + 6
    pids = set()
    for batch in manager.train_loader:
        check_batch(batch)
        for path, modality in zip(batch["impath"], batch["modality"]):
            assert ("Thermal" in path or "cam3" in path or "cam6" in path) == modality
        pids |= set(batch["pid"].tolist())
    assert pids <= set(range(1, 10)) and max(pids) > 4


def test_holdout_takes_identities_from_training(regdb, make_sysu):
    plain, manager = make(regdb), make(regdb, holdout=0.5)
    assert plain.validation_loader is None and plain.validation_dataset is None
    assert manager.num_train_pids == 2 and {item[1] for item in manager.trainset.train} == {0, 1}
    query, gallery = (manager.validation_dataset[part] for part in ("query", "gallery"))
    assert {item[2] for item in query} == {1} and {item[2] for item in gallery} == {0}
    assert len(query) == len(gallery) == 6 and {item[1] for item in query} == {item[1] for item in gallery}
    paths = [item[0] for item in [*manager.trainset.train, *query, *gallery]]
    assert sorted(paths) == sorted(item[0] for item in plain.trainset.train)
    for part, modality in (("query", 1), ("gallery", 0)):
        batches = list(manager.validation_loader[part])
        assert [path for batch in batches for path in batch["impath"]] == [
            item[0] for item in manager.validation_dataset[part]
        ]
        assert {value for batch in batches for value in batch["modality"].tolist()} == {modality}
    others = [make(regdb, holdout=0.5, holdout_seed=seed).validation_dataset["query"] for seed in range(6)]
    assert others[0] == query and any(other != query for other in others)
    with pytest.raises(InputError, match="1 identities held out .* 1 have .*at least 2.*0.25"):
        make(regdb, holdout=0.25, batch_size_train=4)
    with pytest.raises(InputError, match="fraction of a split is 1.5"):
        make(regdb, holdout=1.5)


def test_search_split_by_identity_is_a_seeded_share_with_labels_apart(regdb, make_regdb, tmp_path):
    root = tmp_path / "larger"
    make_regdb(root, trials=1, identities=12, images=2)
    manager = make(root)
    first, second, num_pids = manager.search_split()
    assert num_pids == 9
    assert {item[1] for item in first.dataset.data} == set(range(9))
    assert {item[1] for item in second.dataset.data} == {9, 10, 11}
    paths = [item[0] for loader in (first, second) for item in loader.dataset.data]
    assert sorted(paths) == sorted(item[0] for item in manager.trainset.train)
    people = [{path.split("/")[-2] for path, *_ in loader.dataset.data} for loader in (first, second)]
    assert people[0].isdisjoint(people[1])
    for loader in (first, second):
        for batch in loader:
            check_batch(batch)
    assert len(first) == 18 // 4 + 1 and first.dataset.transform is second.dataset.transform is manager.transform_tr
    assert manager.search_split(augment_validation=False)[1].dataset.transform is manager.transform_te
    assert manager.search_split(fraction=0.5)[2] == 6
    assert len(manager.search_split(num_batches=3)[0]) == 3
    splits = {tuple(manager.search_split(seed=seed)[1].dataset.data) for seed in range(8)}
    assert len(splits) > 1


def people_of(loader):
    return {int(path.split("/")[-2]) for path, *_ in loader.dataset.data}


def test_search_split_is_the_official_one_on_sysu(tmp_path, make_sysu):
    make_sysu(tmp_path, train=(1, 3, 5, 7, 9, 11), val=(2, 4, 8, 20), test=(6, 10), images=1)
    options = {"sources": "sysu_mm01", "targets": [], "batch_size_train": 4, "num_instances": 1}
    first, second, num_pids = make(tmp_path, **options).search_split()
    assert num_pids == 6 and {item[1] for item in first.dataset.data} == set(range(6))
    assert people_of(first) == {1, 3, 5, 7, 9, 11} and people_of(second) == {2, 4, 8, 20}
    assert {item[1] for item in second.dataset.data} == {6, 7, 8, 9}
    assert make(tmp_path, **options).search_split(fraction=0.5)[2] == 5


def test_identities_held_out_leave_either_side_of_the_official_split(tmp_path, make_sysu):
    make_sysu(tmp_path, train=(1, 3, 5, 7, 9, 11), val=(2, 4, 8, 20), test=(6, 10), images=1)
    options = {"sources": "sysu_mm01", "targets": [], "batch_size_train": 4, "num_instances": 1, "holdout": 0.2}
    sizes = set()
    for seed in range(8):
        manager = make(tmp_path, holdout_seed=seed, **options)
        held_out = {int(item[0].split("/")[-2]) for item in manager.validation_dataset["query"]}
        first, second, num_pids = manager.search_split()
        assert people_of(first) == {1, 3, 5, 7, 9, 11} - held_out and num_pids == len(people_of(first))
        assert people_of(second) == {2, 4, 8, 20} - held_out
        sizes.add(num_pids)
    assert len(sizes) > 1


def test_held_out_identities_of_one_camera_cannot_be_found_and_are_left_out(data_root):
    manager = IdentityDataManager(str(data_root), "market1501", targets=[], **SMALL)
    items = [("a", 0, 0, 0), ("b", 0, 0, 0), ("c", 0, 2, 0), ("d", 1, 1, 0), ("e", 1, 1, 0), ("f", 2, 0, 0), ("g", 2, 1, 0)]
    parts = manager.validation_parts(manager.trainset, items)
    assert sorted(item[0] for item in parts["query"]) == ["a", "c", "f", "g"]
    assert [item[0] for item in parts["gallery"]] == ["a", "b", "c", "f", "g"]


def test_search_split_by_image_shares_labels(regdb):
    manager = make(regdb)
    first, second, num_pids = manager.search_split(by="image", fraction=0.4)
    assert num_pids == manager.num_train_pids == 4
    assert len(first.dataset) == 16 and len(second.dataset) == 8
    assert sorted(first.dataset.data + second.dataset.data) == sorted(manager.trainset.train)
    for batch in second:
        check_batch(batch)


def test_search_split_takes_smaller_batches_for_few_validation_identities(regdb):
    manager = make(regdb, batch_size_train=8)
    second = manager.search_split(fraction=0.5, batch_size=8)[1]
    assert second.batch_size == 8
    first, second, _ = manager.search_split(fraction=0.5, batch_size=4, num_instances=1)
    assert (first.batch_size, second.batch_size) == (4, 4)
    large = make(regdb, ["regdb"], targets=[], batch_size_train=16, num_instances=2).search_split(
        by="image", fraction=0.4
    )
    assert large[1].batch_size == 16
    with pytest.raises(InputError, match="has 1 identities .* at least 2"):
        manager.search_split(fraction=0.25, batch_size=4)
    with pytest.raises(InputError, match='identity or image, not by "images"; did you mean "image"'):
        manager.search_split(by="images")


def test_validation_batches_shrink_to_the_identities_there_are(sysu):
    manager = make(sysu, "sysu_mm01", targets=[], batch_size_train=12, num_instances=2)
    first, second, _ = manager.search_split()
    assert first.batch_size == 12 and second.batch_size == 8
    check_batch(next(iter(second)))


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_are_reproducible(regdb, workers):
    def epoch(seed):
        manager = make(regdb, workers=workers)
        manager.train_loader.sampler.set_epoch(4)
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        return torch.cat([batch["img"] for batch in manager.train_loader])

    first = epoch(1)
    assert torch.equal(first, epoch(1))
    assert not torch.equal(first, epoch(2))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_one_sentence_from_workers_too(regdb, workers):
    manager = make(regdb, workers=workers)
    path = manager.test_dataset["regdb"]["query"][7][0]
    with open(path, "r+b") as file:
        file.truncate(60)
    with pytest.raises(InputError) as caught:
        list(manager.test_loader["regdb"]["query"])
    message = str(caught.value)
    assert message.startswith(f'the image "{path}" is truncated') and "\n" not in message and "Traceback" not in message


def test_a_batch_beyond_the_data_is_refused_not_empty(regdb):
    with pytest.raises(InputError, match="needs 32 identities.*but 4 of 4"):
        make(regdb, batch_size_train=128)


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"sources": "regdbb"}, 'no image data set "regdbb".*did you mean "regdb'),
        ({"sources": []}, "names no data set"),
        ({"sources": None}, "names no data set"),
        ({"targets": ["regdb", "regdb"]}, 'targets names "regdb" twice'),
        ({"workers": -1}, "workers is -1"),
        ({"batch_size_test": 0}, "batch_size_test is 0"),
        ({"num_trials": 0}, "num_trials is 0"),
        ({"transforms": ["flip"]}, 'no transform "flip"'),
    ],
)
def test_bad_arguments(regdb, options, complaint):
    with pytest.raises(InputError, match=complaint):
        make(regdb, **options)


def test_summary_is_a_table_of_what_was_found(regdb, make_sysu):
    make_sysu(regdb)
    lines = make(regdb, targets=["regdb", "sysu_mm01"], holdout=0.5).summary().splitlines()
    rows = {line[:35].strip(): line[35:].split() for line in lines[2:]}
    assert rows == {
        "train: regdb": ["2", "6", "6"],
        "held out of training": ["2", "6", "6"],
        "regdb: query": ["4", "12", "0"],
        "regdb: gallery": ["4", "0", "12"],
        "sysu_mm01: query": ["3", "0", "10"],
        "sysu_mm01: gallery pool (10 draws)": ["3", "20", "0"],
    }


def test_the_summary_of_one_modality_says_nothing_of_the_other(data_root):
    manager = IdentityDataManager(str(data_root), "market1501", targets=["market1501"], **SMALL)
    table = manager.summary()
    header, _, *rows = table.splitlines()
    assert header.split() == ["part", "identities", "images"] and "infrared" not in table
    assert len(rows) == 3 and all(len(row[30:].split()) == 2 for row in rows)
    assert manager.direction("market1501") == ""


@pytest.mark.parametrize("key", ["batch_size_test", "num_trials", "num_instances", "num_batches"])
@pytest.mark.parametrize("manager", [CrossModalityDataManager, IdentityDataManager])
def test_numbers_below_one_are_refused_by_every_manager(regdb, manager, key):
    with pytest.raises(InputError, match=f"{key} is 0, expected at least 1"):
        manager(str(regdb), "regdb", **{**SMALL, key: 0})
