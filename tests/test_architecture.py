"""Architecture: presets, files of ours and of the authors, and what a wrong one says."""
from __future__ import annotations

import json

import pytest
import torchreid

from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture, authors_slots
from torchreid_nas.errors import InputError
from torchreid_nas.layers import bn_slots

SLOTS = ("stem", "a.bn", "b.bn", "head")


def choices_of(preset: str) -> str:
    """The choices of a preset for SLOTS as one word, S for split and . for share."""
    return "".join("S" if choice == SPLIT else "." for _, choice in Architecture.preset(preset, SLOTS).choices)


@pytest.fixture(scope="module")
def resnet50_slots() -> tuple[str, ...]:
    return bn_slots(torchreid.models.resnet50(num_classes=1, pretrained=False))


# -- presets ------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "expected"), [
    ("share", "...."), ("split", "SSSS"),
    ("first-0", "...."), ("first-1", "S..."), ("first-3", "SSS."), ("first-4", "SSSS"),
    ("last-0", "...."), ("last-1", "...S"), ("last-3", ".SSS"), ("last-4", "SSSS"),
])
def test_presets_split_the_slots_that_their_names_say(preset, expected):
    assert choices_of(preset) == expected


def test_a_preset_keeps_the_slots_in_order_and_says_where_it_came_from():
    architecture = Architecture.preset("first-2", SLOTS)
    assert architecture.slots == SLOTS and len(architecture) == 4
    assert architecture.space == BN_SPACE and architecture.source == {"preset": "first-2"}


@pytest.mark.parametrize(("preset", "expected"), [
    ("stages-stem", "S....."), ("stages-layer1+layer2", ".SSSS."), ("stages-layer2+stem", "S..SS."),
    ("stages-stem+layer1+layer2+norm5", "SSSSSS"),
])
def test_a_preset_splits_the_stages_that_it_names(preset, expected):
    slots = ("bn1", "layer1.0.bn1", "layer1.0.bn2", "layer2.0.bn1", "layer2.0.bn2", "norm5.bn")
    architecture = Architecture.preset(preset, slots)
    assert "".join("S" if choice == SPLIT else "." for _, choice in architecture.choices) == expected


@pytest.mark.parametrize("name", ["stages-layer9", "stages-", "stages-stem+", "stages-stem,layer1"])
def test_a_preset_of_an_unknown_stage_names_those_of_the_backbone(name):
    with pytest.raises(InputError, match="the stages of the backbone are stem, layer1"):
        Architecture.preset(name, ("bn1", "layer1.0.bn1"))


def test_a_folder_of_the_same_name_does_not_hide_a_preset(tmp_path, monkeypatch):
    (tmp_path / "split").mkdir()
    (tmp_path / "cdnet").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Architecture.resolve("split", SLOTS) == Architecture.preset("split", SLOTS)
    assert Architecture.genotype("cdnet").space == "combined_depth"


def test_random_presets_are_reproducible_differ_by_seed_and_split_about_half():
    slots = tuple(f"bn{i}" for i in range(400))
    one, again, other = (Architecture.preset(name, slots) for name in ("random-1", "random-1", "random-2"))
    assert one == again and one != other
    assert 160 < sum(choice == SPLIT for _, choice in one.choices) < 240


@pytest.mark.parametrize(("name", "suggestion"), [("splt", 'mean "split"'), ("shared", 'mean "share"')])
def test_an_unknown_preset_names_the_known_ones_and_the_nearest(name, suggestion):
    with pytest.raises(InputError, match=f'"{name}" is neither a file nor a preset') as error:
        Architecture.preset(name, SLOTS)
    assert suggestion in str(error.value) and "random-<seed>" in str(error.value)


@pytest.mark.parametrize("name", ["first", "last", "random", "share-3", "split-0", "first--1", "first-x", "first-2 "])
def test_a_preset_with_a_missing_or_superfluous_number_is_refused(name):
    with pytest.raises(InputError, match="neither a file nor a preset"):
        Architecture.preset(name, SLOTS)


