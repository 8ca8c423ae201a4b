"""Entries: those of the package, those of the user, and what a wrong one says."""
from __future__ import annotations

import os

import pytest
import yaml

from torchreid_nas import zoo
from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import GENOTYPES
from torchreid_nas.host import MODELS
from torchreid_nas.zoo.networks import build_model


def refusal(name=None):
    with pytest.raises(InputError) as error:
        zoo.find_entry(name) if name else zoo.list_entries()
    return str(error.value)


# -- the package's ------------------------------------------------------------


def test_every_file_of_the_cdnet_authors_is_there_with_its_blob_id():
    entries = [entry for entry in zoo.list_entries() if entry.format == "cdnet_authors"]
    assert len(entries) == 13
    assert {kind for entry in entries for kind in entry.checksum[:1]} == {"git_blob"}
    assert len({entry.checksum for entry in entries}) == len({entry.source.url for entry in entries}) == 13
    commit = "raw.githubusercontent.com/solicucu/models/6c2c511be401171d95d6f49a72b86e62f8c021ac/FasterReID/inference/"
    assert all(commit in entry.source.url for entry in entries)
    by_name = {entry.name: entry for entry in entries}
    assert by_name["cdnet_msmt17_pretrained"].checksum[1] == "71347c8be6a4c8e2b97fb2f4d7f28d82f3f6a37a"
    assert by_name["cdnet_msmt17_pretrained"].source.url.endswith("/msmt17/cdnet_top2_pretrained.pth")
    assert by_name["cnet_market1501_scratch"].resolved_architecture() == "cnet"


def test_the_folders_of_the_cmnas_authors_are_there():
    entries = {entry.name: entry for entry in zoo.list_entries() if entry.format == "cmnas_authors"}
    assert len(entries) == 11
    assert entries["cmnas_sysu"].source.folder == "1NlMPe8pneKiSAOl3VezNq9VWZcbnQwEC"
    regdb = [entry for name, entry in entries.items() if name.startswith("cmnas_regdb_trial")]
    assert {entry.source.folder for entry in regdb} == {"1_afR3rtHlS-i7-M9BWOESRBxKp_w3r33"}
    assert {entry.source.architecture_folder for entry in entries.values()} == {"1eLOrUYVAPTLT9BuUsgMCutRqMmhNgY8I"}
    for entry in regdb:
        trial = int(entry.name.removeprefix("cmnas_regdb_trial"))
        assert entry.source.pattern == f"*trial{trial}/*.pth.tar" and entry.config[1] == {"data.split_id": trial - 1}


def test_every_entry_names_a_model_that_exists_and_a_config_that_loads():
    for entry in zoo.list_entries():
        assert entry.model in MODELS and entry.licence
        assert entry.published or entry.note or entry.format == "torchreid", entry.name
        if entry.config is not None:
            file, overrides = entry.config
            cfg = load_config(file, [str(part) for item in overrides.items() for part in item])
            assert cfg.model.name == entry.model
            assert (cfg.data.height, cfg.data.width) == (entry.height, entry.width)
            assert set(cfg.data.sources) == {entry.dataset}
            assert {figure.dataset for figure in entry.published} <= set(cfg.data.targets)


def test_feature_sizes_are_those_of_the_networks():
    seen = set()
    for entry in zoo.list_entries():
        architecture = "split" if entry.architecture == "from file" else entry.resolved_architecture()
        key = (entry.model, str(architecture), str(entry.options))
        if key not in seen:
            seen.add(key)
            model = build_model(entry.model, 2, architecture, **entry.options)
            assert model.feature_dim == entry.feature_dim, entry.name


# -- the user's ---------------------------------------------------------------


def test_the_users_files_and_folders_are_read(add_entry, tmp_path, monkeypatch):
    folder = add_entry().parent
    other = tmp_path / "other.yaml"
    shared = yaml.safe_load((folder / "test_entry.yaml").read_text())
    del shared["name"]
    other.write_text(yaml.safe_dump({"common": shared, "entries": [{"name": "a"}, {"name": "b", "feature_dim": 5}]}))
    monkeypatch.setenv("TORCHREID_NAS_ZOO", os.pathsep.join([str(folder), str(other)]))
    names = [entry.name for entry in zoo.list_entries()]
    assert names[-3:] == ["test_entry", "a", "b"]
    assert zoo.find_entry("zoo:b").feature_dim == 5 and zoo.find_entry("b").origin == str(other)


def test_an_unknown_name_is_answered_with_the_nearest():
    assert refusal("cdnet_market1501_pretained").endswith('did you mean "cdnet_market1501_pretrained"?')
    assert 'did you mean "cnet_market1501_scratch"?' in refusal("cnet_market1501")
    assert "`torchreid-nas zoo list`" in refusal("xyzzy")


def test_a_name_of_the_package_cannot_be_taken(add_entry):
    path = add_entry(name="cdnet_imagenet")
    message = refusal()
    assert str(path) in message and "cdnet.yaml" in message and "give it another name" in message


