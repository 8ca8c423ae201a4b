"""Classification: loss, learning rates and weights of the authors' recipes as a naive loop makes them, and top-k by counting."""
from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from torch import nn

from torchreid_nas.config import load_config
from torchreid_nas.engine import ClassificationEngine
from torchreid_nas.errors import InputError
from torchreid_nas.methods import make_method
from torchreid_nas.models import attach_neck, cdnet
from torchreid_nas.models.necked import class_logits
from torchreid_nas.optim import build_lr_scheduler, build_optimizer

CPU = torch.device("cpu")
NARROW = [
    "model.width", "0.125", "model.dropout", "0.0", "train.amp", "none", "train.fused", "False", "train.channels_last", "False",
]


def batch(images: int = 6, classes: int = 5, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    return {
        "img": torch.randn(images, 3, 32, 32, generator=generator),
        "pid": torch.randint(classes, (images,), generator=generator), "camid": torch.zeros(images), "impath": "",
    }


def manager(batches=()):
    loader = types.SimpleNamespace(sampler=None)
    return types.SimpleNamespace(
        train_loader=loader, test_loader={}, validation_loader=list(batches) or None, sources=["cifar100"], num_train_pids=5,
    )


def naive_loss(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Return −Σ_c q_c log p_c, mean over the batch, with q = (1 − ε) one-hot + ε / C."""
    total = torch.zeros((), dtype=logits.dtype)
    for row, label in zip(logits, labels):
        log_p = row - torch.log(torch.exp(row).sum())
        for c, value in enumerate(log_p):
            q = (1 - smoothing) * (c == int(label)) + smoothing / len(row)
            total = total - q * value
    return total / len(labels)


@pytest.mark.parametrize(("recipe", "smoothing", "decay", "rates"), [
    ("imagenet_cdnet", 0.0, 3e-5, {0: 0.1, 1: 0.097, 2: 0.09409, 10: 0.1 * 0.97**10, 239: 0.1 * 0.97**239}),
    ("cifar100_cdnet", 0.1, 5e-4, {0: 0.065, 149: 0.065, 150: 0.0065, 225: 0.00065, 300: 0.000065, 349: 0.000065}),
])
def test_loss_rates_and_weights_after_two_steps_are_those_of_the_authors_recipe(recipe, smoothing, decay, rates):
    cfg = load_config(recipe, [*NARROW, "model.small_images", "True"])
    method = make_method(cfg, CPU)
    torch.manual_seed(0)
    # In double precision: a step of rate 0.1 through BatchNorms of small batches makes rounding large.
    network = method.build_model(5, "cdnet").double()
    optimizer = build_optimizer(network, cfg)
    scheduler = build_lr_scheduler(optimizer, cfg)
    engine = ClassificationEngine(manager(), network, optimizer, scheduler, method.training_options(), **method.engine_options())
    torch.manual_seed(0)
    plain = method.build_model(5, "cdnet").double()
    velocity = {name: torch.zeros_like(value) for name, value in plain.named_parameters()}
    network.train(), plain.train()
    for step in range(2):
        data = batch(seed=step)
        data["img"] = data["img"].double()
        shown = engine.forward_backward(data)
        logits, _ = plain(data["img"])
        loss = sum(naive_loss(branch, data["pid"], smoothing) for branch in logits)
        assert shown["ce"] == pytest.approx(float(loss.detach()), rel=1e-5)
        assert len(logits) == (2 if recipe == "cifar100_cdnet" else 1)
        plain.zero_grad()
        loss.backward()
        with torch.no_grad():
            for name, value in plain.named_parameters():
                # SGD: v <- 0.9 v + (gradient + weight decay · w), w <- w − rate · v.
                velocity[name] = 0.9 * velocity[name] + value.grad + decay * value
                value -= rates[0] * velocity[name]
    for name, value in plain.named_parameters():
        torch.testing.assert_close(dict(network.named_parameters())[name], value, rtol=1e-4, atol=1e-6)
    seen = {}
    for epoch in range(cfg.train.max_epoch):
        seen[epoch] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
    assert {epoch: seen[epoch] for epoch in rates} == pytest.approx(rates, rel=1e-9)


def test_top_k_counts_the_classes_before_the_true_one():
    torch.manual_seed(0)
    network = cdnet(8, width=0.125, small_images=True, loss="triplet")
    for branch in (network.neck.global_branch, network.neck.local_branch):
        nn.init.normal_(branch.classifier.weight)
    data = [batch(8, 8, seed) for seed in range(4)]
    engine = ClassificationEngine(manager(), network)
    engine._evaluate("toy", data)
    (mean, _), (queries,) = engine.results["toy"]["logits"], engine.tested[0].queries
    logits = torch.cat([class_logits(network.eval(), one["img"]) for one in data])
    labels = torch.cat([one["pid"] for one in data])
    for k in (1, 5):
        hits = [int(label) in torch.topk(row, k).indices.tolist() for row, label in zip(logits, labels)]
        assert mean.scores[f"top{k}"] == pytest.approx(np.mean(hits)) and queries.values[f"top{k}"].tolist() == hits
    assert mean.num_valid_queries == 32


def test_the_logits_of_a_test_are_the_sum_over_the_branches():
    torch.manual_seed(0)
    network = cdnet(3, width=0.125, small_images=True, dropout=0.0).eval()
    images = batch()["img"]
    with torch.no_grad():
        features = network.neck.features(network.backbone.stage_maps(images))
        parts = network.neck.global_branch(features[0]), network.neck.local_branch(features[1])
        torch.testing.assert_close(class_logits(network, images), parts[0] + parts[1])


def test_a_network_of_torchreid_is_tested_by_its_own_classifier():
    import torchreid

    torch.manual_seed(0)
    network = torchreid.models.build_model("osnet_x0_25", 4, loss="triplet", pretrained=False).eval()
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        torch.testing.assert_close(class_logits(network, images), network.classifier(network(images)))
        necked = attach_neck(network, "plain", 4).eval()
        expected = necked.neck.classifier(network.featuremaps(images).mean((2, 3)))
        torch.testing.assert_close(class_logits(necked, images), expected)


def test_equal_logits_keep_the_order_of_the_classes():
    network = cdnet(8, width=0.125, small_images=True)
    for value in network.parameters():
        nn.init.zeros_(value)
    engine = ClassificationEngine(manager(), network)
    data = {**batch(8, 8), "pid": torch.arange(8)}
    engine._evaluate("toy", [data])
    assert engine.tested[0].queries[0].first.tolist() == list(range(8))


def test_held_out_images_are_scored_by_top_1_and_none_by_nothing():
    network = cdnet(5, width=0.125, small_images=True)
    data = batch()
    score = ClassificationEngine(manager([data]), network).validate()["score"]
    expected = (class_logits(network.eval(), data["img"]).argmax(1) == data["pid"]).float().mean()
    assert score == pytest.approx(float(expected)) and ClassificationEngine(manager(), network).validate() is None


def test_five_classes_have_no_top_5():
    engine = ClassificationEngine(manager(), cdnet(5, width=0.125, small_images=True))
    engine._evaluate("toy", [batch()])
    assert list(engine.results["toy"]["logits"][0].scores) == ["top1"]


@pytest.mark.parametrize(("label", "said"), [(7, "label 7"), (-1, "label -1")])
def test_a_label_out_of_range_is_one_sentence_in_training_and_in_a_test(label, said):
    engine = ClassificationEngine(manager(), cdnet(5, width=0.125, small_images=True, loss="triplet"))
    data = {**batch(), "pid": torch.tensor([0, 1, 2, 3, 4, label])}
    for call in (lambda: engine.losses(data), lambda: engine._evaluate("toy", [data])):
        with pytest.raises(InputError, match=f"a batch has the {said}, and the classifier has 5 classes"):
            call()


def test_a_network_with_several_classifiers_is_refused():
    import torchreid

    with pytest.raises(InputError, match="HACNN has no single classifier"):
        ClassificationEngine(manager(), torchreid.models.build_model("hacnn", 3, loss="triplet", pretrained=False))
