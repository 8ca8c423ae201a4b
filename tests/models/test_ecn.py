"""ECN's network: heads, frozen stages under torchreid's loop, deploy form, and both ways to build it."""
import pytest
import torch
import torchreid
from torch.nn import functional as F

from torchreid_nas.errors import InputError
from torchreid_nas.layers import bn_slots, modality_context
from torchreid_nas.models import ecn_resnet18, ecn_resnet34, ecn_resnet50, ecn_resnet101


def small(**changes):
    return ecn_resnet18(7, **{"pretrained": False, "width": 0.125, "feature_dim": 16, "frozen_stages": -1, **changes})


def images(count=4, seed=0):
    return torch.randn(count, 3, 64, 32, generator=torch.Generator().manual_seed(seed))


def test_the_heads_are_those_of_the_paper():
    model = small(dropout=0.0, loss="triplet").train()
    x = images()
    logits, pooled = model(x)
    embedding = F.batch_norm(model.feat(pooled), None, None, model.feat_bn.weight, model.feat_bn.bias, training=True)
    torch.testing.assert_close(logits, model.classifier(F.relu(embedding)))
    torch.testing.assert_close(model.target_feature(embedding), F.normalize(embedding))
    torch.testing.assert_close(model.embedding(x), embedding)
    assert small().train()(x).shape == (4, 7)


def test_the_dropout_comes_after_the_normalisation():
    model = small(dropout=0.5).train()
    embedding = torch.randn(3, 16)
    torch.manual_seed(0)
    feature = model.target_feature(embedding)
    kept = feature != 0
    assert 0 < kept.sum() < feature.numel()
    torch.testing.assert_close(feature[kept], 2 * F.normalize(embedding)[kept])


def test_the_test_feature_is_the_normalised_pool5():
    model = small().eval()
    feature = model(images())
    assert feature.shape == (4, model.feature_dim) == (4, 64)
    torch.testing.assert_close(feature, F.normalize(model.pool5(images())))


def test_the_paper_size():
    model = ecn_resnet50(10, pretrained=False)
    assert (model.feature_dim, model.embedding_dim) == (2048, 4096)
    assert (model.dropout.p, model.frozen_stages) == (0.5, 2)
    frozen = {name.split(".")[1] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1", "layer2"}
    assert model.eval()(torch.zeros(1, 3, 256, 128)).shape == (1, 2048)
    assert model.backbone.featuremaps(torch.zeros(1, 3, 256, 128)).shape[2:] == (8, 4)


def test_the_new_layers_start_as_the_authors_do():
    model = ecn_resnet18(300, pretrained=False)
    # Kaiming's normal distribution by the outputs.
    assert model.feat.weight.std().item() == pytest.approx((2 / 4096) ** 0.5, rel=0.02)
    assert model.classifier.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert not model.feat.bias.any() and not model.classifier.bias.any()


@pytest.mark.parametrize("frozen_stages, names", [
    (-1, []), (0, ["conv1", "bn1"]), (2, ["conv1", "bn1", "layer1", "layer2"]),
])
def test_frozen_stages_stand_still_under_torchreids_open_all_layers(frozen_stages, names):
    model = small(frozen_stages=frozen_stages)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for seed in range(2):
        # What torchreid's Engine.train does at every epoch.
        torchreid.utils.open_all_layers(model)
        optimizer.zero_grad()
        loss = model(images(seed=seed)).square().sum() + model.target_feature(model.embedding(images())).sum()
        loss.backward()
        optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {name for name in before if name.startswith(tuple(f"backbone.{part}." for part in names))} if names else set()
    assert not changed & frozen
    learnt = {name for name in before if name.endswith(("weight", "running_mean"))} - frozen
    assert learnt <= changed
    if frozen_stages == 2:
        assert any("layer2.0.downsample.1.running_mean" in name for name in frozen)


def test_the_downsampling_of_frozen_stages_follows_the_batch_as_in_the_authors_code():
    frozen, authors = small(frozen_stages=2), small(frozen_stages=2, freeze_downsample=False)
    authors.load_state_dict(frozen.state_dict())
    before = {name: value.clone() for name, value in authors.state_dict().items()}
    torchreid.utils.open_all_layers(authors)
    authors(images()).sum().backward()
    changed = {name for name, value in authors.state_dict().items() if not torch.equal(value, before[name])}
    frozen_parts = tuple(f"backbone.{part}." for part in ("conv1", "bn1", "layer1", "layer2"))
    # ResNet-18 downsamples in layer2 first.
    assert {name for name in changed if name.startswith(frozen_parts)} == {
        f"backbone.layer2.0.downsample.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert authors.backbone.layer2[0].downsample[1].weight.grad is None
    assert not any(module.training for module in authors.eval().modules())


def test_frozen_stages_stand_still_before_anybody_calls_train():
    model = small(frozen_stages=0)
    before = model.backbone.bn1.running_mean.clone()
    model(images())
    assert model.training and torch.equal(model.backbone.bn1.running_mean, before)
    assert model.backbone.layer1[0].bn1.running_mean.any()


def test_the_deployed_network_gives_the_same_features():
    model = small()
    model.train()(images())
    model.eval()
    torch.testing.assert_close(model.deploy()(images()), model(images()), rtol=1e-4, atol=1e-5)


def test_a_split_backbone_treats_the_modalities_apart():
    model = small(architecture="split").train()
    model(images(8))
    model.eval()
    with modality_context("visible"):
        visible = model(images())
    with modality_context("infrared"):
        infrared = model(images())
    assert not torch.allclose(visible, infrared)
    torch.testing.assert_close(model.deploy("infrared")(images()), infrared, rtol=1e-4, atol=1e-5)


def test_torchreid_builds_it():
    model = torchreid.models.build_model("ecn_resnet18", num_classes=3, loss="triplet", pretrained=False)
    logits, features = model.train()(images())
    assert logits.shape == (4, 3) and features.shape == (4, 512)


@pytest.mark.parametrize("changes, said", [
    ({"loss": "circle"}, "circle"), ({"frozen_stages": 5}, "frozen_stages"), ({"feature_dim": 0}, "feature_dim"),
    ({"pretrained": True, "width": 0.5}, "width 1 only"), ({"pretrained": "nowhere.pth", "width": 1.0}, "nowhere.pth"),
])
def test_impossible_arguments_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        small(**changes)


@pytest.mark.parametrize("depth, slots, dim", [(34, 36, 64), (101, 104, 256)])
def test_the_deeper_resnets_have_their_blocks(depth, slots, dim):
    factory = {34: ecn_resnet34, 101: ecn_resnet101}[depth]
    model = factory(7, pretrained=False, width=0.125, feature_dim=16, frozen_stages=-1).eval()
    assert len(bn_slots(model.backbone)) == slots and model(images(1)).shape == (1, dim)
