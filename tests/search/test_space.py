"""SearchSpace: the registry of the spaces, and what every one of them owns."""
from __future__ import annotations

import pytest
from histories import RESNET18, RESNET50, search
from torch import nn

from torchreid_nas import report
from torchreid_nas.architecture import Architecture
from torchreid_nas.architecture_format import ArchitectureFormat
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import BLOCK_SLOTS
from torchreid_nas.search import SPACES, BNSplitSpace, CombinedDepthSpace, SearchSpace, draw_architecture, register_space


def genotype_history(architecture):
    """Two epochs in which every candidate is as likely as the others."""
    names = ("3,5", "3,7", "5,7", "3,9", "5,9", "7,9")
    row = {slot: dict.fromkeys(names, 1 / 6) for slot in architecture.slots}
    return [{"epoch": epoch, "architecture": 1.0, "probabilities": row} for epoch in (1, 2)]


def test_an_architecture_is_drawn_as_its_space_draws_it(tmp_path):
    dispatched, own = tmp_path / "dispatched.png", tmp_path / "own.png"
    network = {"height": 64, "width": 32, "neck": "blneck"}
    # Callers say which network they have without knowing which space's picture draws it.
    draw_architecture(*search(RESNET18, 2, 0), dispatched, **network)
    report.draw_bn_split(*search(RESNET18, 2, 0), own)
    assert dispatched.read_bytes() == own.read_bytes()
    architecture = Architecture.genotype("cnet")
    draw_architecture(genotype_history(architecture), architecture, dispatched, **network)
    report.draw_genotype(genotype_history(architecture), architecture, own, **network)
    assert dispatched.read_bytes() == own.read_bytes()


def test_an_architecture_of_an_unknown_space_cannot_be_drawn(tmp_path):
    history, architecture = search(RESNET18, 2, 0)
    stranger = Architecture("norm_splits", architecture.choices)
    with pytest.raises(InputError, match='space "norm_splits" is unknown, expected one of .*register_space.*mean "norm_split"'):
        draw_architecture(history, stranger, tmp_path / "architecture.png")
    assert list(tmp_path.iterdir()) == []


def test_every_space_reads_and_describes_its_own_architectures():
    assert BNSplitSpace.read("first-1", RESNET18) == Architecture.preset("first-1", RESNET18)
    assert BNSplitSpace.describe(Architecture.preset("first-1", RESNET18)) == "1 of 20 norms split: bn1"
    assert CombinedDepthSpace.read("cdnet", BLOCK_SLOTS) == Architecture.genotype("cdnet")
    with pytest.raises(InputError, match='space "combined", expected "combined_depth"'):
        CombinedDepthSpace.read(Architecture.genotype("cnet"), BLOCK_SLOTS)


@pytest.mark.parametrize(("space", "architecture", "expected"), [
    ("norm_split", Architecture.preset("share", RESNET50), "1 " * 52 + "1\n"),
    ("norm_split", Architecture.preset("share", RESNET50[:5]), None),
    ("combined", Architecture.genotype("cnet"), '{\n  "layers": [\n    [\n      5,\n      7\n    ],\n'),
])
def test_every_space_writes_its_authors_file_where_there_is_one(tmp_path, space, architecture, expected):
    path = tmp_path / "architecture.cfg"
    assert SPACES[space].export(architecture, path) == (expected is not None)
    assert path.exists() == (expected is not None)
    assert expected is None or path.read_text().startswith(expected)


def test_a_space_of_a_name_that_is_taken_is_refused():
    class Other(SearchSpace):
        format = ArchitectureFormat("norm_split")

    with pytest.raises(ValueError, match='there is another search space "norm_split"'):
        register_space(Other)
    assert SPACES["norm_split"] is BNSplitSpace


def test_a_space_without_costs_refuses_a_budget():
    class Other(BNSplitSpace):
        pass

    with pytest.raises(InputError, match="search.budget.macs is set and the space norm_split has no such budget"):
        Other().set_budget(None, "macs", 1.0)


def test_a_space_that_lacks_a_method_is_refused_with_its_name():
    class Half(SearchSpace):
        format = ArchitectureFormat("half")

        def build_supernet(self, model):
            return model

    with pytest.raises(TypeError, match="Half.*architecture_parameters"):
        Half()


def test_a_model_without_a_backbone_is_refused():
    for space in (BNSplitSpace(), CombinedDepthSpace()):
        with pytest.raises(InputError, match="Linear has no `backbone` to search"):
            space.build_supernet(nn.Linear(2, 2))
