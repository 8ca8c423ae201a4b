"""Features of images against the model asked by hand, and their file."""
import copy
import dataclasses
import shutil
import warnings

import numpy as np
import pytest
import torch
import torchreid
from PIL import Image
from torch.nn import functional as F

import torchreid_nas
from torchreid_nas.errors import InputError
from torchreid_nas.features import FeatureExtractor, FeatureSet, UnreadableWarning, register_trained
from torchreid_nas.layers import modality_context
from torchreid_nas.models import cdnet_x0_25, two_stream_cdnet


@pytest.fixture(scope="module")
def extractor(trained):
    return FeatureExtractor(trained, "infrared", device="cpu", batch_size=5)


@pytest.fixture
def paths(infrared):
    return sorted(infrared.rglob("*.bmp"))[:7]


def by_hand(trained, paths, modality):
    """One image at a time through the model as it was trained, with NumPy around it."""
    features = []
    for path in paths:
        image = Image.open(path).convert("RGB").resize((trained.width, trained.height), Image.BILINEAR)
        pixels = (np.asarray(image, dtype=np.float32) / 255 - trained.norm_mean) / trained.norm_std
        batch = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
        with torch.no_grad():
            features.append(trained.model(batch, modality)[0])
    features = torch.stack(features)
    return features / features.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_features_are_those_of_the_model_asked_by_hand(modality, trained, paths):
    features = FeatureExtractor(trained, modality, device="cpu", batch_size=3)(paths)
    assert features.dtype == torch.float32 and features.shape == (7, 64)
    torch.testing.assert_close(features, by_hand(trained, paths, modality), rtol=1e-4, atol=2e-5)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(7))


def test_precision_is_exact_unless_asked_otherwise(trained, paths, extractor):
    half = FeatureExtractor(trained, "infrared", device="cpu", precision="bf16")(paths)
    assert extractor.network.dtype == torch.float32 and half.dtype == torch.float32
    assert 0 < (half - extractor(paths)).norm(dim=1).max() < 0.05
    with pytest.raises(InputError, match='precision "half" is unknown, expected one of fp32, bf16, auto'):
        FeatureExtractor(trained, "infrared", precision="half")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_module_of_another_dtype_is_computed_as_its_float32_copy(dtype, paths):
    model = cdnet_x0_25(3).to(dtype)
    size = {"device": "cpu", "height": 64, "width": 32}
    features = FeatureExtractor(model, **size)(paths)
    assert torch.equal(features, FeatureExtractor(copy.deepcopy(model).float(), **size)(paths))
    assert next(model.parameters()).dtype == dtype


def test_the_modalities_have_features_of_their_own(trained, paths, extractor):
    visible = FeatureExtractor(trained, "visible", device="cpu")(paths)
    assert (visible - extractor(paths)).abs().max() > 1e-3


