"""``model.neck``: the head of any network by config, its weights, and configs of versions that did not heed the key."""
from __future__ import annotations

import pytest
import torch
from torch import nn

from torchreid_nas.config import changed_keys, config_to_yaml, load_config
from torchreid_nas.config.load import flatten
from torchreid_nas.errors import InputError
from torchreid_nas.methods import make_method
from torchreid_nas.models import CDNet, NeckedNetwork
from torchreid_nas.models.necks import BatchNormNeck, BLNeck, FBLNeck, PlainNeck
from torchreid_nas.zoo.networks import build_model

CPU = torch.device("cpu")
OSNET = ["model.name", "osnet_x0_25", "model.architecture", "none", "model.pretrained", "False"]
CDNET = ["model.name", "cdnet", "model.architecture", "cdnet", "model.width", "0.125", "model.pretrained", "False"]


def built(*overrides: str) -> nn.Module:
    cfg = load_config(None, list(overrides))
    return make_method(cfg, CPU).build_model(5, cfg.model.architecture)


@pytest.mark.parametrize(("base", "own"), [(OSNET, ""), (CDNET, FBLNeck)])
def test_the_key_names_the_head_of_any_network(base, own):
    for name, kind in (("plain", PlainNeck), ("bnneck", BatchNormNeck), ("blneck", BLNeck), ("fblneck", FBLNeck)):
        network = built(*base, "model.neck", name, "model.dropout", "0.3")
        assert type(network.neck) is kind and network.neck.dropout.p == 0.3 and network.loss == "triplet"
    network = built(*base)
    assert type(network.neck) is own if own else not isinstance(network, NeckedNetwork)


def test_a_cdnet_of_any_neck_is_a_cdnet_and_has_the_stem_of_the_config():
    network = built(*CDNET, "model.neck", "plain", "model.small_images", "True")
    assert isinstance(network, CDNet) and network.backbone.stride == 4


def test_a_network_without_a_chain_of_layers_is_refused():
    with pytest.raises(InputError, match="HACNN does not give as a chain of layers"):
        built(*OSNET, "model.name", "hacnn", "model.neck", "blneck")


@pytest.mark.parametrize("trained", ["own", "plain"])
def test_a_file_of_the_network_with_or_without_a_neck_starts_it(trained, tmp_path):
    source = built(*OSNET, "model.neck", trained)
    torch.save({"state_dict": source.state_dict()}, tmp_path / "model.pth")
    network = built(*OSNET, "model.neck", "blneck", "model.pretrained", str(tmp_path / "model.pth"))
    theirs = source.backbone.state_dict() if trained == "plain" else source.state_dict()
    own = network.backbone.state_dict()
    assert own and all(torch.equal(theirs[key], value) for key, value in own.items())


def test_a_file_of_another_backbone_is_one_sentence(tmp_path):
    torch.save({"state_dict": built(*OSNET, "model.neck", "plain").state_dict()}, tmp_path / "model.pth")
    with pytest.raises(InputError, match='do not fit this NeckedNetwork: "backbone.conv1'):
        built(*OSNET, "model.name", "osnet_x0_5", "model.neck", "plain", "model.pretrained", str(tmp_path / "model.pth"))


def test_an_entry_of_the_zoo_builds_the_network_of_its_run():
    cfg = load_config(None, [*OSNET, "model.neck", "blneck"])
    method = make_method(cfg, CPU)
    entry = build_model("osnet_x0_25", 5, None, **method.model_options())
    assert entry.state_dict().keys() == method.build_model(5, "none").state_dict().keys()
    assert method.model_options() == {"neck": "blneck", "dropout": 0.2}
    assert make_method(load_config(None, OSNET), CPU).model_options() == {}


def test_a_saved_config_of_an_earlier_version_keeps_the_networks_own_head(tmp_path):
    cfg = load_config(None, OSNET)
    text = config_to_yaml(cfg).replace("neck: own", "neck: fblneck").replace("small_images: False", "")
    (tmp_path / "config.yaml").write_text(text.replace("small_images: false", ""))
    assert load_config(tmp_path / "config.yaml").model.neck == "own"
    old = dict(flatten(cfg)) | {"model.neck": "fblneck"}
    assert changed_keys(old, cfg, ["model"]) == ["model.neck: fblneck -> own"]
    del old["model.small_images"]
    assert changed_keys(old, cfg, ["model"]) == []
    (tmp_path / "mine.yaml").write_text("model: {name: osnet_x0_25, architecture: none, neck: fblneck}")
    assert load_config(tmp_path / "mine.yaml").model.neck == "fblneck"
