"""What refuses a run before it takes its time: in the folder, the config and the data."""
from __future__ import annotations

__all__ = ["check", "check_needs", "is_finished", "is_stage_finished"]

from collections.abc import Sequence
from pathlib import Path

from torchreid_nas.checkpoints.load import read_weights, resolve_weights
from torchreid_nas.config import keys_that_bind
from torchreid_nas.data.registered import check_protocols
from torchreid_nas.errors import InputError
from torchreid_nas.files import check_folder
from torchreid_nas.hub.imagenet import fetch_weights, weights_of_model
from torchreid_nas.optim import check_new_layers
from torchreid_nas.run.build import provide_data
from torchreid_nas.run.data_file import check_data
from torchreid_nas.run.folder import ADVISED, SEARCHED
from torchreid_nas.run.provenance import config_fingerprint
from torchreid_nas.run.setup import RunSetup
from torchreid_nas.run.writers import check_writer


def check(setup: RunSetup, stages: Sequence[str], resume: bool) -> None:
    """Refuse what any of the stages would fail on, before the first stage takes its time.

    Args:
        setup: of the run.
        stages: in their order.
        resume: whether the stages go on with what the folder holds.

    Raises:
        InputError: a stage lacks what it needs, or would overwrite another run.
    """
    cfg, folder = setup.cfg, setup.folder
    check_folder(folder.path, "--output")
    for stage in ("search", "train"):
        if stage not in stages or not folder.stage(stage).path.exists():
            continue
        if not resume:
            raise InputError(
                f'"{folder}" already holds a {stage} stage; add --resume to go on with it, or choose another --output'
            )
        changes = _changes(setup, stage)
        if changes:
            raise InputError(
                f'the {stage} stage in "{folder}" was made with another setting ({changes[0]}); use the old one '
                "to resume, or choose another --output"
            )
    if "train" in stages and "search" not in stages:
        setup.architecture()
        if cfg.model.architecture == SEARCHED:
            _check_bound(setup, "search", f'model.architecture "{folder.architecture}"')
    if "test" in stages and "train" not in stages and not cfg.model.load_weights:
        _check_bound(setup, "train", f'model.load_weights "{folder.train.weights}"')
    if any(stage in stages and not (resume and is_stage_finished(setup, stage)) for stage in ("search", "train")):
        _fetch_pretrained(setup)
    check_needs(setup, stages)
    if resume and folder.data.exists() and not all(is_stage_finished(setup, stage) for stage in stages):
        # A search goes on for hours before the test would find that its images have changed.
        targets = cfg.data.targets if "test" in stages else []
        check_data(folder, setup.method.data(targets), cfg.data.root, cfg.data.digest == "contents")


def check_needs(setup: RunSetup, stages: Sequence[str]) -> None:
    """Refuse what :func:`check` refuses except for what the folder holds; writes the synthetic stand-in.

    A dry run leaves the folder alone and calls this function only.

    Args:
        setup: of the run.
        stages: in their order.

    Raises:
        InputError: a stage lacks what it needs.
    """
    cfg, model, method = setup.cfg, setup.cfg.model, setup.method
    check_writer(cfg.logger)
    trains = "train" in stages
    if "search" in stages:
        if model.architecture != SEARCHED:
            raise InputError(
                f'model.architecture is "{model.architecture}", so nothing would use what a search finds; '
                f'leave search out of --stages or set model.architecture {SEARCHED}'
            )
        method.check_space()
    if trains or "search" in stages:
        method.check_batch()
    if trains:
        if model.load_weights:
            read_weights(resolve_weights(model.load_weights))
        pretrained = method.pretrained()
        if isinstance(pretrained, Path):
            read_weights(pretrained)
        if "search" in stages:
            # The names of a network's parts do not depend on what the search finds.
            check_new_layers(method.build_model(1, method.plain_architecture, pretrained=False), cfg)
        elif model.architecture not in (SEARCHED, ADVISED):
            # A preset or a file that does not fit the network is refused before the data are generated.
            method.build_model(1, setup.architecture(), pretrained=False)
    elif "test" in stages:
        setup.zoo_entry(trains)
        read_weights(setup.weights(trains))
    if "test" in stages:
        if not cfg.data.targets:
            raise InputError("data.targets names no data set to test on; name one, or leave test out of --stages")
        if cfg.task == "reid":
            check_protocols(cfg.test.protocol, cfg.data.targets)
    provide_data(cfg)
    if "train" in stages[1:]:
        # A search trains on other parts of the data: only here it is known what the held-out identities leave.
        method.data([], cfg.train.holdout)
    if "test" in stages[1:]:
        method.data(cfg.data.targets)


def is_finished(setup: RunSetup, stages: Sequence[str]) -> bool:
    """Return whether a resumed run is taken over as it is, so that not even its data are needed.

    Its results are then of this very config, the ``test`` section included, and so is every stage before them. The
    certificate is what a test writes last: without it the evidence is not whole.
    """
    folder = setup.folder
    if not (folder.results.exists() and folder.certificate.exists()):
        return False
    if folder.read_results().get("config") != config_fingerprint(setup.cfg):
        return False
    made = [stage for stage in stages if stage != "test"]
    return all(folder.stage(stage).path.exists() and not _changes(setup, stage) for stage in made)


def is_stage_finished(setup: RunSetup, stage: str) -> bool:
    """Return whether a resumed run takes a stage over; a test is always made again."""
    if stage == "search":
        return setup.folder.is_searched()
    return stage == "train" and setup.folder.is_trained(setup.cfg.train.max_epoch)


def _fetch_pretrained(setup: RunSetup) -> None:
    """Fetch the ImageNet weights of networks whose weights :mod:`torchreid_nas.hub.imagenet` knows.

    Raises:
        InputError: they cannot be had.
    """
    known = weights_of_model(setup.cfg.model.name)
    if known is not None and setup.method.pretrained() is True:
        fetch_weights(known)


def _changes(setup: RunSetup, stage: str) -> list[str]:
    """Return the changed keys that the numbers of a stage in the folder follow from."""
    return setup.changes(stage, setup.method.deciding_keys(setup.cfg, stage))


def _check_bound(setup: RunSetup, stage: str, way_out: str) -> None:
    """Refuse a config under which the work of a finished stage would no longer be what it was."""
    changes = setup.changes(stage, keys_that_bind(stage))
    if changes:
        raise InputError(
            f'the {stage} stage in "{setup.folder}" was made with another setting ({changes[0]}); use the old one, or choose '
            f"another --output and set {way_out}"
        )
