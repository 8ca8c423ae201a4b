"""Checkpoints of CDNet: every file of the authors' layout, ours, and weights to start from."""
from __future__ import annotations

import pytest
import torch
from recipe import recipe, recipe_state

from torchreid_nas.checkpoints.load import checkpoint_num_classes, load_authors_checkpoint, load_weights
from torchreid_nas.errors import InputError
from torchreid_nas.models import CDNet, cdnet, cnet
from torchreid_nas.models.cdnet_weights import authors_keys

IMAGES = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def authors_state() -> dict[str, torch.Tensor]:
    """A checkpoint as those for Market-1501, with ten identities."""
    return recipe_state("cdnet_fblneck")


@pytest.fixture
def model() -> CDNet:
    return cdnet(10)


def state_of(model: CDNet) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def unchanged(model: CDNet, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def in_authors_layout(model: CDNet) -> dict[str, torch.Tensor]:
    """A state dict of the authors for another architecture, stem or neck, by the recipe."""
    own = model.state_dict()
    return {theirs: recipe(theirs, own[key].shape) for key, theirs in authors_keys(model).items()}


# -- every file ---------------------------------------------------------------


def test_the_layout_is_the_authors_key_for_key(model, authors_state):
    assert set(authors_keys(model).values()) == set(authors_state)
    assert load_authors_checkpoint(model, authors_state) is model
    own = model.state_dict()
    for key, theirs in authors_keys(model).items():
        assert torch.equal(own[key], authors_state[theirs]), key


def test_step_counters_and_the_prefix_of_data_parallel_do_not_matter(model, authors_state):
    counters = {
        key.replace("running_mean", "num_batches_tracked"): torch.tensor(7)
        for key in authors_state if key.endswith("running_mean")
    }
    prefixed = {f"module.{key}": value for key, value in {**authors_state, **counters}.items()}
    load_authors_checkpoint(model, prefixed)
    assert torch.equal(model.backbone.stem.conv.weight, authors_state["base.stem.conv1.op.0.weight"])


def test_blocks_of_cnet_have_no_series_around_them(tmp_path):
    model = cnet(10)
    state = in_authors_layout(model)
    assert "base.cells.0.squeeze.op.0.weight" in state and not any(".ops." in key for key in state)
    torch.save(state, tmp_path / "cnet.pth")
    load_authors_checkpoint(model, tmp_path / "cnet.pth")
    assert torch.equal(model.backbone.stage1[0][0].reduce.conv.weight, state["base.cells.0.squeeze.op.0.weight"])
    assert torch.equal(model.backbone.stage3[1][0].expand.bn.bias, state["base.cells.7.restore.op.1.bias"])


@pytest.mark.parametrize("names", [("neck.global_fcs.", "neck.global_classifier."), ("neck.fcs.", "neck.classifier.")])
def test_a_checkpoint_with_the_global_neck_only_fits_blneck(authors_state, names):
    """The ImageNet files name the branch as FBLNeck does, the authors' BLNeck without a prefix."""
    state = {}
    for key, value in authors_state.items():
        if key.startswith("neck.global"):
            state[key.replace("neck.global_fcs.", names[0]).replace("neck.global_classifier.", names[1])] = value
        elif key.startswith("base."):
            state[key] = value
    model = load_authors_checkpoint(cdnet(10, neck="blneck", dropout=0.0), state).eval()
    whole = load_authors_checkpoint(cdnet(10, dropout=0.0), authors_state).eval()
    with torch.no_grad():
        torch.testing.assert_close(model(IMAGES), whole(IMAGES)[:, :512])
    assert torch.equal(model.neck.global_branch.classifier.weight, authors_state["neck.global_classifier.weight"])


def test_a_checkpoint_for_cifar_has_another_stem():
    model = cdnet(100, small_images=True)
    state = in_authors_layout(model)
    assert state["base.stem.conv1.op.0.weight"].shape == (64, 3, 3, 3)
    load_authors_checkpoint(model, state)
    with pytest.raises(InputError, match=r"\(64, 3, 3, 3\), the model expects \(64, 3, 7, 7\).*small_images=True"):
        load_authors_checkpoint(cdnet(100), state)


# -- wrong files --------------------------------------------------------------


@pytest.mark.parametrize(("build", "message"), [
    (lambda: cdnet(9), r'\(10, 512\), the model expects \(9, 512\); build the model with that number of identities'),
    (lambda: cdnet(10, neck="blneck"), 'also has "neck.local_classifier.bias", which this model lacks'),
    (lambda: cnet(10), 'has no "base.cells.0.squeeze.op.0.weight"; expected a CDNet of this architecture with FBLNeck'),
    (lambda: cdnet(10, width=0.5), 'base.stem.conv1.op.0.weight" has shape'),
    (lambda: torch.nn.Linear(2, 2), "no authors' layout is known for Linear"),
])
def test_a_checkpoint_of_another_model_is_one_sentence_and_changes_nothing(build, message, authors_state):
    model = build()
    before = state_of(model)
    with pytest.raises(InputError, match=message):
        load_authors_checkpoint(model, authors_state)
    assert unchanged(model, before)


def test_a_global_neck_alone_is_no_fblneck(model, authors_state):
    state = {key: value for key, value in authors_state.items() if "local" not in key and "neck.squeeze" not in key}
    with pytest.raises(InputError, match='has no "neck.squeeze.weight"; expected .* with FBLNeck'):
        load_authors_checkpoint(model, state)


# -- ours ---------------------------------------------------------------------


def test_load_weights_and_the_number_of_classes_of_both_formats(tmp_path, model, authors_state):
    torch.save(authors_state, tmp_path / "theirs.pth")
    assert checkpoint_num_classes(tmp_path / "theirs.pth") == 10
    load_weights(model, tmp_path / "theirs.pth")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "ours.pth")
    assert checkpoint_num_classes(tmp_path / "ours.pth") == 10
    again, other = cdnet(10), cdnet(4)
    assert unchanged(load_weights(again, tmp_path / "ours.pth"), model.state_dict())
    load_weights(other, tmp_path / "ours.pth")
    assert other.neck.global_branch.classifier.weight.shape == (4, 512)
    with torch.no_grad():
        assert torch.equal(other.eval()(IMAGES), model.eval()(IMAGES))