@pytest.mark.parametrize(("changes", "says"), [
    ({"name": "a b"}, "the name 'a b', expected `name:`"),
    ({"name": ...}, "the name None"),
    ({"modle": "cdnet"}, 'has the unknown key "modle"; did you mean "model"?'),
    ({"model": ...}, 'lacks the key "model"; expected text'),
    ({"height": "256"}, "sets \"height\" to '256', expected a whole number above 0"),
    ({"modality": "infrared"}, "expected visible or visible-infrared"),
    ({"format": "theirs"}, "expected one of ours, cdnet_authors, cmnas_authors, torchreid"),
    ({"norm_std": [1, 1, 0]}, "expected three numbers above 0"),
    ({"file": "../weights.pth"}, "expected a file's name without folder"),
    ({"checksum": {"git_blob": "abc"}}, "expected git_blob: 40 hexadecimal digits or sha256: 64"),
    ({"checksum": {"md5": "0" * 40}}, "expected git_blob"),
    ({"source": {"kind": "ftp"}}, "sets \"source.kind\" to 'ftp', expected one of url, drive"),
    ({"source": {"kind": "drive", "folder": "x"}}, "expected text for folder, kind, pattern"),
    ({"source": {"kind": "url", "url": "file:///etc"}}, "expected an address with https://"),
    ({"config": {"overrides": {}}}, 'sets "config" to'),
    ({"published": [{"dataset": "market1501", "rank1": 95.1}]}, 'published lacks "dataset", "source" or a score'),
    ({"published": [{"dataset": "market1501", "source": "x", "rank1": 951}]}, 'sets "rank1" to 951, expected percent'),
    ({"published": [{"dataset": "market1501", "source": "x", "rank": 1}]}, 'unknown key "rank"; did you mean "rank'),
    ({"architecture": {"space": "combined"}}, 'without "space" and "choices"'),
    ({"architecture": {"space": "combined", "choices": {1: 2}}}, 'without "space" and "choices"'),
    ({"source": {"kind": ["url"]}}, "sets \"source.kind\" to ['url']"),
    ({"source": {"kind": "file", "path": "a\0b"}}, "expected text for kind, path"),
    ({"file": "a\0b"}, "expected a file's name without folder"),
    ({"norm_mean": [10**400, 0, 0]}, "expected three numbers"),
    ({"size": 10**400}, "expected bytes"),
    ({"feature_dim": 10**400}, "expected a whole number above 0"),
    ({"options": {1: 2}}, "expected a mapping of the model's arguments"),
    ({"generated": "yes"}, "expected true or false"),
    ({"published": [{"dataset": "x", "source": "y", "rank1": 5, "feature": [1]}]}, 'sets "feature" to [1], expected text'),
])
def test_a_wrong_key_is_named_with_its_file(add_entry, changes, says):
    path = add_entry(**changes)
    message = refusal()
    assert says in message and str(path) in message and message.count("\n") == 0


@pytest.mark.parametrize(("text", "says"), [
    ("[1, 2]", "holds no keys"),
    ("name: a: b", "line 1 is not valid YAML"),
    ("entries: {a: 1}", "expected a mapping and a list"),
    ("entries: [5]", "holds the entry 5"),
    ("entries: []\nother: 1", 'unknown key "other" beside `entries`'),
    ("[" * 3000, "is not valid YAML"),
    ("name: " + "9" * 5000, "is not valid YAML"),
    ("name: 2024-13-45", "is not valid YAML"),
    ("name: &a [*a]", "the name"),
    ("name: 0x" + "f" * 9000, "a value of type int that is too long to show"),
    ("? 0x" + "f" * 9000 + "\n: 1\n? name\n: a", 'unknown key "a value of type int that is too long to show"'),
    ("{? [a] : b}", "is not valid YAML"),
])
def test_a_malformed_file_is_named(tmp_path, monkeypatch, text, says):
    (tmp_path / "zoo.yaml").write_text(text)
    monkeypatch.setenv("TORCHREID_NAS_ZOO", str(tmp_path / "zoo.yaml"))
    message = refusal()
    assert says in message and str(tmp_path / "zoo.yaml") in message


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHREID_NAS_ZOO", str(tmp_path / "absent.yaml"))
    assert "absent.yaml\", which does not exist" in refusal()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("TORCHREID_NAS_ZOO", str(tmp_path / "empty"))
    assert "holds no .yaml file" in refusal()


# -- what pretrained=True starts from -----------------------------------------


def test_the_published_cdnet_starts_from_the_authors_imagenet_weights():
    from torchreid_nas.architecture import Architecture

    cdnet, cnet = (Architecture.genotype(name) for name in GENOTYPES)
    assert zoo.initial_entry(cdnet, width=1.0, small_images=False).name == "cdnet_imagenet"
    assert zoo.initial_entry(cnet, width=1.0, small_images=False) is None
    assert zoo.initial_entry(cdnet, width=0.5, small_images=False) is None
    assert zoo.initial_entry(cdnet, width=1.0, small_images=True) is None


def test_two_entries_that_claim_it_are_refused(add_entry):
    from torchreid_nas.architecture import Architecture

    path = add_entry(initial=True)
    with pytest.raises(InputError, match="both claim") as error:
        zoo.initial_entry(Architecture.genotype("cdnet"), width=1.0, small_images=False)
    assert str(path) in str(error.value)