def test_every_kind_of_source_gives_the_same(extractor, paths, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in paths:
        shutil.copy(path, folder)
    paths = sorted(paths, key=lambda path: path.name)
    expected = extractor(paths)
    sources = {
        "strings": list(map(str, paths)), "folder": folder, "images": [Image.open(path) for path in paths],
        "arrays": [np.asarray(Image.open(path).convert("RGB")) for path in paths],
        "generator": (path for path in paths),
    }
    for kind, source in sources.items():
        torch.testing.assert_close(extractor(source), expected, rtol=0, atol=0, msg=kind)
    torch.testing.assert_close(extractor(paths[2]), expected[2:3], rtol=1e-5, atol=1e-6)


def test_the_batch_size_changes_nothing(trained, extractor, paths):
    torch.testing.assert_close(
        FeatureExtractor(trained, "infrared", "cpu", 1)(paths), extractor(paths), rtol=1e-5, atol=1e-6
    )


def test_frames_of_a_video(extractor, video):
    features = extractor.extract(video, stride=2)
    assert features.paths == tuple(f"{video}#{number}" for number in (0, 2, 4, 6)) and features.labels == ("",) * 4
    assert features.features.shape == (4, 64)


def test_without_normalisation_lengths_differ(trained, extractor, paths):
    raw = FeatureExtractor(trained, "infrared", "cpu", normalize=False)(paths)
    assert (raw.norm(dim=1) - 1).abs().max() > 0.1
    torch.testing.assert_close(F.normalize(raw), extractor(paths), rtol=1e-5, atol=1e-6)


def test_a_run_by_its_folder_from_the_package(run_folder, extractor, paths):
    other = torchreid_nas.FeatureExtractor(str(run_folder), "infrared", "cpu", batch_size=5)
    torch.testing.assert_close(other(paths), extractor(paths), rtol=0, atol=0)


def test_a_module_with_its_own_size_and_normalisation(paths):
    torch.manual_seed(0)
    model = torchreid.models.build_model("osnet_x0_25", 4, pretrained=False).eval()
    extractor = FeatureExtractor(model, device="cpu", height=64, width=32, norm_mean=[0, 0, 0], norm_std=[1, 1, 1])
    image = Image.open(paths[0]).convert("RGB").resize((32, 64), Image.BILINEAR)
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = F.normalize(model(pixels))
    torch.testing.assert_close(extractor(paths[0]), expected, rtol=1e-4, atol=1e-5)
    assert FeatureExtractor(model, device="cpu").trained.height == 256


# -- unreadable images ----------------------------------------------------------


@pytest.fixture
def spoilt(paths, tmp_path):
    """Three good images and two that are none."""
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for path in paths[:3]:
        shutil.copy(path, folder)
    (folder / "0_truncated.bmp").write_bytes(paths[0].read_bytes()[:60])
    (folder / "z_page.jpg").write_bytes(b"<html></html>")
    return folder


def test_unreadable_images_among_good_ones_are_named_once_and_skipped(spoilt, paths, extractor):
    with pytest.warns(UnreadableWarning) as caught:
        features = extractor.extract(spoilt)
    message, = [str(warning.message) for warning in caught]
    assert "2 of the files" in message and "0_truncated.bmp" in message and "z_page.jpg" in message
    assert message.endswith("restore the file or unpack the data set again")
    good = sorted(paths[:3], key=lambda path: path.name)
    assert features.paths == tuple(str(spoilt / path.name) for path in good)
    torch.testing.assert_close(features.features, extractor(good), rtol=1e-5, atol=1e-6)


def test_good_images_alone_warn_of_nothing(paths, extractor):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extractor(paths)


def test_a_missing_path_in_a_list_is_skipped_like_a_broken_one(paths, extractor):
    with pytest.warns(UnreadableWarning, match="nowhere.bmp"):
        assert len(extractor([paths[0], "nowhere.bmp"])) == 1


def test_nothing_readable_is_an_error(spoilt, paths, extractor):
    for path in paths[:3]:
        (spoilt / path.name).unlink()
    with pytest.raises(InputError, match="none of the 2 files can be read.*0_truncated.bmp"):
        extractor(spoilt)
    with pytest.raises(InputError, match="z_page.jpg"):
        extractor(spoilt / "z_page.jpg")


def test_a_video_without_frames_is_an_error(tmp_path, extractor):
    (tmp_path / "empty.avi").write_bytes(b"RIFF")
    with pytest.raises(InputError, match="empty.avi.*no frame"):
        extractor(tmp_path / "empty.avi")


@pytest.mark.parametrize("options, words", [
    ({"modality": None}, "visible or infrared"),
    ({"modality": "thermal"}, '"thermal".*expected visible or infrared'),
    ({"modality": "visible", "batch_size": 0}, "batch size is 0"),
    ({"modality": "visible", "device": "gpu"}, '"gpu".*cpu'),
])
def test_bad_arguments(options, words, trained):
    with pytest.raises(InputError, match=words):
        FeatureExtractor(trained, **options)


def test_a_diverged_model_is_an_error_and_no_feature(trained, paths):
    model = copy.deepcopy(trained.model)
    next(model.parameters()).data.fill_(float("nan"))
    broken = FeatureExtractor(dataclasses.replace(trained, model=model), "visible", "cpu")
    with pytest.raises(InputError, match=f'not finite for "{paths[0]}".*diverged'):
        broken(paths)


# -- the file -------------------------------------------------------------------


def test_the_file_holds_features_paths_labels_and_model(extractor, infrared, run_folder, tmp_path):
    out = tmp_path / "deep" / "features.npz"
    features = extractor.extract_to(infrared, out)
    with np.load(out) as file:
        np.testing.assert_array_equal(file["features"], features.features.numpy())
        assert list(file["paths"]) == sorted(map(str, infrared.rglob("*.bmp"))) and len(file["paths"]) == 128
        assert [str(pid) for pid in file["pids"]] == [path.split("/")[-2] for path in file["paths"]]
        assert set(file["camids"]) == {-1} and str(file["modality"]) == "infrared"
        assert str(file["model"]) == str(run_folder)
    assert [path.name for path in out.parent.iterdir()] == ["features.npz"]
    loaded = FeatureSet.load(out)
    torch.testing.assert_close(loaded.features, features.features, rtol=0, atol=0)
    assert (loaded.paths, loaded.labels, loaded.model) == (features.paths, features.labels, features.model)
    assert FeatureSet.concatenate(loaded.blocks(50)).paths == loaded.paths


def test_cameras_and_identities_of_market1501(trained, data_root, tmp_path):
    features = FeatureExtractor(trained, "visible", "cpu").extract(next(data_root.rglob("query")))
    for path, label, camid, pid in zip(features.paths, features.labels, features.camids, features.pids):
        name = path.split("/")[-1]
        assert int(label) == pid == int(name[:4]) and camid == int(name[6]) - 1


def test_labels_that_are_no_pid_of_torchreids(make_set):
    labels = ["7", "alice", "", str(2**63 - 1), str(2**63), "20261128203000123456"]  # the last two ended in a traceback
    features = make_set(torch.eye(6), labels)
    assert features.pids.tolist() == [7, -1, -1, 2**63 - 1, -1, -1] and features.labels == tuple(labels)


def test_a_file_that_is_none_of_features(tmp_path, extractor, paths):
    for name, content in (("a.npz", b"PK\x03\x04 broken"), ("b.npz", b""), ("c.npz", b"text")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}.*extract them again"):
            FeatureSet.load(tmp_path / name)
    np.savez(tmp_path / "d.npz", features=np.zeros((2, 3)))
    with pytest.raises(InputError, match='no array "paths"'):
        FeatureSet.load(tmp_path / "d.npz")
    with pytest.raises(InputError, match="do not exist"):
        FeatureSet.load(tmp_path / "e.npz")
    with pytest.raises(InputError, match="features.pth.*ends with .npz"):
        extractor.extract_to(paths, tmp_path / "features.pth")


# -- torchreid's own extractor --------------------------------------------------


def torchreids(name, size, model_path="", verbose=False):
    return torchreid.utils.FeatureExtractor(
        name, model_path, image_size=size, device="cpu", verbose=verbose
    )


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_torchreids_extractor_with_a_registered_run(modality, run_folder, trained, paths, capsys):
    name = register_trained(run_folder, modality)
    assert name == f"{run_folder}:{modality}" == register_trained(run_folder, modality)
    extractor = torchreids(name, (trained.height, trained.width), verbose=True)
    assert "- params:" in capsys.readouterr().out
    features = F.normalize(extractor([str(path) for path in paths]))
    torch.testing.assert_close(features, by_hand(trained, paths, modality), rtol=1e-4, atol=2e-5)


def test_registering_needs_a_modality_and_a_free_name(run_folder):
    with pytest.raises(InputError, match="visible or infrared"):
        register_trained(run_folder)
    with pytest.raises(ValueError, match="osnet_x0_25"):
        register_trained(run_folder, "visible", name="osnet_x0_25")


def test_torchreids_extractor_with_a_registered_name_and_a_file_of_weights(paths, tmp_path):
    torch.manual_seed(1)
    model = cdnet_x0_25(5).eval()
    torch.save({"state_dict": model.state_dict(), "epoch": 1}, tmp_path / "model.pth")
    theirs = torchreids("cdnet_x0_25", (64, 32), str(tmp_path / "model.pth"), verbose=True)([str(p) for p in paths])
    ours = FeatureExtractor(model, device="cpu", height=64, width=32)(paths)
    torch.testing.assert_close(F.normalize(theirs), ours, rtol=1e-4, atol=2e-5)


def test_torchreids_extractor_needs_the_modality_of_a_two_stream_model(paths, tmp_path):
    torch.manual_seed(2)
    model = two_stream_cdnet(5, "split").eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
    theirs = torchreids("two_stream_cdnet", (64, 32), str(tmp_path / "model.pth"))
    with pytest.raises(InputError, match="modality_context"):
        theirs(str(paths[0]))
    with modality_context("infrared"):
        features = theirs(str(paths[0]))
    ours = FeatureExtractor(model, "infrared", device="cpu", height=64, width=32)(paths[0])
    torch.testing.assert_close(F.normalize(features), ours, rtol=1e-3, atol=5e-5)
