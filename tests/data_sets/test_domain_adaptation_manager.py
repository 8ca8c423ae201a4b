"""DomainAdaptationDataManager: which images take part, in what order, in which styles."""
import shutil

import pytest
import torch
from msmt17 import CAMERAS, PERSONS, write_msmt17
from PIL import Image

from torchreid_nas.data import CAMERA_STYLES, CachedLoader, DomainAdaptationDataManager, readers
from torchreid_nas.data.camstyle import camstyle_folder, camstyle_name
from torchreid_nas.data.loading import load_dataset
from torchreid_nas.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from torchreid_nas.errors import InputError

MEAN, STD = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)


def manager(data_root, **changes):
    options = {
        "root": str(data_root), "sources": "dukemtmcreid", "targets": [], "height": 64, "width": 32, "workers": 0,
        "batch_size_train": 8, "transforms": None, "load_train_targets": ["market1501"], **changes,
    }
    return DomainAdaptationDataManager(**options)


def test_source_and_target_are_the_training_images_of_both(data_root):
    data = manager(data_root)
    assert all("dukemtmc-reid" in item[0] for item in data.train_loader.dataset.data)
    paths = [item[0] for item in data.trainset_t.train]
    assert all("market1501" in path and "bounding_box_train" in path for path in paths)
    assert len(set(paths)) == len(paths)
    assert "unlabelled training images of the target: " + str(len(paths)) in data.summary()


@pytest.mark.parametrize("named, targets", [(True, ["market1501"]), ("market1501", []), (["market1501"], [])])
def test_torchreids_forms_of_load_train_targets_are_taken(data_root, named, targets):
    data = manager(data_root, load_train_targets=named, targets=targets)
    assert data.train_loader_t is not None and all("market1501" in item[0] for item in data.trainset_t.train)


@pytest.mark.parametrize("without", [[], (), False])
def test_no_target_must_be_said(data_root, without):
    assert manager(data_root, load_train_targets=without).train_loader_t is None
    with pytest.raises(InputError, match="load_train_targets is missing"):
        manager(data_root, load_train_targets=None)
    with pytest.raises(InputError, match="load_train_targets is True and targets names no data set"):
        manager(data_root, load_train_targets=True, targets=[])


@pytest.mark.parametrize("cache", ["off", "on"])
def test_of_msmt17_the_images_of_its_validation_list_take_part_too(data_root, tmp_path, cache):
    folder = write_msmt17(tmp_path)
    shutil.copytree(data_root / "market1501", tmp_path / "market1501")
    data = manager(tmp_path, sources="market1501", targets=["msmt17"], load_train_targets=["msmt17"], cache=cache)
    paths = [item[0] for item in data.trainset_t.train]
    assert sorted(paths) == sorted(map(str, (folder / "train").rglob("*.jpg")))
    assert {path for batch in data.target_images() for path in batch["impath"]} == set(paths)
    assert isinstance(data.train_loader_t, CachedLoader) == (cache == "on")
    # Beside other targets their cameras and persons are numbered with the rest.
    both = manager(tmp_path, sources="market1501", load_train_targets=["market1501", "msmt17"])
    own = {item[0]: item for item in both.trainset_t.train if "/MSMT17_V1/" in item[0]}
    assert sorted(own) == sorted(paths) and len({item[2] for item in own.values()}) == CAMERAS
    assert len({item[1] for item in own.values()}) == PERSONS
    # Training with labels, and the test, are those of torchreid.
    labelled = manager(tmp_path, sources="msmt17", targets=["msmt17"], load_train_targets=["msmt17"])
    assert len(labelled.trainset.train) == PERSONS * (CAMERAS - 1)
    assert all("/test/" in item[0] for part in labelled.test_dataset["msmt17"].values() for item in part)


def test_an_image_of_two_targets_takes_part_once(data_root):
    one = manager(data_root, sources="regdb", load_train_targets=["regdb"])
    two = manager(data_root, sources="regdb", load_train_targets=["regdb", "regdb_ir2vis"])
    assert [i[0] for i in one.trainset_t.train] == [i[0] for i in two.trainset_t.train]


def test_an_epoch_shuffles_without_repetition_by_the_global_seed(data_root):
    data = manager(data_root)
    epochs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        epochs.append([path for batch in data.train_loader_t for path in batch["impath"]])
    assert epochs[0] == epochs[1] != epochs[2]
    assert len(set(epochs[0])) == len(epochs[0]) == len(data.trainset_t.train) // 8 * 8


def test_batches_of_two_modalities_are_halves(data_root):
    data = manager(data_root, sources="regdb", load_train_targets=["regdb"], batch_size_target=6, height=48, width=24)
    batches = list(data.train_loader_t)
    assert len(batches) == len(data.train_loader_t) == 64 // 3
    assert all(batch["modality"].tolist() == [0, 0, 0, 1, 1, 1] for batch in batches)
    seen = [path for batch in batches for path in batch["impath"]]
    assert len(set(seen)) == len(seen)
    with pytest.raises(InputError, match="ecn.batch_size_target is 5, expected an even number"):
        manager(data_root, sources="regdb", load_train_targets=["regdb"], batch_size_target=5)


