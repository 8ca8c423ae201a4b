"""Published figures, and rows of a table that do not compare."""
import pytest

from torchreid_nas.errors import InputError
from torchreid_nas.evidence.published import lint_table, published_beside, published_figures, published_table, read_table

HEADER = "method,dataset,protocol,rank1,mAP,source\n"
ALL = "SYSU-MM01 all-search, 1-shot, random galleries"


def findings(tmp_path, *rows):
    path = tmp_path / "table.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return [(finding.line, finding.said) for finding in lint_table(read_table(path))]


def test_shipped_figures_are_those_of_the_papers():
    known = {(f.method, f.dataset, f.protocol): (f.rank1, f.mAP) for f in published_figures()}
    assert known["CM-NAS", "sysu_mm01", ALL] == (61.99, 60.02)
    assert known["CM-NAS", "regdb", "RegDB visible to infrared, ten trials"] == (84.54, 80.32)
    assert known["CDNet pretrained", "msmt17", "Market-1501"] == (78.9, 54.7)
    assert known["DEEN", "llcm", "LLCM paper"] == (62.5, 65.8) and known["DEEN", "llcm", "LLCM repository"] == (69.21, 55.52)
    assert all(f.source and f.protocol for f in published_figures()) and len(known) == len(published_figures())


def test_a_table_of_one_protocol_compares(tmp_path):
    assert not findings(tmp_path, f'CM-NAS,sysu_mm01,"{ALL}",61.99,60.02,paper', f'ours,sysu_mm01,"{ALL}",62.5,60.9,run')


def test_a_row_of_another_protocol_is_flagged(tmp_path):
    official = ALL.replace("random", "official")
    said = findings(tmp_path, *(f'm{i},sysu_mm01,"{ALL}",6{i},60,p' for i in range(2)), f'x,sysu_mm01,"{official}",70,66,p')
    assert said == [(3, f'the protocol is "{official}", most rows of sysu_mm01 have "{ALL}"; put it in another table')]


def test_figures_of_another_protocol_under_a_false_name_are_found(tmp_path):
    ((line, said),) = findings(tmp_path, f'CAJ,sysu_mm01,"{ALL}",69.88,66.89,paper')
    assert line == 1 and said.startswith("69.88 / 66.89 is published for CAJ under") and "flipped" in said


def test_directions_that_were_exchanged_are_found(tmp_path):
    ((_, said),) = findings(tmp_path, 'CM-NAS,regdb,"RegDB visible to infrared, ten trials",82.57,78.31,paper')
    assert "RegDB infrared to visible" in said


def test_fractions_missing_sources_and_unknown_protocols_are_named(tmp_path):
    said = " | ".join(text for _, text in findings(tmp_path, "ours,regdb,RegDB visible to infared ten trials,0.84,0.8,"))
    assert "look like fractions" in said and "names no source" in said and "nothing is published under" in said
    assert "did you mean" in said


def test_a_figure_stands_beside_those_of_its_own_protocol_only():
    methods = lambda **row: [figure.method for figure in published_beside({"num_trials": 10, **row})]
    assert methods(dataset="sysu_mm01", protocol=ALL) == ["AGW", "CM-NAS"]
    assert not methods(dataset="sysu_mm01", protocol=ALL + ", re-ranked")
    assert not methods(dataset="sysu_mm01", protocol=ALL.replace("random", "official"))
    assert methods(dataset="regdb_ir2vis", protocol="mean over trials") == ["CM-NAS"]
    assert not methods(dataset="regdb_ir2vis", protocol="mean over trials", num_trials=3)


def test_generated_images_stand_beside_nothing():
    row = {"dataset": "sysu_mm01", "protocol": ALL, "num_trials": 10, "ranks": [1], "cmc": [0.5], "mAP": 0.4}
    assert "generated" in published_table({"results": [row], "data": {"synthetic": True}})
    table = published_table({"results": [row], "data": {"synthetic": False}})
    assert "measured here" in table and "50.00" in table and "61.99" in table and "69.88" not in table
    assert published_table({"results": [{**row, "protocol": "another"}], "data": {"synthetic": False}}) == ""


def test_a_network_trained_on_other_data_stands_beside_nothing():
    row = {"dataset": "market1501", "protocol": "market1501", "num_trials": 1, "ranks": [1], "cmc": [0.5], "mAP": 0.4}
    table = lambda *sources: published_table({"results": [row], "data": {"synthetic": False, "sources": list(sources)}})
    assert "CDNet" in table("market1501") and table("dukemtmcreid") == "" and table("of an extension") == ""
    row.update(dataset="regdb_ir2vis", protocol="mean over trials", num_trials=10)
    assert "CM-NAS" in table("regdb") and table("sysu_mm01") == ""


@pytest.mark.parametrize("content, said", [
    ("", 'has no column "method"'),
    (HEADER, "has no rows"),
    ("method,dataset,protocol,rank1,source\n", 'has no column "mAP"'),
    (HEADER + "ours,regdb,RegDB,high,80,run\n", 'row 1 of the table .* has rank1 "high"'),
    (HEADER + "ours,regdb,RegDB,84,180,run\n", 'has mAP "180", expected percent'),
    (HEADER + "ours,regdb,RegDB,84,nan,run\n", 'has mAP "nan"'),
    (b"\xff\xfe\x00", "is not UTF-8"),
])
def test_a_file_that_is_no_such_table_is_one_sentence(content, said, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said):
        read_table(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "none.csv")


def test_llcm_stands_beside_the_scale_of_its_own_protocol():
    beside = lambda dataset, protocol: {
        (f.method, f.rank1) for f in published_beside({"dataset": dataset, "protocol": protocol, "num_trials": 10}, ["llcm"])
    }
    assert beside("llcm", "LLCM paper") == {("DEEN", 62.5)} and ("DEEN", 69.21) in beside("llcm", "LLCM repository")
    assert beside("llcm_ir2vis", "LLCM paper") == {("DEEN", 54.9)}


def test_a_setting_of_sysu_mm01_is_known_under_either_name():
    indoor = ALL.replace("all-search", "indoor-search")
    for dataset in ("sysu_mm01", "sysu_mm01_indoor"):
        assert [f.rank1 for f in published_beside({"dataset": dataset, "protocol": indoor, "num_trials": 10})] == [54.2, 67.01]


@pytest.mark.parametrize("row", [
    {"protocol": "Market-1501, mAP by trapezoid", "mAP": 0.4}, {"protocol": "market1501", "mAP": 0.41, "mAP_trapezoid": 0.4},
])
def test_ecn_stands_beside_its_own_map_from_its_own_source(row):
    row = {"dataset": "market1501", "num_trials": 1, "ranks": [1], "cmc": [0.5], **row}
    table = lambda *sources: published_table({"results": [row], "data": {"synthetic": False, "sources": list(sources)}})
    found = table("dukemtmcreid")
    assert "43.00" in found and "40.00" in found and "41.00" not in found and "CDNet" not in found
    assert "published under Market-1501, mAP by trapezoid" in found
    assert "43.00" not in table("market1501") and table("msmt17") == ""
