"""Study files: what is read, and one sentence for what does not fit."""
import pytest

from torchreid_nas.errors import InputError
from torchreid_nas.study.definition import find_study, read_study, shipped_studies

TWO_ROWS = "config: demo\nrows: {share: {model.architecture: share}, split: {model.architecture: split}}\n"


def written(folder, text):
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_two_rows_is_a_study(tmp_path):
    study = read_study(written(tmp_path, TWO_ROWS))
    assert [(row.name, dict(row.set)) for row in study.rows] == [
        ("share", {"model.architecture": "share"}), ("split", {"model.architecture": "split"}),
    ]
    assert (study.name, study.seeds, study.columns[0].name, study.figure) == ("own", (1, 2, 3), "", "bars")


def test_a_sweep_gives_a_row_per_value_and_a_curve(tmp_path):
    study = read_study(written(tmp_path, "config: demo\nsweep: {key: train.lr, values: [0.1, 1]}\n"))
    assert [(row.name, dict(row.set)) for row in study.rows] == [("0.1", {"train.lr": 0.1}), ("1", {"train.lr": 1})]
    assert (study.sweep, study.figure) == ("train.lr", "curve")


def test_the_small_form_takes_its_own_config_and_values(tmp_path):
    text = TWO_ROWS + (
        "set: {train.lr: 0.1, train.max_epoch: 9}\nsmall: {config: small_cmnas, set: {train.max_epoch: 2}}\n"
        "columns: {A: {config: cmnas_sysu, small: {set: {data.height: 32}}}, B: {}}\n"
    )
    whole, small = (read_study(written(tmp_path, text), small=small) for small in (False, True))
    assert [column.config or whole.config for column in whole.columns] == ["cmnas_sysu", "demo"]
    assert [column.config or small.config for column in small.columns] == ["small_cmnas", "small_cmnas"]
    assert whole.set == {"train.lr": 0.1, "train.max_epoch": 9} and small.set == {"train.lr": 0.1, "train.max_epoch": 2}
    assert small.columns[0].set == {"data.height": 32} and whole.columns[0].set == {}


def test_the_small_form_says_what_stands_in_for_what(tmp_path):
    path = written(tmp_path, TWO_ROWS + "note: About both.\nsmall: {config: small_cmnas, note: Generated.}\n")
    assert read_study(path).note == "About both." and read_study(path, small=True).note == "About both. Generated."


def test_published_figures_are_found_by_row_and_column_or_target(tmp_path):
    text = TWO_ROWS + "published: {source: a paper, figures: {share: {regdb: {rank1: 60, mAP: 50.5}}}}\n"
    published = read_study(written(tmp_path, text)).published
    assert published.of("share", "", "regdb", "mAP") == 50.5
    assert published.of("share", "", "sysu_mm01", "mAP") is None and published.of("split", "", "regdb", "mAP") is None


@pytest.mark.parametrize("text, words", [
    ("config: demo\nrow: {}\n", 'unknown key "row", expected one of title, .*did you mean "rows"'),
    ("config: demo\nrows: {a: {train.lrr: 1}}\n", 'row "a" has the unknown key "train.lrr"; did you mean "train.lr"'),
    ("config: demo\nrows: {a: 3}\n", 'row "a" is 3, expected config keys'),
    ("config: demo\n", "has no rows"),
    ("rows: {a: {}}\n", "names no config"),
    ("config: demo\nrows: {a: {}}\nseeds: [1, 1]\n", r"sets seeds to \[1, 1\], expected different whole numbers"),
    ("config: demo\nrows: {a: {}}\nfigure: pie\n", 'sets figure to "pie", expected one of bars, curve, pareto'),
    ("config: demo\nrows: {a: {}}\nfigure: curve\n", "has no sweep"),
    ("config: demo\nsweep: {key: train.lr, values: [1]}\n", "at least two numbers"),
    ("config: demo\nsweep: {key: lr, values: [1, 2]}\n", 'unknown config key "lr"'),
    ("config: demo\nrows: {a: {over: {train.lr: 1}}}\n", "expected one config key with a list of values"),
    ("config: demo\nrows: {a: {}}\ntable: {scores: [map]}\n", 'there is no metric "map"'),
    ("config: demo\nrows: {a: {}}\ncolumns: {A: {conf: demo}}\n", 'column "A" has the unknown key "conf"'),
    ("config: demo\nrows: {a: {}}\npublished: {figures: {}}\n", "names no source"),
    ("config: demo\nrows: {a: {}}\npublished: {source: s, figures: {b: {regdb: {mAP: 1}}}}\n", 'names the row "b"'),
    ("config: demo\nrows: {a: {}}\npublished: {source: s, figures: {a: 3}}\n", "published.figures is not row"),
    ("config: [\n", "line 2 is not valid YAML"),
    ("- a\n", "is .* expected keys of"),
])
def test_a_fault_in_a_study_file_is_one_sentence(tmp_path, text, words):
    with pytest.raises(InputError, match=words):
        read_study(written(tmp_path, text))


def test_an_unknown_name_is_answered_with_the_nearest():
    assert find_study("c3mmd_terms.yaml") == shipped_studies()["c3mmd_terms"]
    with pytest.raises(InputError, match='"c3mmd_term" is neither a file nor .*did you mean "c3mmd_terms"'):
        find_study("c3mmd_term")


def test_a_small_form_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no small form"):
        read_study(written(tmp_path, TWO_ROWS), small=True)
