"""DomainAdaptationEngine: its step by hand, its schedules, its memory, unsupervised training, and torchreid's own manager."""
import copy

import pytest
import torch
import torchreid
from tiny import TINY_ECN
from torch.nn import functional as F

from torchreid_nas.data import DomainAdaptationDataManager
from torchreid_nas.engine import AdaptationOptions, DomainAdaptationEngine
from torchreid_nas.errors import InputError
from torchreid_nas.losses import ExemplarMemory, InvarianceLoss
from torchreid_nas.models import ecn_resnet18
from torchreid_nas.run.build import train_engine
from torchreid_nas.run.setup import RunSetup


def engine_of(tiny_config, **changes):
    engine = train_engine(RunSetup.of(tiny_config(**{**TINY_ECN, **changes})))
    engine.epoch, engine.max_epoch = 0, 3
    return engine


def histories(engine, folder, epochs=2):
    from torchreid_nas.report import read_history

    engine.run(save_dir=folder, max_epoch=epochs)
    return read_history(folder / "history.jsonl")


def test_a_step_is_that_of_the_paper(tiny_config):
    engine = engine_of(tiny_config, **{"model.dropout": 0.0, "ecn.weight_target": 0.3, "ecn.camstyle": "none"})
    batch = next(iter(engine.train_loader))
    model = copy.deepcopy(engine.model).train()
    engine.model.train()
    engine.epoch = 2
    engine.memory.initialize(torch.randn(engine.memory.num_samples, 16))
    memory = copy.deepcopy(engine.memory)
    engine.forward_backward(batch)

    slots = torch.tensor([engine._entries[path] for path in batch["target"]["impath"]])
    ce = F.cross_entropy(model(batch["img"]), batch["pid"])
    feature = F.normalize(model.embedding(batch["target"]["img"]))
    invariance = InvarianceLoss(memory, 0.05, 4)(feature, slots)
    (0.7 * ce + 0.3 * invariance).backward()
    # After the step the engine's gradients are still there.
    for (name, mine), other in zip(model.named_parameters(), engine.model.parameters()):
        torch.testing.assert_close(other.grad, mine.grad, rtol=1e-4, atol=1e-6, msg=name)
    memory.update(feature, slots, momentum=0.02)
    torch.testing.assert_close(engine.memory.features, memory.features)


def test_the_neighbours_set_in_at_their_epoch_and_the_memory_fades_by_its_own(tiny_config):
    engine = engine_of(tiny_config, **{"ecn.neighbour_epoch": 2, "ecn.momentum_step": 0.4})
    seen = []
    engine.criterion_t.forward = lambda features, slots, neighbours: seen.append(neighbours) or features.sum()
    engine.memory.update = lambda features, slots, momentum: seen.append(momentum)
    batch = next(iter(engine.train_loader))
    for engine.epoch in range(4):
        engine.forward_backward(batch)
    assert seen == [False, 0.0, False, 0.4, True, 0.8, True, 0.99]


def test_until_its_epoch_the_target_takes_no_part(tiny_config, tmp_path):
    changes = {"ecn.target_epoch": 2, "ecn.momentum_step": 0.4, "train.max_epoch": 4, "ecn.neighbour_epoch": 0}
    adapted, plain = engine_of(tiny_config, **changes), engine_of(tiny_config, **{**changes, "ecn.weight_target": 0.0})
    seen, update = [], adapted.memory.update
    adapted.memory.update = lambda *args, momentum: seen.append((adapted.epoch, momentum)) or update(*args, momentum=momentum)
    rows, source_rows = histories(adapted, tmp_path / "adapted", 4), histories(plain, tmp_path / "plain", 4)
    assert [row["ce"] for row in rows[:2]] == [row["ce"] for row in source_rows[:2]]
    assert ["invariance" in row for row in rows] == ["neighbour_precision" in row for row in rows] == [False, False, True, True]
    # α counts the epochs that the memory has seen.
    assert set(seen) == {(2, 0.0), (3, 0.4)}
    first, second = (torch.load(tmp_path / run / "source.pth", weights_only=True) for run in ("adapted", "plain"))
    assert set(first) == set(second) and first["epoch"] == 2
    assert all(torch.equal(value, second["model"][name]) for name, value in first["model"].items())


