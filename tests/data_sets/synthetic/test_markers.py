"""synthetic.json of any content: a sheet, the data set again, or one sentence that names the file."""
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchreid_nas.data.synthetic import LAYOUTS, SyntheticSettings, contact_sheet, write_dataset
from torchreid_nas.data.synthetic.store import MARKER, read_marker
from torchreid_nas.errors import InputError

SMALL = SyntheticSettings(identities=4, images=2, height=32, width=16, trials=1)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6,
)
NAMES = st.sampled_from([*vars(SMALL), "depth"])


@pytest.fixture(scope="module")
def regdb(tmp_path_factory):
    return write_dataset("regdb", tmp_path_factory.mktemp("markers"), SMALL)


def in_every_way(folder, sheet):
    """Read a marker as the writer and the sheet do; each works or says in one sentence why not."""
    for read in (lambda: contact_sheet(folder, sheet, 1, 1), lambda: write_dataset("regdb", folder.parent, SMALL)):
        try:
            read()
        except InputError as error:
            assert str(folder) in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(("marker", "sentence"), [
    ({"layout": "regdb2", "settings": {}}, r"layout is 'regdb2', expected one of regdb, .* generate it again"),
    ({"layout": ["regdb"], "settings": {}}, r"layout is \['regdb'\], expected one of"),
    ({"layout": "regdb", "settings": {}}, "the settings lack difficulty, height, .*synthetic.json"),
    ({"layout": "regdb", "settings": {**vars(SMALL), "depth": 1}}, "the settings have the unknown depth"),
    ({"layout": "regdb", "settings": {**vars(SMALL), "width": "16"}}, "width is '16', expected a whole number .*synthetic.json"),
])
def test_a_damaged_marker_is_refused_in_one_sentence(tmp_path, marker, sentence):
    (tmp_path / MARKER).write_text(json.dumps(marker))
    with pytest.raises(InputError, match=sentence):
        contact_sheet(tmp_path, tmp_path / "sheet.png")


@given(
    st.sampled_from([*LAYOUTS, "cuhk03"]) | PLAIN,
    st.dictionaries(NAMES, PLAIN, max_size=3), st.sets(NAMES, max_size=2), st.sampled_from([1, 1, 2, None, "1"]),
)
def test_any_values_in_a_marker_are_read_or_refused(regdb, tmp_path_factory, layout, changed, missing, version):
    values = {name: value for name, value in {**vars(SMALL), **changed}.items() if name not in missing}
    (regdb / MARKER).write_text(json.dumps({"layout": layout, "version": version, "settings": values}))
    in_every_way(regdb, tmp_path_factory.getbasetemp() / "sheet.png")


@given(st.binary(max_size=80) | PLAIN.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 5000))
def test_a_marker_of_any_bytes_is_read_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "bytes"
    folder.mkdir(exist_ok=True)
    (folder / MARKER).write_bytes(content)
    try:
        marker = read_marker(folder)
        assert marker is None or isinstance(marker["settings"], dict)
    except InputError as error:
        assert MARKER in str(error) and "\n" not in str(error)


@given(st.dictionaries(st.sampled_from(sorted(vars(SMALL))), PLAIN, max_size=4))
def test_settings_of_any_values_are_taken_or_refused(values):
    try:
        made = SyntheticSettings(**values)
    except InputError as error:
        assert str(error).startswith("synthetic data: ") and "expected a" in str(error)
    else:
        assert SyntheticSettings(**json.loads(json.dumps(vars(made)))) == made


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), 17])
def test_a_scale_out_of_range_is_refused(tmp_path, scale):
    with pytest.raises(InputError, match="contact sheet: scale is .*, expected above 0 and at most 16"):
        contact_sheet(tmp_path, tmp_path / "sheet.png", scale=scale)
