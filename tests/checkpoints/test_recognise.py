"""What checkpoints of the authors show of themselves, and their conversion."""
from __future__ import annotations

import numpy as np
import pytest
import torch
from recipe import recipe_state
from zoo.authors import authors_cdnet, authors_resnet18, released, trained_cmnas

from torchreid_nas.architecture import Architecture
from torchreid_nas.checkpoints.load import load_authors_checkpoint, load_weights
from torchreid_nas.checkpoints.recognise import recognise
from torchreid_nas.errors import InputError
from torchreid_nas.models import cdnet, cnet, two_stream_resnet50
from torchreid_nas.zoo.convert import convert

GENOTYPE = ["7,9x2", "3,5x1", "3,9x1", "5,9x2", "3,7x1", "7,9x1"]
IMAGES = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def saved(tmp_path, content, name="authors.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


# -- CDNet --------------------------------------------------------------------


@pytest.mark.parametrize(("build", "model", "options"), [
    (lambda: cdnet(10), "cdnet", {"neck": "fblneck"}),
    (lambda: cnet(10), "cnet", {"neck": "fblneck"}),
    (lambda: cdnet(10, neck="blneck"), "cdnet", {"neck": "blneck"}),
    (lambda: cdnet(10, small_images=True), "cdnet", {"neck": "fblneck", "small_images": True}),
    (lambda: cdnet(10, width=0.5), "cdnet", {"neck": "fblneck", "width": 0.5}),
    (lambda: cdnet(10, architecture=GENOTYPE), "cdnet", {"neck": "fblneck"}),
])
def test_a_file_of_the_cdnet_authors_shows_all_that_builds_it(tmp_path, build, model, options):
    network = build()
    found = recognise(saved(tmp_path, {f"module.{k}": v for k, v in authors_cdnet(network).items()}))
    assert (found.format, found.model, found.num_classes) == ("cdnet_authors", model, 10)
    assert dict(found.options) == options and found.architecture == network.architecture


def test_a_cdnet_is_converted_into_our_layout_with_the_same_features(tmp_path):
    path = saved(tmp_path, recipe_state("cdnet_fblneck"), "cdnet_top2.pth")
    done = convert(path)
    assert done.weights == tmp_path / "cdnet_top2_converted.pth" and done.model == "cdnet"
    assert Architecture.load(done.architecture_file) == Architecture.genotype("cdnet")
    theirs, ours = cdnet(10), cdnet(10, architecture=done.architecture_file)
    load_authors_checkpoint(theirs, path)
    load_weights(ours, done.weights)
    with torch.no_grad():
        assert torch.equal(theirs.eval()(IMAGES), ours.eval()(IMAGES))
    with pytest.raises(InputError, match="in the layout of this package already"):
        convert(done.weights)
    with pytest.raises(InputError, match="exists already"):
        convert(path)


# -- CM-NAS -------------------------------------------------------------------


def test_what_training_left_alone_shows_the_architecture_of_cmnas(tmp_path):
    slots = Architecture.from_ints([1] * 20).slots
    architecture = Architecture.preset("random-3", slots)
    state = authors_resnet18(num_classes=6, width=0.25)
    found = recognise(saved(tmp_path, released(trained_cmnas(state, architecture))))
    assert found.model == "two_stream_resnet18" and found.num_classes == 6 and dict(found.options) == {"width": 0.25}
    assert found.architecture == architecture
    # The recipe's own weights are all different and all untouched: nothing can be told, and nothing is guessed.
    assert recognise(saved(tmp_path, state)).architecture is None
    with pytest.raises(InputError, match="does not show which BatchNorms it splits.*--architecture config.cfg"):
        convert(tmp_path / "authors.pth")
    # Nor where every counter stands at 0: the shared BatchNorm has seen no batch, but neither has any other.
    counters = {key: value * 0 for key, value in trained_cmnas(state, architecture).items() if key.endswith("_tracked")}
    assert recognise(saved(tmp_path, {**state, **counters})).architecture is None


def test_the_golden_network_is_converted_and_gives_the_authors_features(tmp_path, golden):
    numbers = golden("two_stream_resnet50")
    expected = Architecture.from_ints(numbers["config"])
    state = recipe_state("two_stream_resnet50")
    path = saved(tmp_path, released(state), "checkpoint120.pth.tar")
    (tmp_path / "config.cfg").write_text(" ".join(map(str, numbers["config"].tolist())))
    done = convert(path, architecture=str(tmp_path / "config.cfg"), output=tmp_path / "ours.pth")
    assert done.architecture == expected == Architecture.load(tmp_path / "ours_architecture.json")
    model = two_stream_resnet50(10, done.architecture_file, pretrained=False)
    load_weights(model, done.weights).eval()
    with torch.no_grad():
        features = model.features(torch.from_numpy(numbers["x_infrared"]), "infrared")[1].numpy()
    wanted = numbers["eval_infrared_bn"]
    np.testing.assert_allclose(features, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    # The same weights with the marks of training show the same architecture without a file beside them.
    assert recognise(saved(tmp_path, trained_cmnas(state, expected))).architecture == expected


# -- what is refused ----------------------------------------------------------


@pytest.mark.parametrize(("content", "says"), [
    ({"conv.weight": torch.zeros(2, 2)}, 'has a layout that is not known (it has "conv.weight")'),
    ([1, 2], "holds no state dict (it holds a list)"),
    ({"base.cells.0.conv1.0.op.0.weight": torch.zeros(1)}, "has not the stem and the 6 blocks of one"),
    ({"backbone.bn1.sharable_bn.weight": torch.zeros(64)}, "has 1 BatchNorm slots; expected 20 or 53"),
    ({"state_dict": {"conv.weight": torch.zeros(2, 2)}}, "is in the layout of this package already"),
])
def test_an_unknown_layout_is_one_sentence(tmp_path, content, says):
    path = saved(tmp_path, content)
    with pytest.raises(InputError) as error:
        convert(path)
    assert says in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["authors.pth"]


@pytest.mark.parametrize(("options", "says"), [
    ({"model": "osnet_x1_0"}, "is of a cdnet, not of a osnet_x1_0; leave out --model"),
    ({"model": "cdnt"}, 'unknown to torchreid; did you mean "cdnet"?'),
    ({"architecture": "cnet"}, "expected a CDNet of this architecture"),
    ({"weights": "emma"}, 'did you mean "ema"?'),
])
def test_what_does_not_fit_the_file_writes_nothing(tmp_path, options, says):
    path = saved(tmp_path, recipe_state("cdnet_fblneck"))
    with pytest.raises(InputError) as error:
        convert(path, **options)
    assert says in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["authors.pth"]


def test_a_truncated_file_is_named(tmp_path):
    path = saved(tmp_path, recipe_state("cdnet_fblneck"))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="truncated, damaged or no PyTorch file"):
        convert(path)
