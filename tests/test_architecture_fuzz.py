"""Architectures from anything: a value or one sentence, never another error."""
from __future__ import annotations

import json
import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from torchreid_nas.architecture import FORMATS, Architecture
from torchreid_nas.errors import InputError
from torchreid_nas.genotypes import BLOCK_SLOTS, CANDIDATES

MANY = settings(
    database=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SLOTS = ("bn1", "layer1.0.bn1", "layer1.0.bn2")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)
NAMES = st.sampled_from(["share", "split", "halve", *CANDIDATES["combined"], *CANDIDATES["combined_depth"]])
CHOICES = st.dictionaries(st.sampled_from([*SLOTS, *BLOCK_SLOTS]) | st.text(max_size=4), NAMES | VALUES, max_size=7)
LAYERS = st.lists(st.lists(st.sampled_from([1, 2, 3, 5, 7, 9]), max_size=4) | NAMES | VALUES, min_size=4, max_size=7) | VALUES
INTS = st.lists(st.sampled_from([0, 1]) | SCALARS, max_size=60) | st.lists(st.sampled_from([0, 1]), min_size=53, max_size=53)
KEYS = {
    "space": st.sampled_from([*FORMATS, "other"]) | VALUES, "choices": CHOICES | VALUES, "source": VALUES,
    "layers": LAYERS, "alphas1": VALUES,
}
OBJECTS = st.fixed_dictionaries({}, optional=KEYS)


def outcome(make, name=""):
    """Return an architecture that can be described and compared, or None where one sentence, with the name, refused it."""
    try:
        architecture = make()
    except InputError as error:
        assert "\n" not in str(error).replace(name, "") and len(str(error)) < 2000
        return None
    str(architecture)
    assert architecture == architecture and architecture.slots is not None
    return architecture


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("architectures") / "found.json"


@MANY
@given(content=OBJECTS)
def test_any_json_object_is_an_architecture_or_one_sentence(file, content):
    file.write_text(json.dumps(content))
    loaded = outcome(lambda: Architecture.load(file))
    # The same value and not the file again: what depends on the slots of the network.
    outcome(lambda: Architecture.resolve(loaded or file, SLOTS))
    outcome(lambda: Architecture.genotype(loaded or file))


@MANY
@given(content=st.binary(max_size=60) | st.text(alphabet='{}[]",:01 -sharelplit\n\\u', max_size=60).map(str.encode))
def test_any_bytes_are_an_architecture_or_one_sentence(file, content):
    file.write_bytes(content)
    outcome(lambda: Architecture.load(file))


@MANY
@given(values=INTS)
def test_any_list_of_ints_is_an_architecture_or_one_sentence(values):
    found = outcome(lambda: Architecture.from_ints(values))
    assert found is None or found.to_ints() == values
    outcome(lambda: Architecture.resolve(values, SLOTS))


@MANY
@given(layers=LAYERS)
def test_any_layers_are_a_genotype_or_one_sentence(layers):
    found = outcome(lambda: Architecture.from_layers(layers))
    assert found is None or Architecture.genotype(found.to_layers()) == found
    outcome(lambda: Architecture.genotype(layers))


def test_a_number_of_thousands_of_digits_is_refused_in_python_too():
    for layers in ([10**5000] * 6, [[10**5000, 5]] * 6, 10**5000):
        with pytest.raises(InputError):
            Architecture.from_layers(layers)
    with pytest.raises(InputError, match="only, got a number of thousands of digits"):
        Architecture.from_ints([10**5000] * 53)


PRESETS = st.from_regex(r"(share|split|first|last|random|cdnet|cnet|sp lit)?-?-?[0-9]{0,12}", fullmatch=True)


@MANY
@given(name=PRESETS | st.text(alphabet=string.printable + "\0²é", max_size=300))
@example(name="\n/")
def test_any_name_is_a_preset_or_one_sentence(name):
    found = outcome(lambda: Architecture.resolve(name, SLOTS), name)
    assert found is None or found.slots == SLOTS
    outcome(lambda: Architecture.genotype(name), name)


@pytest.mark.parametrize(("content", "message"), [
    (b'{"space": "bn_split", "choices": {"bn1": "share"}, "source": 5}', 'sets "source" to 5, expected a mapping'),
    (b"1" * 5000, "holds a number of 5000 digits"),
    (b'{"layers": ' + b"1" * 5000 + b"}", "is not valid JSON"),
    (b"{" + b'"a":{' * 100_000, "is not valid JSON"),
    (b'{"layers": ' + b"[" * 100_000, "is not valid JSON"),
    (b"\xff\xfe\x00{", "cannot be read (no text)"),
    (b'{"space": "bn_split", "choices": {"bn1": 5}}', 'lacks "space" or "choices"'),
    (b'{"space": "bn_split", "choices": {"bn1": "' + b"x" * 9999 + b'"}}', "x" * 60 + "… (9,999 characters)"),
])
def test_a_file_that_is_none_is_named_with_its_fault(tmp_path, content, message):
    path = tmp_path / "found.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        Architecture.load(path)
    assert message in str(error.value) and str(path) in str(error.value) and len(str(error.value)) < 1000
