"""The runs of a study: configs, folders, order, and what is made once."""
import pytest

from torchreid_nas.config import changed_keys, load_config
from torchreid_nas.errors import InputError
from torchreid_nas.study.definition import read_study
from torchreid_nas.study.grid import cost, expand


def members(folder, text, seeds=(1,), overrides=()):
    path = folder / "own.yaml"
    path.write_text("config: demo\n" + text, encoding="utf-8")
    return expand(read_study(path), folder / "runs", seeds, overrides)


def test_each_run_has_the_config_of_the_same_run_by_hand(tmp_path):
    text = "set: {train.lr: 0.1}\nrows: {a: {model.architecture: share}}\ncolumns: {B: {set: {train.ema: 0.0}}}\n"
    found = members(tmp_path, text, [7], ["train.max_epoch", "3"])
    by_hand = load_config("demo", [
        "train.lr", "0.1", "model.architecture", "share", "train.ema", "0", "train.max_epoch", "3", "train.seed", "7",
        "data.save_dir", str(tmp_path / "runs" / "a" / "b" / "seed_7"),
    ])
    assert found[0].cfg == by_hand and found[0].stages == ("train", "test") and found[0].label == "a, B, seed 7"


def test_rows_with_one_search_search_once_per_seed(tmp_path):
    text = "set: {search.method: gradient}\nrows: {low: {train.lr: 0.001}, high: {train.lr: 0.1}, other: {search.arch_lr: 0.5}}\n"
    found = members(tmp_path, text, [1, 2])
    assert [dict(member.takes) for member in found] == [{}, {"search": 0}, {}, {}, {"search": 3}, {}]
    assert cost(found) == {"runs": 6, "search": 4, "train": 6}


def test_a_search_by_paths_follows_from_the_recipe_of_the_training(tmp_path):
    found = members(tmp_path, "rows: {base: {}, ema: {train.ema: 0.5}, lr: {train.lr: 0.1}}\n")
    assert [dict(member.takes) for member in found] == [{}, {"search": 0}, {}]


def test_rows_that_differ_in_the_test_alone_train_once(tmp_path):
    text = "set: {model.architecture: share}\nrows: {plain: {}, again: {test.rerank: True}, lr: {train.lr: 0.1}}\n"
    found = members(tmp_path, text)
    assert [dict(member.takes) for member in found] == [{}, {"train": 0}, {}]


def test_ecn_rows_share_the_epochs_on_the_source(tmp_path):
    path = tmp_path / "own.yaml"
    rows = "{a: {}, k: {ecn.num_neighbours: 0}, all: {ecn.weight_target: 1.0}, lr: {train.lr: 1.0}}"
    path.write_text(f"config: small_ecn\nrows: {rows}\n")
    found = expand(read_study(path), tmp_path / "runs", [1])
    assert [dict(member.takes) for member in found] == [{}, {"source": 0}, {}, {}]


def test_a_row_may_take_the_architecture_of_another(tmp_path):
    text = "rows: {k: {model.architecture: first-k of found}, found: {}, same: {model.architecture: architecture of found in B}}"
    found = members(tmp_path, text + "\ncolumns: {A: {}, B: {set: {train.ema: 0.5}}}\n")
    waits = {member.label: found[member.waits_for].label for member in found if member.waits_for is not None}
    assert waits == {
        "k, A, seed 1": "found, A, seed 1", "same, A, seed 1": "found, B, seed 1",
        "k, B, seed 1": "found, B, seed 1", "same, B, seed 1": "found, B, seed 1",
    }
    with pytest.raises(InputError, match='there is no row "nobody"'):
        members(tmp_path, "rows: {k: {model.architecture: first-k of nobody}}\n")
    with pytest.raises(InputError, match='the row "k" takes the architecture of the row "a", which searches none'):
        members(tmp_path, "rows: {k: {model.architecture: first-k of a}, a: {model.architecture: share}}\n")


def test_a_row_over_several_values_has_a_run_for_each(tmp_path):
    rows = "{random: {over: {model.architecture: [random-1, random-2]}}, share: {model.architecture: share}}"
    found = members(tmp_path, f"rows: {rows}\n")
    assert [member.folder.path.relative_to(tmp_path / "runs").as_posix() for member in found] == [
        "random/random-1/seed_1", "random/random-2/seed_1", "share/seed_1",
    ]
    assert [member.cfg.model.architecture for member in found] == ["random-1", "random-2", "share"]


def test_what_the_rows_set_the_command_line_cannot(tmp_path):
    text = "rows: {a: {train.lr: 0.1}, b: {}}\n"
    for key, way_out in (("train.lr", "another key"), ("train.seed", "--seeds"), ("data.save_dir", "--output")):
        with pytest.raises(InputError, match=f'sets {key} run by run.*use {way_out}'):
            members(tmp_path, text, overrides=[key, "1"])


def test_a_value_out_of_range_names_its_row(tmp_path):
    with pytest.raises(InputError, match='row "a", sets train.lr to -1, expected above 0'):
        members(tmp_path, "rows: {a: {train.lr: -1}}\n")


def test_rows_of_one_folder_name_are_refused(tmp_path):
    with pytest.raises(InputError, match='one folder for "a b, seed 1" and "a/b, seed 1"'):
        members(tmp_path, "rows: {a b: {}, a/b: {}}\n")


def test_shipped_configs_are_not_changed_by_a_study(tmp_path):
    before = load_config("demo")
    members(tmp_path, "rows: {a: {train.lr: 0.5}}\n")
    assert changed_keys(before, load_config("demo"), ["train"]) == []
