"""The split advisor of a run: the architecture by the statistics of the training images, before anything is trained."""
from __future__ import annotations

__all__ = ["advise", "advised_architecture"]

import dataclasses
import logging

import torch
from tabulate import tabulate

from torchreid_nas.architecture import BN_SPACE, Architecture
from torchreid_nas.config import change_config
from torchreid_nas.errors import InputError
from torchreid_nas.layers import bn_slots, norm_slots
from torchreid_nas.run.build import path_search_engine
from torchreid_nas.run.provenance import provenance
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.search.advisor import Advice, IdentityStatistics, SlotAdvice, permutation_test

_PERMUTATIONS = 199
logger = logging.getLogger(__name__)


def advise(setup: RunSetup) -> Advice:
    """Return the advice for the config's network, as it starts, on its training images; the seed is ``train.seed``.

    The gains are measured on a part of the identities, whose images are not augmented.

    Raises:
        InputError: the model has no slots to split or norms without statistics, the data lack labels or a modality.
    """
    if BN_SPACE not in setup.method.spaces:
        raise InputError(
            f"there are no slots to advise on in model.name {setup.cfg.model.name}; choose a two-stream network, such as "
            "two_stream_resnet50"
        )
    cfg = change_config(setup.cfg, {"search.space": BN_SPACE, "search.method": "paths"}, "the split advisor")
    engine = path_search_engine(dataclasses.replace(setup, cfg=cfg, method=type(setup.method)(cfg, setup.device)))
    calibration, validation = engine.held_out()
    pids = torch.cat([batch["pid"] for batch in validation])
    if len(set(pids.tolist())) < 2 or int(pids.min()) < 0:
        raise InputError(
            f"the advisor exchanges identities, and the images of {', '.join(cfg.data.sources)} name fewer than two; label them"
        )
    slots = norm_slots(engine.model.backbone)
    if slots != bn_slots(engine.model.backbone):
        raise InputError(
            "the split advisor compares what BatchNorm2d layers would count, and the backbone has other norms too; search, or "
            "name a preset as model.architecture"
        )
    layers = [engine.model.backbone.get_submodule(slot) for slot in slots]
    nothing = torch.zeros(engine.slots)
    shared = engine.identity_losses(nothing, calibration, validation)
    statistics = [IdentityStatistics(layer, pids.tolist()) for layer in layers]
    engine.model.train()
    try:
        with torch.no_grad():
            for batch in validation:
                for statistic in statistics:
                    statistic.expect(batch["pid"])
                engine.model.features(engine.precision.to_device(batch["img"]), "both")
    finally:
        for statistic in statistics:
            statistic.remove()
    found = []
    for index, (slot, statistic) in enumerate(zip(slots, statistics)):
        generator = torch.Generator().manual_seed(cfg.train.seed)
        distance, null, p = permutation_test(statistic.counts, statistic.sums, statistic.squares, _PERMUTATIONS, generator)
        alone = nothing.clone()
        alone[index] = 1
        gains = shared - engine.identity_losses(alone, calibration, validation)
        found.append(SlotAdvice(slot, distance, null, p, float(gains.mean()), float(gains.std()) / len(gains) ** 0.5))
    return Advice(tuple(found))


def advised_architecture(setup: RunSetup) -> Architecture:
    """Return the architecture that the advisor advises; config, data and seed are its source.

    Raises:
        InputError: see :func:`advise`.
    """
    architecture = advise(setup).architecture(**provenance(setup.cfg))
    logger.info(f"advised: {architecture}")
    return architecture


def advice_table(advice: Advice) -> str:
    """Return the table of an advice for a terminal."""
    rows = [
        [one.slot, f"{one.distance:.3f}", f"{one.null:.3f}", f"{one.p:.3f}", f"{one.gain:+.4f} ± {2 * one.error:.4f}",
         "split" if one.splits else "share"]
        for one in advice.slots
    ]
    headers = ["slot", "distance", "null (95 %)", "p", "gain of splitting alone", "advice"]
    return tabulate(rows, headers=headers, disable_numparse=True)