def test_an_epoch_is_as_long_as_the_larger_modality_and_the_smaller_one_is_shuffled_again(data_root):
    data = manager(data_root, sources="sysu_mm01", load_train_targets=["sysu_mm01"], height=48, width=24)
    items, is_infrared = data.trainset_t.train, data.trainset_t.modality_of
    visible, infrared = ([item[0] for item in items if is_infrared(item[2]) == modality] for modality in (0, 1))
    assert len(visible) > 3 * len(infrared) / 2
    batches = list(data.train_loader_t)
    assert len(batches) == len(data.train_loader_t) == len(visible) // 4
    shown, again = ([path for batch in batches for path in batch["impath"][part]] for part in (slice(4), slice(4, 8)))
    assert len(set(shown)) == len(shown) and set(shown) <= set(visible)
    # Each round of the smaller one shows all of it.
    assert set(again[: len(infrared)]) == set(infrared) != set(again[: len(infrared) - 1])
    assert again[: len(again) - len(infrared)] != again[len(infrared):]


def test_so_are_those_of_a_source_with_two_modalities(data_root):
    data = manager(data_root, sources="regdb", height=48, width=24, num_batches=3)
    batches = list(data.train_loader)
    assert len(batches) == len(data.train_loader) == 3
    assert all(batch["modality"].tolist() == [0] * 4 + [1] * 4 for batch in batches)
    with pytest.raises(InputError, match="train.batch_size is 7, expected an even number"):
        manager(data_root, sources="regdb", batch_size_train=7)


def test_the_images_of_the_slots_come_in_their_order_and_own_style(data_root):
    data = manager(data_root, camstyle="statistics")
    plain = manager(data_root)
    batches = list(data.target_images())
    assert [path for batch in batches for path in batch["impath"]] == [item[0] for item in data.trainset_t.train]
    assert torch.equal(batches[0]["img"][0], plain.trainset_t[0]["img"])


@pytest.mark.parametrize("camstyle", [kind for kind in CAMERA_STYLES if kind not in ("files", "none")])
def test_the_styles_change_images_of_the_target_alone(data_root, camstyle):
    data = manager(data_root, camstyle=camstyle)
    torch.manual_seed(0)
    plain = {item["impath"]: item["img"] for item in data.trainset_t}
    changed = [
        not torch.equal(image, plain[path]) for batch in data.train_loader_t
        for image, path in zip(batch["img"], batch["impath"])
    ]
    # Of six cameras the own one is drawn in a sixth of the cases.
    assert 0.6 < sum(changed) / len(changed) < 0.98
    assert data.camera_styler.summary() in data.summary()


def test_files_of_two_targets_are_those_of_each_ones_own_cameras(data_root, tmp_path, monkeypatch):
    root = tmp_path / "data"
    for name in ("market1501", "dukemtmc-reid"):
        shutil.copytree(data_root / name, root / name)
    for target in ("market1501", "dukemtmcreid"):
        items = load_dataset(target, {"root": str(root)}).train
        for path, _, camid, _ in items:
            camstyle_folder(path).mkdir(exist_ok=True)
            for new in {item[2] for item in items} - {camid}:
                # Brightness tells the camera, in the numbers of its own data set.
                Image.new("L", (8, 16), 20 * new).save(camstyle_folder(path) / camstyle_name(path, camid, new))
    for targets in (["market1501", "dukemtmcreid"], ["dukemtmcreid", "market1501"]):
        data = manager(root, load_train_targets=targets, camstyle="files")
        assert data.camera_styler.num_missing == 0
        shift = data.trainset_t.train[-1][2] - load_dataset(targets[1], {"root": str(root)}).train[-1][2]
        shown = data.train_loader_t.dataset
        torch.manual_seed(0)
        for index, (_, _, camid, dsetid) in enumerate(data.trainset_t.train):
            style = shown.draw(index)
            if style.camid != camid:
                pixel = shown.pixels(index, style)[8, 4].tolist()
                assert pixel == pytest.approx((20 * (style.camid - shift * dsetid),) * 3, abs=3)
        # Decoded once, with the images, when a pass begins: nothing is read from then on.
        monkeypatch.setattr(readers, "read_pixels", None)
        styled = 0
        for batch in data.train_loader_t:
            for image, camid, new, dsetid in zip(*(batch[key] for key in ("img", "camid", "style_camid", "dsetid"))):
                if new != camid:
                    mean = float((image[:, 32, 16] * STD + MEAN).mean() * 255)
                    assert mean == pytest.approx(20 * float(new - shift * dsetid), abs=3)
                    styled += 1
        assert styled > 50


def test_for_a_test_there_is_no_target_to_train_on(data_root):
    data = manager(data_root, targets=["market1501"], load_train_targets=())
    assert data.train_loader_t is None and set(data.test_loader) == {"market1501"}


def test_a_batch_larger_than_the_source_is_refused(data_root):
    with pytest.raises(InputError, match="train.batch_size"):
        manager(data_root, batch_size_train=10**4, batch_size_target=8)