def test_the_slots_are_the_targets_training_images(tiny_config):
    engine = engine_of(tiny_config)
    market = torchreid.data.datasets.init_image_dataset(
        "market1501", root=str(engine.datamanager._datasets["market1501"].train[0][0]).split("/market1501")[0],
        verbose=False,
    )
    assert set(engine._entries) == {item[0] for item in market.train}
    assert engine.memory.num_samples == len(market.train) and sorted(engine._entries.values()) == list(range(len(market.train)))


def test_an_epoch_fills_the_memory(tiny_config, tmp_path):
    engine = engine_of(tiny_config, **{"ecn.epoch_length": "target"})
    rows = histories(engine, tmp_path / "run")
    filled = engine.memory.features.norm(dim=1) > 0
    # The last, incomplete batch is dropped, as in every training loader.
    assert filled.float().mean() > 0.9
    torch.testing.assert_close(engine.memory.features[filled].norm(dim=1), torch.ones(int(filled.sum())))
    assert set(rows[0]) == {"epoch", "ce", "invariance", "lr", "seconds"}
    assert 0 <= rows[1]["neighbour_precision"] <= 1


def test_the_precision_of_neighbours_counts_other_slots_alone(tiny_config):
    engine = engine_of(tiny_config)
    slots, k = engine.memory.num_samples, engine.adaptation.num_neighbours
    engine.memory.initialize(torch.randn(slots, engine.memory.dim, generator=torch.Generator().manual_seed(0)))
    features, pids = engine.memory.features.cpu(), engine._pids.tolist()
    same = [
        pids[other] == pids[slot] for slot in range(slots)
        for other in (features @ features[slot]).argsort(descending=True)[:k].tolist() if other != slot
    ]
    assert len(same) == slots * (k - 1)
    assert engine._neighbour_precision() == pytest.approx(sum(same) / len(same))


def test_without_the_target_it_is_plain_training_on_the_source(tiny_config, tmp_path):
    engine = engine_of(tiny_config, **{"ecn.weight_target": 0.0})
    assert engine.memory is None and engine.datamanager.train_loader_t is None
    batch = next(iter(engine.train_loader))
    assert "target" not in batch
    assert set(histories(engine, tmp_path / "run", 1)[0]) == {"epoch", "ce", "lr", "seconds"}