@pytest.mark.parametrize("name", ["first-5", "last-5"])
def test_a_preset_of_more_slots_than_there_are_names_both_numbers(name):
    with pytest.raises(InputError, match=f'"{name}" asks for 5 slots, the backbone has 4'):
        Architecture.preset(name, SLOTS)


# -- the value ----------------------------------------------------------------


def test_equality_ignores_the_source_but_not_the_choices():
    one = Architecture(BN_SPACE, (("a", SHARE),), {"seed": 1})
    assert one == Architecture(BN_SPACE, (("a", SHARE),), {"seed": 2})
    assert one != Architecture(BN_SPACE, (("a", SPLIT),), {"seed": 1})


def test_printing_counts_and_names_the_split_slots():
    assert str(Architecture.preset("last-2", SLOTS)) == "2 of 4 norms split: b.bn, head"
    assert str(Architecture.preset("share", SLOTS)) == "0 of 4 norms split"


# -- the authors' ints --------------------------------------------------------


def test_the_authors_order_has_the_downsample_first_in_every_stage():
    slots = authors_slots(53)
    assert slots[:6] == (
        "bn1", "layer1.0.downsample.1", "layer1.0.bn1", "layer1.0.bn2", "layer1.0.bn3", "layer1.1.bn1",
    )
    assert slots[11:13] == ("layer2.0.downsample.1", "layer2.0.bn1")
    assert slots[-1] == "layer4.2.bn3"


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_the_authors_order_covers_the_slots_of_torchreids_resnets(name):
    slots = bn_slots(getattr(torchreid.models, name)(num_classes=1, pretrained=False))
    assert sorted(authors_slots(len(slots))) == sorted(slots)
    assert Architecture.from_ints([1] * len(slots)).slots == slots


def test_zero_is_split_one_is_share_and_each_lands_on_its_slot(resnet50_slots):
    for index, slot in enumerate(authors_slots(53)):
        values = [1] * 53
        values[index] = 0
        architecture = Architecture.from_ints(values)
        assert architecture.slots == resnet50_slots
        assert [name for name, choice in architecture.choices if choice == SPLIT] == [slot]
        assert architecture.to_ints() == values


def test_ints_round_trip_through_the_authors_file(tmp_path, resnet50_slots):
    architecture = Architecture.preset("random-7", resnet50_slots)
    path = tmp_path / "config.cfg"
    architecture.export(path)
    text = path.read_text()
    assert len(text.split()) == 53 and text.count("\n") == 1 and set(text.split()) == {"0", "1"}
    assert Architecture.load(path) == architecture


@pytest.mark.parametrize("separator", [" ", "\n", ", ", ","])
def test_the_authors_ints_are_read_however_they_are_separated(tmp_path, separator):
    values = [index % 2 for index in range(53)]
    path = tmp_path / "config.cfg"
    path.write_text(separator.join(map(str, values)))
    assert Architecture.load(path).to_ints() == values
    path.write_text(str(values))
    assert Architecture.load(path).to_ints() == values


def test_wrong_ints_are_refused():
    with pytest.raises(InputError, match="53 for ResNet-50.*got 52 values"):
        Architecture.from_ints([1] * 52)
    with pytest.raises(InputError, match=r"0 \(split\) and 1 \(share\) only, got 2"):
        Architecture.from_ints([1] * 52 + [2])
    for wrong in ("split", 0.7):  # the names of choices, and chances, neither of which an int may stand for
        with pytest.raises(InputError, match=f"only, got {wrong}"):
            Architecture.from_ints([1] * 52 + [wrong])


def test_slots_of_another_backbone_have_no_ints():
    with pytest.raises(InputError, match="ResNet"):
        Architecture.preset("share", SLOTS).to_ints()
    strangers = Architecture.preset("share", tuple(f"bn{i}" for i in range(53)))
    with pytest.raises(InputError, match="ResNets only; save this architecture as JSON"):
        strangers.to_ints()


# -- JSON ---------------------------------------------------------------------