# -- weights to start from ----------------------------------------------------


def test_pretrained_takes_the_backbone_and_what_of_the_neck_fits(tmp_path, authors_state):
    """As from an ImageNet file: no local branch, another number of classes."""
    state = {key: value for key, value in authors_state.items() if "local" not in key and "neck.squeeze" not in key}
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "imagenet.pth")
    torch.manual_seed(3)
    model = cdnet(4, pretrained=tmp_path / "imagenet.pth")
    torch.manual_seed(3)
    fresh = cdnet(4).state_dict()
    theirs = authors_keys(model)
    for key, value in model.state_dict().items():
        loaded = key in theirs and (key.startswith("backbone.") or key.startswith("neck.global_branch.fc."))
        assert torch.equal(value, state[theirs[key]] if loaded else fresh[key]), key


def test_pretrained_reads_our_layout_with_and_without_its_wrapper(tmp_path, model):
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "wrapped.pth")
    for name in ("plain", "wrapped"):
        assert unchanged(cdnet(10, pretrained=str(tmp_path / f"{name}.pth")), model.state_dict())


@pytest.mark.parametrize(("options", "message"), [
    ({"width": 0.5}, r'"backbone.stem.conv.weight" is \(64, 3, 7, 7\), expected \(32, 3, 7, 7\); build the model with'),
    ({"architecture": "cnet"}, r'"backbone.stage1.0.0.reduce.conv.weight" is missing; build the model with'),
    ({"architecture": ["3,5x1"] * 6}, 'do not fit this CDNet, which has no "ba'),
])
def test_pretrained_of_another_backbone_is_one_sentence(tmp_path, authors_state, options, message):
    torch.save(authors_state, tmp_path / "weights.pth")
    with pytest.raises(InputError, match=message) as error:
        cdnet(10, pretrained=tmp_path / "weights.pth", **options)
    assert str(tmp_path / "weights.pth") in str(error.value)


def test_pretrained_without_a_state_dict_says_so(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        cdnet(10, pretrained=tmp_path / "list.pth")
