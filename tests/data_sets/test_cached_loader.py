"""CachedLoader and the managers that use it: the plain loader's batches, without its work."""
from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image

from torchreid_nas.data import CrossModalityDataManager, DomainAdaptationDataManager, IdentityDataManager, cache, decoded_sets
from torchreid_nas.data.cached_loader import CachedLoader
from torchreid_nas.data.camstyle import Style
from torchreid_nas.data.manager import ImageLoader
from torchreid_nas.errors import InputError

MANAGERS = {
    "cross-modality": (CrossModalityDataManager, {"sources": "regdb"}),
    "identity": (IdentityDataManager, {"sources": "market1501", "targets": ["market1501"]}),
    "adaptation": (
        DomainAdaptationDataManager,
        {"sources": "dukemtmcreid", "targets": ["market1501"], "load_train_targets": ["market1501"]},
    ),
}


ECN = ["random_sized_rect_crop", "random_flip", "random_erase"]


@pytest.fixture
def make(data_root, tmp_path):
    def make(kind="cross-modality", **options):
        manager, own = MANAGERS[kind]
        small = {"height": 24, "width": 12, "batch_size_train": 8, "batch_size_test": 5, "num_instances": 2, "workers": 0}
        return manager(str(data_root), **{**own, **small, "cache_dir": str(tmp_path / "cache"), **options})

    return make


def seeded(loader, seed=0):
    """The batches of a pass that starts from a seed."""
    random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(seed)
    return list(loader)


def assert_same(ours, plain):
    assert len(ours) == len(plain) > 0
    for a, b in zip(ours, plain):
        assert list(a) == list(b) and a["impath"] == b["impath"]
        for key in set(a) - {"impath"}:
            assert a[key].dtype == b[key].dtype and torch.equal(a[key], b[key])


@pytest.mark.parametrize("name", ["bicubic", "lanczos"])
def test_other_filters_are_the_plain_pipelines_to_the_bit(make, name):
    ours, plain = (make(transforms=None, interpolation=name, cache=cache) for cache in ("on", "off"))
    bilinear = make(transforms=None, cache="on")
    found, other = (seeded(manager.test_loader["regdb"]["query"]) for manager in (ours, bilinear))
    assert_same(found, seeded(plain.test_loader["regdb"]["query"]))
    # Each filter has a file of decoded images of its own.
    assert not torch.equal(found[0]["img"], other[0]["img"])
    cut, *rest = (make(transforms=ECN, interpolation=name, cache=cache) for cache in ("on", "off"))
    assert {batch["img"].shape for manager in (cut, *rest) for batch in seeded(manager.train_loader)} == {(8, 3, 24, 12)}
    assert cut.train_loader._reader._interpolation == name


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", MANAGERS)
def test_batches_are_the_plain_pipelines_to_the_bit(make, kind, channels_last):
    ours = make(kind, transforms=None, holdout=0.25, channels_last=channels_last)
    plain = make(kind, transforms=None, holdout=0.25, cache="off")
    for name in ours.targets:
        for part in ("query", "gallery"):
            assert_same(seeded(ours.test_loader[name][part]), seeded(plain.test_loader[name][part]))
            assert_same(seeded(ours.validation_loader[part]), seeded(plain.validation_loader[part]))
    loaders = [(ours.train_loader, plain.train_loader)]
    if kind == "adaptation":
        loaders += [(ours.train_loader_t, plain.train_loader_t), (ours.target_images(), plain.target_images())]
    else:
        loaders += zip(ours.search_split()[:2], plain.search_split()[:2])
    for loader, other in loaders:
        assert isinstance(loader, CachedLoader) and type(other) is ImageLoader and len(loader) == len(other)
        batches = seeded(loader)
        assert_same(batches, seeded(other))
        assert batches[0]["img"].is_contiguous() != channels_last
        assert batches[0]["img"].is_contiguous(memory_format=torch.channels_last) == channels_last


@pytest.mark.parametrize("transforms", [["pad_crop", "random_crop", "random_flip", "random_erase"], ECN])
def test_a_pass_depends_on_the_seed_at_its_start_alone(make, transforms):
    loader = make(transforms=transforms).train_loader
    first = seeded(loader)
    torch.manual_seed(0)
    loader.sampler.set_epoch(0)
    for batch, again in zip(loader, first):
        torch.rand(17), torch.seed()
        assert torch.equal(batch["img"], again["img"])
    other = seeded(loader, seed=1)
    assert not torch.equal(other[0]["img"], first[0]["img"])


@pytest.mark.parametrize("kind", ["cross-modality", "identity", "adaptation"])
def test_rectangles_are_cut_from_the_stored_images(make, kind):
    manager = make(kind, transforms=ECN, cache="on")
    batches, plain = seeded(manager.train_loader), make(kind, transforms=ECN, cache="off").train_loader
    assert isinstance(manager.train_loader, CachedLoader) and type(plain) is ImageLoader
    # Same images in the same order; flipped, cut and erased otherwise, but of the same colours.
    means = []
    for ours, theirs in zip(batches, seeded(plain)):
        assert list(ours) == list(theirs) and ours["impath"] == theirs["impath"]
        assert ours["img"].shape == theirs["img"].shape and not torch.equal(ours["img"], theirs["img"])
        means.append(torch.stack([batch["img"].mean((2, 3)).flatten() for batch in (ours, theirs)]))
    assert np.corrcoef(torch.cat(means, dim=1).numpy())[0, 1] > 0.8