def test_labels_of_the_target_are_never_trained_on(tiny_config, tmp_path, monkeypatch):
    found = []
    for shuffled in (False, True):
        engine = engine_of(tiny_config)
        if shuffled:
            engine._pids = engine._pids.flip(0)
            items = engine.datamanager.train_loader_t.dataset.data
            items[:] = [(path, 0, camid, dsetid) for path, _, camid, dsetid in items]
        engine.run(save_dir=tmp_path / str(shuffled), max_epoch=2)
        found.append(engine.model.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_unsupervised_visible_infrared_reads_no_label_at_all(tiny_config, tmp_path):
    changes = {
        "data.sources": ["regdb"], "data.targets": ["regdb", "regdb_ir2vis"], "data.height": 48, "data.width": 24,
        "ecn.weight_target": 1.0, "model.architecture": "split", "ecn.memory_init": "features",
    }
    found = []
    for shuffled in (False, True):
        engine = engine_of(tiny_config, **changes)
        batch = next(iter(engine.train_loader))
        assert batch["modality"].tolist() == [0] * 4 + [1] * 4
        assert engine.criterion_t.num_groups == 2
        if shuffled:
            for dataset in (engine.datamanager.trainset, engine.datamanager.train_loader_t.dataset):
                dataset.data[:] = [(path, 0, camid, dsetid) for path, _, camid, dsetid in dataset.data]
        (row, *_) = histories(engine, tmp_path / str(shuffled))
        assert "ce" not in row
        found.append(engine.model.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


REGDB = {"data.sources": ["regdb"], "data.targets": ["regdb"], "data.height": 48, "data.width": 24, "model.architecture": "split"}


@pytest.mark.parametrize("frozen_stages", [-1, 2])
def test_with_split_batchnorms_a_step_goes_through_each_modalitys_own(tiny_config, frozen_stages):
    engine = engine_of(tiny_config, **REGDB, **{"model.dropout": 0.0, "ecn.camstyle": "none"})
    engine.model.frozen_stages = frozen_stages
    engine.model.train()
    batch = next(iter(engine.train_loader))
    assert batch["modality"].tolist() == batch["target"]["modality"].tolist() == [0] * 4 + [1] * 4
    seen, own = [], engine.model.backbone.bn1
    for name in ("visible", "infrared"):
        getattr(own, name).register_forward_hook(lambda _, args, __, name=name: seen.append((name, len(args[0]))))
    engine.forward_backward(batch)
    assert seen == [("visible", 4), ("infrared", 4)] * 2


def test_a_batch_of_one_modality_goes_through_its_own_batchnorms_alone(tiny_config):
    engine = engine_of(tiny_config, **REGDB)
    engine.model.train()
    data = next(iter(engine.train_loader))
    infrared = {"img": data["img"][4:], "pid": data["pid"][4:], "modality": data["modality"][4:]}
    before = copy.deepcopy(engine.model.backbone.bn1)
    engine.losses(infrared)
    assert torch.equal(before.visible.running_mean, engine.model.backbone.bn1.visible.running_mean)
    assert not torch.equal(before.infrared.running_mean, engine.model.backbone.bn1.infrared.running_mean)


def test_a_shuffle_of_both_modalities_is_refused_where_batchnorms_are_split(tiny_config):
    engine = engine_of(tiny_config, **REGDB)
    data = next(iter(engine.train_loader))
    order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])
    shuffled = {"img": data["img"][order], "pid": data["pid"][order], "modality": data["modality"][order]}
    with pytest.raises(InputError, match="equal halves.*model.architecture none"):
        engine.losses(shuffled)
    assert engine_of(tiny_config, **{**REGDB, "model.architecture": "none"}).losses(shuffled)["ce"].isfinite()


def test_the_memory_can_start_from_features(tiny_config):
    engine = engine_of(tiny_config, **{"ecn.memory_init": "features", "model.dropout": 0.0})
    engine.begin_epoch()
    model = copy.deepcopy(engine.model).eval()
    items = list(engine.datamanager.target_images().dataset)[:5]
    with torch.no_grad():
        expected = F.normalize(model.embedding(torch.stack([item["img"] for item in items])))
    torch.testing.assert_close(engine.memory.features[:5], expected, rtol=1e-4, atol=1e-5)
    # A resumed run does not begin anew.
    engine.epoch = 1
    engine.memory.features.zero_()
    engine.begin_epoch()
    assert not engine.memory.features.any()


@pytest.mark.parametrize("target_epoch", [0, 1, 2])
def test_it_goes_on_with_memory_and_graph_network(tiny_config, tmp_path, target_epoch):
    """Killed after the target set in, and, with 2, just before."""
    changes = {
        "ecn.positive_prediction": True, "ecn.num_candidates": 12, "ecn.momentum_step": 0.1,
        "ecn.target_epoch": target_epoch, "ecn.memory_init": "features" if target_epoch else "zeros",
    }
    whole, first, second = (engine_of(tiny_config, **changes) for _ in range(3))
    whole.run(save_dir=tmp_path / "whole", max_epoch=3)
    save = DomainAdaptationEngine.save_checkpoint

    def killed(engine, folder):
        save(engine, folder)
        if engine.epoch == 1:
            raise KeyboardInterrupt

    first.save_checkpoint = lambda folder: killed(first, folder)
    with pytest.raises(KeyboardInterrupt):
        first.run(save_dir=tmp_path / "parts", max_epoch=3)
    second.run(save_dir=tmp_path / "parts", max_epoch=3, start_epoch=second.resume(tmp_path / "parts"))
    for mine, other in ((whole.model, second.model), (whole.memory, second.memory),
                        (whole._positives.network, second._positives.network)):
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in mine.state_dict().items())


