"""Architectures of CDNet's spaces: candidates in the authors' order, published genotypes, files, faults."""
from __future__ import annotations

import json
import re

import pytest

from torchreid_nas.architecture import Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import BLOCK_SLOTS, CANDIDATES, COMBINED_DEPTH_SPACE, COMBINED_SPACE, candidate_kernels

CDNET = [[3, 5, 1], [3, 7, 2], [5, 7, 2], [5, 9, 1], [5, 7, 2], [5, 7, 1]]
CNET = [[5, 7], [7, 9], [7, 9], [7, 9], [7, 9], [3, 5]]
# The candidates by genotype id as the authors' files have them.
AUTHORS_IDS = [
    (3, 5, 1), (3, 7, 1), (5, 7, 1), (3, 5, 2), (3, 7, 2), (5, 7, 2),
    (3, 9, 1), (5, 9, 1), (7, 9, 1), (3, 9, 2), (5, 9, 2), (7, 9, 2),
]


def test_candidates_are_in_the_order_of_the_authors_ids():
    assert [candidate_kernels(choice) for choice in CANDIDATES[COMBINED_DEPTH_SPACE]] == AUTHORS_IDS
    assert [candidate_kernels(choice) for choice in CANDIDATES[COMBINED_SPACE]] == [
        kernels for kernels in AUTHORS_IDS if kernels[2] == 1
    ]


@pytest.mark.parametrize(("name", "space", "layers"), [
    ("cdnet", COMBINED_DEPTH_SPACE, CDNET), ("cnet", COMBINED_SPACE, CNET),
])
def test_the_published_genotypes(name, space, layers):
    architecture = Architecture.genotype(name)
    assert architecture.space == space and architecture.slots == BLOCK_SLOTS
    assert architecture.to_layers() == layers
    assert architecture == Architecture.from_layers(layers) == Architecture.genotype(layers)
    assert architecture.source == {"preset": name}


def test_printing_names_space_slots_and_choices():
    assert str(Architecture.genotype("cnet")).startswith("combined: stage1.0=5,7, stage1.1=7,9")


def test_every_way_to_name_one_gives_the_same(tmp_path):
    architecture = Architecture.genotype("cdnet")
    architecture.save(tmp_path / "ours.json")
    architecture.export(tmp_path / "theirs.json")
    names = [choice for _, choice in architecture.choices]
    for spec in (architecture, CDNET, names, tmp_path / "ours.json", str(tmp_path / "theirs.json")):
        assert Architecture.genotype(spec) == architecture
    assert Architecture.load(tmp_path / "ours.json").source == {"preset": "cdnet"}


def test_the_authors_json_keeps_its_logits_in_the_source(tmp_path):
    path = tmp_path / "best_genotype.json"
    alphas = [[0.1] * 12 for _ in range(6)]
    path.write_text(json.dumps({"layers": CDNET, "alphas1": alphas}))
    architecture = Architecture.load(path)
    assert architecture == Architecture.genotype("cdnet")
    assert architecture.source == {"file": str(path), "alphas": alphas}


@pytest.mark.parametrize(("layers", "message"), [
    ([*CDNET[:5], [5, 8, 1]], '"stage3.1" has the unknown candidate "5,8x1", expected one of .*mean "5,[79]x1"'),
    ([*CDNET[:5], [7, 5, 1]], '"stage3.1" has the unknown candidate "7,5x1"'),
    ([*CDNET[:5], [5, 7, 3]], '"stage3.1" has the unknown candidate "5,7x3".*mean "5,7x'),
    ([*CDNET[:5], [5, 7]], '"stage3.1" has the unknown candidate "5,7",'),
    ([*CNET[:5], 3], '"stage3.1" has the unknown candidate "3",'),
    (CDNET[:5], "names 6 blocks, two for each of three stages, got 5 blocks"),
    ([], "got 0 blocks"),
    ("cdnet", "got 'cdnet'"),
    (6, "got 6"),
])
def test_a_genotype_that_is_none_is_one_sentence_with_and_without_a_file(tmp_path, layers, message):
    with pytest.raises(InputError, match=message):
        Architecture.from_layers(layers)
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"layers": layers}))
    with pytest.raises(InputError, match=message) as error:
        Architecture.genotype(path)
    assert str(error.value).startswith(f'the architecture file "{path}": ')


def changed(**changes) -> Architecture:
    choices = dict(Architecture.genotype("cdnet").choices)
    return Architecture(changes.pop("space", COMBINED_DEPTH_SPACE), tuple({**choices, **changes}.items()))


@pytest.mark.parametrize(("spec", "message"), [
    ("cdnt", 'architecture "cdnt" is neither a file nor a preset (cdnet, cnet); did you mean "cdnet"?'),
    ("split", 'architecture "split" is neither a file nor a preset'),
    ("runs/found.json", "cannot be read"),
    (changed(space="norm_split"), 'is of the space "norm_split", expected "combined_depth" or "combined"'),
    (changed(**{"stage4.0": "3,5x1"}), "names 7 blocks, expected 6"),
    (changed(**{"stage2.1": "5,9x4"}), 'the architecture: "stage2.1" has the unknown candidate "5,9x4"'),
    (Architecture("combined", tuple((f"b{i}", "3,5") for i in range(6))), 'names the block "b0" where "stage1.0"'),
])
def test_a_spec_that_does_not_fit_is_one_sentence(spec, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Architecture.genotype(spec)


def test_a_file_of_ours_with_an_unknown_candidate_is_named(tmp_path):
    path = tmp_path / "architecture.json"
    changed(**{"stage1.0": "3,5"}).save(path)
    with pytest.raises(InputError, match=f'{path}": "stage1.0" has the unknown candidate "3,5".*mean "3,5x'):
        Architecture.load(path)


def test_an_architecture_of_the_blocks_is_none_for_batchnorms_and_the_other_way_round(tmp_path):
    with pytest.raises(InputError, match='of the space "combined_depth", expected "norm_split"'):
        Architecture.resolve(Architecture.genotype("cdnet"), BLOCK_SLOTS)
    with pytest.raises(InputError, match="exist for CDNet only"):
        Architecture.preset("split", BLOCK_SLOTS).to_layers()
    path = tmp_path / "bn.cfg"
    Architecture.from_ints([1] * 53).export(path)
    with pytest.raises(InputError, match='is of the space "norm_split"'):
        Architecture.genotype(path)


def test_an_unknown_candidate_alone_names_the_nearest():
    with pytest.raises(InputError, match='"3,5x9" is unknown.*mean "3,5x'):
        candidate_kernels("3,5x9")