@pytest.mark.parametrize("camstyle", ["statistics", "fourier"])
def test_a_target_in_styles_comes_as_from_the_plain_loader(make, camstyle):
    manager = make("adaptation", camstyle=camstyle, transforms=None, cache="on")
    plain = make("adaptation", camstyle=camstyle, transforms=None, cache="off").train_loader_t
    loader = manager.train_loader_t
    assert isinstance(loader, CachedLoader) and type(plain) is ImageLoader and len(loader) == len(plain)
    batches, transform = seeded(loader), manager.trainset_t.transform
    for ours, theirs in zip(batches, seeded(plain)):
        assert list(ours) == list(theirs) and ours["impath"] == theirs["impath"]
        for key in set(ours) - {"img", "impath", "style_camid"}:
            assert ours[key].dtype == theirs[key].dtype and torch.equal(ours[key], theirs[key])
        assert ours["style_camid"].dtype == theirs["style_camid"].dtype
        for image, index, camid in zip(ours["img"], ours["index"].tolist(), ours["style_camid"].tolist()):
            same = torch.equal(image, transform(Image.fromarray(loader.dataset.pixels(index, Style(camid)))))
            # Of Fourier styles the reference was drawn as well.
            assert same or camstyle == "fourier" and camid != loader.dataset.data[index][2]
    own = torch.cat([batch["style_camid"] == batch["camid"] for batch in batches])
    assert 0 < own.sum() < len(own)


def test_a_pass_in_styles_depends_on_the_seed_at_its_start_alone(make):
    loader = make("adaptation", camstyle="fourier", transforms=ECN).train_loader_t
    first, again, other = seeded(loader), seeded(loader), seeded(loader, seed=1)
    assert_same(first, again)
    assert [batch["style_camid"].tolist() for batch in first] != [batch["style_camid"].tolist() for batch in other]


def test_memory_is_lent_again_only_when_nobody_holds_it(make):
    loader = make().train_loader
    held = [batch["img"] for batch in seeded(loader)]
    views = [batch["img"].chunk(2)[1] for batch in seeded(loader)]
    arrays = [batch["img"].numpy()[:2] for batch in seeded(loader)]
    copies = []
    places = set()
    torch.manual_seed(0)
    loader.sampler.set_epoch(0)
    for batch in loader:
        copies.append(batch["img"].clone())
        places.add(batch["img"].data_ptr())
    for image, view, array, copy in zip(held, views, arrays, copies):
        assert torch.equal(image, copy) and torch.equal(view, copy.chunk(2)[1])
        assert torch.equal(torch.from_numpy(array), copy[:2])
    assert len(places) < len(copies)


def test_what_autograd_saved_is_not_overwritten(make):
    loader = make().train_loader
    weight = torch.ones(8, 3, 24, 12, requires_grad=True)
    products = [(batch["img"] * weight).sum() for batch in seeded(loader)]
    for batch, product in zip(seeded(loader), products):
        assert torch.equal(torch.autograd.grad(product, weight)[0], batch["img"])


def test_a_pass_may_be_left_and_begun_anew(make):
    loader = make().train_loader
    for _ in loader:
        break
    assert len(seeded(loader)) == len(loader)
    assert len(seeded(make(num_batches=1).train_loader)) == 1


def test_images_are_decoded_when_first_asked_for(make, monkeypatch, tmp_path):
    manager = make()
    manager.summary()
    assert not (tmp_path / "cache").exists()
    next(iter(manager.train_loader))
    monkeypatch.setattr(cache, "read_image", None)
    # Queries, galleries, the other direction and the other trials are all of the same small set.
    for other in (manager, make(targets=["regdb_ir2vis"], split_id=1)):
        for loaders in other.test_loader.values():
            assert all(len(list(loader)) for loader in loaders.values())
        next(iter(other.train_loader))


def test_a_large_data_set_is_decoded_in_parts(make, monkeypatch, tmp_path):
    monkeypatch.setattr(decoded_sets, "_WHOLE", 0)
    loaders = make("identity")
    next(iter(loaders.train_loader))
    (file,) = (tmp_path / "cache").glob("[!.]*.npy")
    assert len(np.load(file, mmap_mode="r")) == len(loaders.trainset.train)
    list(loaders.test_loader["market1501"]["query"])
    assert len(list((tmp_path / "cache").glob("[!.]*.npy"))) == 2


def test_what_has_no_batched_form_stays_plain_and_says_so(make):
    manager = make(transforms=["random_patch", "random_flip"])
    assert type(manager.train_loader) is ImageLoader
    assert all(isinstance(loader, CachedLoader) for loader in manager.test_loader["regdb"].values())
    assert manager.summary().splitlines()[-1].startswith("training images are decoded for every batch")
    assert all("decoded" not in make(**options).summary() for options in ({}, {"cache": "off"}, {"transforms": ECN}))
    with pytest.raises(InputError, match="data.cache is on and .*random_patch.* has no batched form; .* leave random_patch"):
        make(cache="on", transforms=["random_sized_rect_crop", "random_patch"])
    with pytest.raises(InputError, match='data.cache is "onn", expected one of auto, on, off; did you mean "on"'):
        make(cache="onn")


def test_a_styled_target_without_a_batched_form_stays_plain_too(make):
    manager = make("adaptation", camstyle="statistics", transforms=["color_jitter"])
    assert type(manager.train_loader_t) is ImageLoader and isinstance(manager.target_images(), CachedLoader)
    assert "decoded for every batch" in manager.summary()


@pytest.mark.gpu
def test_batches_come_on_the_gpu(make):
    ours, plain = make(transforms=None, use_gpu=True, device="cuda"), make(transforms=None, cache="off")
    for batch, other in zip(seeded(ours.train_loader), seeded(plain.train_loader)):
        assert batch["img"].is_cuda and not batch["pid"].is_cuda and torch.equal(batch["img"].cpu(), other["img"])