def test_a_checkpoint_of_another_target_is_refused(tiny_config):
    engine = engine_of(tiny_config)
    state = engine.state_dict()
    state["memory"] = ExemplarMemory(3, 16).state_dict()
    with pytest.raises(InputError, match="exemplar memory"):
        engine_of(tiny_config).load_state_dict(state)


@pytest.mark.parametrize("memory_init", ["zeros", "features"])
def test_it_runs_with_torchreids_own_manager(data_root, tmp_path, memory_init):
    data = torchreid.data.ImageDataManager(
        root=str(data_root), sources="dukemtmcreid", targets="market1501", height=64, width=32, batch_size_train=8,
        batch_size_test=32, workers=0, load_train_targets=True, use_gpu=False, transforms=["random_flip"],
    )
    model = ecn_resnet18(data.num_train_pids, pretrained=False, width=0.125, feature_dim=16, frozen_stages=-1)
    optimizer = torchreid.optim.build_optimizer(model, optim="sgd", lr=0.01)
    engine = DomainAdaptationEngine(
        data, model, optimizer,
        adaptation=AdaptationOptions(num_neighbours=3, neighbour_epoch=0, memory_init=memory_init),
    )
    if memory_init == "features":
        engine.epoch = 0
        start = copy.deepcopy(model).eval()
        engine.begin_epoch()
        item = torchreid.data.datasets.init_image_dataset(
            "market1501", root=str(data_root), transform=data.transform_te, verbose=False
        )[5]
        expected = F.normalize(start.embedding(item["img"][None]))[0]
        torch.testing.assert_close(engine.memory.features[engine._entries[item["impath"]]], expected, rtol=1e-4, atol=1e-5)
    engine.run(save_dir=tmp_path / "run", max_epoch=1)
    assert engine.memory.features.any()
    assert 0 < engine.results["market1501"]["test feature"][0].mAP < 1


def test_a_batch_larger_than_the_target_is_refused(data_root):
    with pytest.raises(InputError, match="batch_size_target"):
        DomainAdaptationDataManager(
            root=str(data_root), sources="dukemtmcreid", targets=[], height=64, width=32, batch_size_train=8, workers=0,
            load_train_targets=["market1501"], batch_size_target=512,
        )


def test_an_unknown_kind_of_camera_styles_is_refused(data_root):
    with pytest.raises(InputError, match='did you mean "fourier"'):
        DomainAdaptationDataManager(
            root=str(data_root), sources="dukemtmcreid", targets=[], height=64, width=32, batch_size_train=8, workers=0,
            load_train_targets=["market1501"], camstyle="fourir",
        )


def test_a_fixed_share_of_an_entry_is_kept_from_the_start(tiny_config):
    engine = engine_of(tiny_config, **{"ecn.momentum": 0.5, "ecn.momentum_step": 0.0})
    seen = []
    engine.memory.update = lambda features, slots, momentum: seen.append(momentum)
    batch = next(iter(engine.train_loader))
    for engine.epoch in range(2):
        engine.forward_backward(batch)
    assert seen == [0.5, 0.5]


def test_without_a_memory_the_images_of_the_batch_are_the_classes(tiny_config, tmp_path):
    changes = {"ecn.exemplars": "batch", "ecn.memory_init": "features", "model.dropout": 0.0, "ecn.camstyle": "none"}
    engine = engine_of(tiny_config, **changes)
    batch = next(iter(engine.train_loader))
    model = copy.deepcopy(engine.model).train()
    engine.model.train()
    engine.epoch = 1
    terms = engine.losses(batch)
    feature = F.normalize(model.embedding(batch["target"]["img"])).detach()
    logits = feature @ feature.T / 0.05
    target = torch.eye(len(feature)).index_put_((torch.arange(len(feature))[:, None], logits.topk(4).indices), torch.tensor(0.25))
    target.fill_diagonal_(1.0)
    expected = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(terms["invariance"], 0.3 * expected, rtol=1e-4, atol=1e-5)
    assert "neighbour_precision" not in histories(engine_of(tiny_config, **changes), tmp_path)[-1]
