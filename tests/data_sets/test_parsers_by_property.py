"""Parsers of names and index lists: whatever is in them, they read it or say one sentence."""
from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torchreid_nas.data.folders import read_identities
from torchreid_nas.data.full_names import CUHK03, DUKE, MARKET, MSMT17, FullMSMT17
from torchreid_nas.data.regdb import _read_list
from torchreid_nas.errors import InputError

pytestmark = pytest.mark.slow
MANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
# Pieces that real names and lines are made of, in any order and with anything between.
PIECES = st.sampled_from([
    "0002", "-1", "_", "_c", "1", "s1", ".jpg", ".png", "/", " ", "\t", ",", "\n", "Visible", "\\", "٣", "²", "9" * 20,
])
LINES = st.lists(st.one_of(PIECES, st.text(max_size=5)), max_size=12).map("".join)
TEXTS = st.lists(LINES, max_size=4).map(lambda lines: "\n".join(lines).encode(errors="ignore"))
CONTENT = st.one_of(st.binary(max_size=60), TEXTS)


@pytest.mark.parametrize("rule", [MARKET, DUKE, MSMT17, CUHK03], ids=["market", "duke", "msmt17", "cuhk03"])
def test_a_name_is_read_or_refused(rule):
    @MANY
    @given(LINES)
    def check(name):
        try:
            pid, camid = rule.read(name, "the image")
        except InputError as error:
            assert name in str(error)
        else:
            assert camid >= 0 and pid >= -1 and str(camid + 1) in name.replace("c0", "c").replace("_0", "_")

    check()


@pytest.mark.parametrize("rule, form", [
    (MARKET, "{pid:04d}_c{camera}s1_000151_01.jpg"), (DUKE, "{pid:04d}_c{camera}_f0046182.jpg"),
    (MSMT17, "{pid:04d}_001_{camera:02d}_0303morning_0015_0.jpg"),
])
def test_a_name_gives_back_its_numbers(rule, form):
    @MANY
    @given(st.integers(0, 10**9), st.integers(1, 10**6))
    def check(pid, camera):
        assert rule.read(form.format(pid=pid, camera=camera), "the image") == (pid, camera - 1)

    check()


@MANY
@given(content=CONTENT)
def test_an_index_list_of_regdb_is_read_or_refused(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    (tmp_path / "Visible" / "1").mkdir(parents=True, exist_ok=True)
    (tmp_path / "Visible" / "1" / "a.bmp").touch()
    with pytest.raises(InputError, match="list.txt"):
        _read_list(tmp_path, "list.txt", "visible")


@MANY
@given(content=CONTENT)
def test_an_identity_list_of_sysu_is_read_or_refused(tmp_path, content):
    path = tmp_path / "train_id.txt"
    path.write_bytes(content)
    try:
        ids = read_identities(path)
    except InputError as error:
        assert "train_id.txt" in str(error)
    else:
        assert ids and min(ids) >= 1


@MANY
@given(content=CONTENT)
def test_a_list_of_msmt17_is_read_or_refused(tmp_path, content):
    path = tmp_path / "list_train.txt"
    path.write_bytes(content)
    try:
        items = FullMSMT17.process_dir(None, str(tmp_path), str(path))
    except InputError as error:
        assert "list_train.txt" in str(error)
    else:
        assert all(pid >= 0 and camid >= 0 for _, pid, camid in items)
