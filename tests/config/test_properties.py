"""The config parser on any text: a config or one sentence, never a traceback."""
from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from torchreid_nas.config import KEYS, config_to_yaml, load_config
from torchreid_nas.errors import InputError

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-10**400, 10**400), st.floats(), st.text(max_size=40), st.dates(),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
NAMES = st.one_of(st.sampled_from(sorted(KEYS)), st.text(max_size=20))
# What YAML and Python read in ways of their own.
ODD = st.sampled_from([
    "0x" + "f" * 5000, "1" * 5000, "[" * 3000, "((" * 200, "-" * 300, "1e999", ".inf", "2020-13-45", "0b_",
    "!!python/object:os.system x", "&a [*a]", "{a: *b}", "\x00", "\ud800", "\x1b[31m", "lambda: 1", "1_000", "[1,", "{'a': 1}",
    "b'x'", "1+2j", "...", "<<: 1",
])


def reads(path, overrides=()):
    """Load a config; whatever it holds, it can be written and read again."""
    try:
        cfg = load_config(path, overrides)
    except InputError as error:
        assert str(error) and len(str(error)) < 2000
        return
    text = config_to_yaml(cfg)
    path.write_text(text, encoding="utf-8")
    assert load_config(path) == cfg


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("config") / "config.yaml"


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_config_or_one_sentence(path, content):
    path.write_bytes(content)
    reads(path)


@given(name=NAMES, value=st.one_of(VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True)), ODD))
def test_any_value_in_a_file_is_taken_or_answered_by_one_sentence(path, name, value):
    *sections, last = name.split(".")
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    text = "\n".join([*lines, f"{'  ' * len(sections)}{last}: {value}"])
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    reads(path)


@given(name=NAMES, text=st.one_of(st.text(max_size=60), VALUES.map(repr), ODD))
def test_any_override_is_taken_or_answered_by_one_sentence(path, name, text):
    path.write_text("")
    reads(path, [name, text])
