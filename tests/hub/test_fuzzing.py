"""Zoo files of any content: an entry, or one sentence."""
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torchreid_nas.errors import InputError
from torchreid_nas.hub import catalogue
from torchreid_nas.hub.entry import Entry

GOOD = {
    "name": "mine", "model": "cdnet", "architecture": "cdnet", "dataset": "market1501", "modality": "visible", "feature_dim": 768,
    "height": 64, "width": 32, "format": "ours", "licence": "none", "source": {"kind": "file", "path": "a.pth"}, "options": {},
    "norm_mean": [0.5, 0.5, 0.5], "size": 5, "checksum": {"sha256": "0" * 64}, "config": {"file": "a.yaml"},
    "published": [{"dataset": "market1501", "source": "paper", "rank1": 90.0}], "measured": None, "initial": False,
}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.just(10**400)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=4),
    max_leaves=9,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "unknown"]), VALUES, min_size=1, max_size=3))
def test_an_entry_with_any_values_is_read_or_refused_in_one_sentence(changes):
    try:
        entry = Entry.from_mapping({**GOOD, **changes}, "zoo.yaml")
    except InputError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
    else:
        assert entry.source.address and all(figure.scores for figure in entry.published)


TEXTS = st.one_of(
    st.text(max_size=60), st.text("[]{}:,-&*!?|>'\"% \n0xf", max_size=60), st.binary(max_size=60), VALUES.map(yaml.dump),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS)
def test_a_zoo_file_of_any_text_is_read_or_refused_in_one_sentence(tmp_path_factory, monkeypatch, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    # The entries of the package take 30 ms.
    monkeypatch.setattr(catalogue, "_OWN", path.parent / "none")
    monkeypatch.setenv("TORCHREID_NAS_ZOO", str(path))
    try:
        catalogue.list_entries()
    except InputError as error:
        assert "fuzz.yaml" in str(error) and "\n" not in str(error)
