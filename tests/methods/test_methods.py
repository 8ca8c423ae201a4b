"""The registry of methods: whose a model is, a method from outside, and what building a network imports."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchreid

from torchreid_nas.config import load_config
from torchreid_nas.errors import InputError
from torchreid_nas.layers import modality_context
from torchreid_nas.methods import METHODS, CMNASMethod, make_method, method_of
from torchreid_nas.methods.effects import without_effect
from torchreid_nas.models import two_stream_resnet18
from torchreid_nas.registry import register_method

CPU = torch.device("cpu")


@pytest.mark.parametrize("model, method", [
    ("two_stream_resnet18", "cmnas"), ("two_stream_cdnet", "cmnas"), ("cdnet", "cdnet"), ("cnet", "cdnet"),
    ("ecn_resnet50", "ecn"), ("osnet_x1_0", "baseline"), ("cdnet_x0_25", "baseline"),
])
def test_a_model_belongs_to_the_method_that_names_it(model, method):
    assert method_of(model) is METHODS[method]
    assert type(make_method(load_config(None, ["model.name", model]), CPU)) is METHODS[method]


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(InputError, match='model.name is "cdnett", expected one of .*; did you mean "cdnet"'):
        make_method(load_config(None, ["model.name", "cdnett"]), CPU)


def test_every_model_of_a_method_is_one_of_torchreid():
    known = vars(torchreid.models)["__model_factory"]
    assert {name for method in METHODS.values() for name in method.factories} <= set(known)


@pytest.fixture
def outside():
    """A method from outside, forgotten after the test."""
    known = vars(torchreid.models)["__model_factory"]

    def narrow(num_classes, architecture, **options):
        return two_stream_resnet18(num_classes, architecture, **{**options, "width": 0.125})

    class Narrow(CMNASMethod):
        """A two-stream network of one width."""

        name = "narrow"
        factories = {"narrow_resnet18": narrow}
        own_keys = ("loss.triplet", "sampler")

    register_method(Narrow)
    yield Narrow
    del METHODS["narrow"], known["narrow_resnet18"]


def test_a_method_from_outside_builds_its_model_and_says_what_it_reads(outside):
    cfg = load_config(None, ["model.name", "narrow_resnet18", "model.pretrained", "False"])
    method = make_method(cfg, CPU)
    assert type(method) is outside
    model = method.build_model(3, "share")
    with torch.no_grad(), modality_context("visible"):
        assert model.eval()(torch.zeros(1, 3, 32, 16)).shape == (1, 64)
    assert without_effect(cfg, ["loss.triplet.margin", "train.lr"]) == ""
    assert without_effect(cfg, ["search.lr"]) == "search.lr (model.name is narrow_resnet18)"


def test_a_second_method_of_one_name_is_refused(outside):
    with pytest.raises(ValueError, match='already has a method "narrow"'):
        register_method(type("Other", (outside,), {}))
    register_method(outside)
    assert METHODS["narrow"] is outside


def test_building_a_network_imports_neither_engines_nor_search():
    code = """
import sys, torch
import torchreid_nas
from torchreid_nas.config import load_config
from torchreid_nas.methods import make_method
networks = {"two_stream_resnet18": "split", "cdnet": "cdnet", "ecn_resnet18": "none", "osnet_x0_25": "none"}
for model, architecture in networks.items():
    keys = ["model.name", model, "model.pretrained", "False", "model.frozen_stages", "-1"]
    make_method(load_config(None, keys), torch.device("cpu")).build_model(3, architecture, pretrained=False)
print([name for name in sys.modules if name.startswith(("torchreid_nas.engine", "torchreid_nas.search", "torchreid_nas.run"))])
print(torchreid_nas.register.__name__, sys.modules["torchreid"].engine.CrossModalitySearchEngine.__name__)
"""
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, env={"PYTHONPATH": root})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\nregister CrossModalitySearchEngine\n"
