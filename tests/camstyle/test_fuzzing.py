"""Settings and checkpoints of a StarGAN, of any content: read, or refused in one sentence."""
import dataclasses
import functools
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchreid_nas.camstyle.images import CameraImages
from torchreid_nas.camstyle.settings import StarGANSettings
from torchreid_nas.camstyle.training import Trainer, checked_state
from torchreid_nas.errors import InputError
from torchreid_nas.files import load_checkpoint, save_checkpoint

NAMES = [field.name for field in dataclasses.fields(StarGANSettings)]
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6,
)
TINY = StarGANSettings(height=8, width=8, channels=1, residual_blocks=0, iterations=2, batch_size=2)


@functools.cache
def finished_state():
    """The state of a trainer after one step."""
    images = CameraImages([("a.jpg", 0, 0, 0), ("b.jpg", 1, 1, 0)], 8, 8)
    trainer = Trainer(TINY, images, "market1501", torch.device("cpu"))
    trainer.step(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))
    trainer.history.append({"iteration": 1, "critic": 0.5, "lr": 1e-4})
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    return trainer, file.getvalue()


def state():
    return torch.load(io.BytesIO(finished_state()[1]), weights_only=True)


@given(st.dictionaries(st.sampled_from(NAMES), PLAIN, max_size=4), st.sets(st.sampled_from(NAMES), max_size=1), st.booleans())
def test_settings_of_any_values_are_taken_or_refused(changed, missing, extra):
    values = {name: value for name, value in {**dataclasses.asdict(TINY), **changed}.items() if name not in missing}
    try:
        made = StarGANSettings.from_dict({**values, "depth": 3} if extra else values)
    except InputError as error:
        assert "StarGAN" in str(error) and "expected" in str(error) or "choose another --output" in str(error)
    else:
        assert not extra and not missing
        assert StarGANSettings.from_dict(dataclasses.asdict(made)) == made
        assert 0 <= made.learning_rate(made.iterations - 1) <= made.lr


@given(PLAIN)
def test_settings_that_are_no_dict_are_refused(values):
    with pytest.raises(InputError, match="settings of a StarGAN are height, width"):
        StarGANSettings.from_dict(values)


@given(st.data())
def test_a_state_with_any_values_is_loaded_or_refused(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "state.pth"
    changed = state()
    for name in data.draw(st.sets(st.sampled_from(sorted(changed)), min_size=1, max_size=3)):
        value = data.draw(PLAIN | st.just(torch.zeros(2)))
        if isinstance(changed[name], dict) and changed[name] and data.draw(st.booleans()):
            changed[name][data.draw(st.sampled_from(sorted(changed[name], key=str)))] = value
        else:
            changed[name] = value
    trainer = finished_state()[0]
    try:
        trainer.load_state_dict(checked_state(changed, path))
    except InputError as error:
        assert "choose another --output" in str(error) and "\n" not in str(error)
    else:
        assert 0 <= trainer.iteration <= TINY.iterations


@given(PLAIN)
def test_a_checkpoint_of_another_content_is_refused_by_its_name(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "other.pth"
    save_checkpoint(path, content)
    with pytest.raises(InputError, match="other.pth"):
        checked_state(load_checkpoint(path), path)


def test_a_state_of_its_own_is_loaded(tmp_path):
    trainer = finished_state()[0]
    trainer.load_state_dict(checked_state(state(), tmp_path / "checkpoint.pth"))
    assert trainer.iteration == 1 and trainer.history[0]["critic"] == 0.5