def test_json_round_trip_keeps_slots_choices_order_and_source(tmp_path):
    path = tmp_path / "architecture.json"
    architecture = Architecture(BN_SPACE, Architecture.preset("random-3", SLOTS).choices, {"seed": 3, "epoch": 90})
    architecture.save(path)
    loaded = Architecture.load(path)
    assert loaded == architecture and loaded.slots == SLOTS and loaded.source == {"seed": 3, "epoch": 90}
    assert set(json.loads(path.read_text())) == {"space", "choices", "source"}


@pytest.mark.parametrize(("content", "message"), [
    ('{"space": "norm_split"}', 'lacks "space" or "choices"'),
    ('{"choices": {"stem": "share"}}', 'lacks "space" or "choices"'),
    ('{"space": "norm_split", "choices": {}}', 'lacks "space" or "choices"'),
    ('{"space": "norm_split", "choices": ["share"]}', 'lacks "space" or "choices"'),
    ('{"space": "norm_split", "choices": {"stem": "halve"}}', '"stem" has the choice "halve", expected "share" or "split"'),
    ('{"space": "norm_split",\n "choices": {"stem" "share"}}', "line 2 is not valid JSON"),
    ('{"space": "norm_split", "cho', "is not valid JSON"),
    ("stem shared", "neither JSON nor the authors' list of ints"),
    ("", "neither JSON nor the authors' list of ints"),
    ("0 1 0.5", "neither JSON nor the authors' list of ints"),
    ("0 1 1", "got 3 values"),
    (" ".join(["1"] * 52 + ["3"]), "got 3$"),
])
def test_a_malformed_file_is_named_with_its_fault(tmp_path, content, message):
    path = tmp_path / "found.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        Architecture.load(path)
    assert str(path) in str(error.value)


def test_a_binary_or_missing_file_or_a_folder_is_named(tmp_path):
    binary = tmp_path / "model.pth"
    binary.write_bytes(b"\x80\x02\xff\xfe")
    for path in (binary, tmp_path / "absent.json", tmp_path):
        with pytest.raises(InputError, match="cannot be read") as error:
            Architecture.load(path)
        assert str(path) in str(error.value) and "preset" in str(error.value)


# -- resolve ------------------------------------------------------------------


def test_resolve_takes_a_value_a_preset_a_file_and_ints(tmp_path, resnet50_slots):
    architecture = Architecture.preset("random-5", resnet50_slots)
    architecture.save(tmp_path / "architecture.json")
    architecture.export(tmp_path / "config.cfg")
    specs = (
        architecture, "random-5", tmp_path / "architecture.json", str(tmp_path / "config.cfg"), architecture.to_ints(),
    )
    for spec in specs:
        assert Architecture.resolve(spec, resnet50_slots) == architecture


def test_resolve_prefers_an_existing_file_to_a_preset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Architecture.preset("split", SLOTS).save("share")
    assert Architecture.resolve("share", SLOTS) == Architecture.preset("split", SLOTS)


def test_resolve_names_the_nearest_preset_for_a_bare_word_and_the_file_for_a_path(tmp_path):
    with pytest.raises(InputError, match='"shere" is neither a file nor a preset.*did you mean "share"'):
        Architecture.resolve("shere", SLOTS)
    with pytest.raises(InputError, match='"runs/found.json" cannot be read'):
        Architecture.resolve("runs/found.json", SLOTS)


def test_resolve_refuses_an_architecture_of_another_backbone(tmp_path, resnet50_slots):
    path = tmp_path / "architecture.json"
    Architecture.preset("split", SLOTS).save(path)
    with pytest.raises(InputError, match="4 norm slots, this one has 53") as error:
        Architecture.resolve(path, resnet50_slots)
    assert str(path) in str(error.value)
    with pytest.raises(InputError, match='names the slot "stem" where this backbone has "x"'):
        Architecture.resolve(path, ("x", *SLOTS[1:]))
    with pytest.raises(InputError, match="got 3 values"):
        Architecture.resolve([0, 1, 0], resnet50_slots)


def test_resolve_refuses_another_space(tmp_path):
    path = tmp_path / "architecture.json"
    Architecture("depth", (("stage1", "2"),)).save(path)
    with pytest.raises(InputError, match='space "depth", expected "norm_split"'):
        Architecture.resolve(path, SLOTS)
