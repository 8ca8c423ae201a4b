"""``torchreid-nas verify``: whether a run's figures follow from what its folder holds."""
from __future__ import annotations

__all__ = ["Finding", "verify_run"]

import dataclasses
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torchreid_nas.config import load_config
from torchreid_nas.engine.scoring import score_features
from torchreid_nas.errors import InputError
from torchreid_nas.evidence.certificate import FORMAT, digest_of_galleries, digest_of_items, sealed
from torchreid_nas.evidence.feature_store import load_test_features
from torchreid_nas.evidence.store import load_scores
from torchreid_nas.files import file_digest, read_json
from torchreid_nas.metrics.scores import find_score, row_scores
from torchreid_nas.run.build import evaluation_engine, read_data
from torchreid_nas.run.folder import RunFolder
from torchreid_nas.run.results import result_row
from torchreid_nas.run.setup import RunSetup

_TOLERANCE = 1e-6
"""Largest difference of a figure, a fraction, between machines: products of matrices round differently."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was verified.

    Attributes:
        what: for example "weights".
        agrees: whether it agrees; None where it could not be looked at.
        said: one sentence.
    """

    what: str
    agrees: bool | None
    said: str


def verify_run(path: str | Path, full: bool = False, root: str | Path | None = None, device: str | None = None) -> list[Finding]:
    """Verify the figures of a run against its certificate, scores, features and, with ``full``, its images.

    Args:
        path: folder of a run that was tested.
        full: extract the features from the images again.
        root: of the data; default the config's.
        device: for ``full``; default the config's.

    Returns:
        What agrees and what does not, in the order in which it was looked at.

    Raises:
        InputError: the folder holds no certificate, or ``full`` finds no data.
    """
    folder = RunFolder(Path(path).expanduser())
    if not folder.path.is_dir():
        raise InputError(f'there is no folder "{path}"; name the --output of a run')
    if not folder.certificate.is_file():
        raise InputError(
            f'"{path}" holds no {folder.certificate.name}, so there is nothing to verify against; test the run again with this '
            "version (--stages test)"
        )
    certificate = _read(folder.certificate)
    findings = [_seal(certificate)]
    if not findings[0].agrees:
        return findings
    findings += [_file(folder, name, file) for name, file in certificate["files"].items()]
    findings += _attempt("figures from scores", lambda: _from_scores(folder))
    if "features" in certificate["files"]:
        findings += _attempt("figures from features", lambda: _from_features(folder, certificate))
    else:
        findings.append(Finding("features", None, "the run keeps no features (test.keep_features); --full computes them again"))
    findings += _attempt("lists of images", lambda: _lists(folder, certificate, root))
    if full:
        findings += _from_images(folder, certificate, root, device)
    return findings


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except InputError:
        return {}
    return content if isinstance(content, dict) and content.get("format") == FORMAT else {}


def _seal(certificate: Mapping[str, Any]) -> Finding:
    if not certificate or not sealed(certificate):
        return Finding("certificate", False, "the certificate is not the one that the test wrote; nothing can be verified by it")
    return Finding("certificate", True, "is as the test wrote it")


def _file(folder: RunFolder, name: str, file: Mapping[str, str]) -> Finding:
    path = folder.path / file["name"]
    if not path.is_file():
        if Path(file["name"]).is_absolute():
            return Finding(name, None, f"{file['name']} lies outside of the run and is not there")
        return Finding(name, False, f"{file['name']} is not there")
    same = file_digest(path, "sha256") == file["sha256"]
    return Finding(name, same, f"{file['name']} {'is the file of the test' if same else 'has changed since the test'}")


def _rows(folder: RunFolder) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {_key(row): row for row in folder.read_results()["results"]}


def _key(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what tells an entry of ``results.json`` from the others: target, protocol and feature."""
    return row["dataset"], row["protocol"], row["feature"]


def _attempt(what: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Return what a check finds; an error that it ends in is a disagreement."""
    try:
        return check()
    except (InputError, OSError, RuntimeError, ValueError, KeyError, TypeError, IndexError) as error:
        said = str(error) if isinstance(error, InputError) else f"cannot be computed ({type(error).__name__}: {error})"
        return [Finding(what, False, said)]


def _from_scores(folder: RunFolder) -> list[Finding]:
    stored = {(test.dataset, test.protocol, test.feature): test for test in load_scores(folder.scores)}
    wrong = [
        f"{', '.join(key)}, {find_score(name).title}"
        for key, row in _rows(folder).items() for name, value in row_scores(row).items() if stored[key].mean(name) != value
    ]
    said = "follow from the scores of the queries, to the bit"
    if wrong:
        said = f"do not follow from the scores of the queries: {'; '.join(wrong)}"
    return [Finding("figures from scores", not wrong, said)]


def _from_features(folder: RunFolder, certificate: Mapping[str, Any]) -> list[Finding]:
    cfg = load_config(folder.config)
    rows = {(row["dataset"], row["protocol_name"], row["feature"]): row for row in _rows(folder).values()}
    tests = {(test["dataset"], test["protocol"]): test for test in certificate["tests"]}
    largest, findings = 0.0, []
    for scored in load_test_features(folder.test_features):
        for test in scored.tests:
            if digest_of_galleries(test.galleries) != tests[scored.dataset, test.protocol.name]["galleries"]:
                said = f"the galleries of {scored.dataset} are not those of the certificate"
                findings.append(Finding("gallery draws", False, said))
        results, _ = score_features(
            scored, cfg.test.dist_metric, cfg.test.normalize_feature, cfg.test.rerank, cfg.test.matrix_gib * 2**30
        )
        for result in results:
            for name, value in row_scores(rows[result.dataset, result.test.protocol.name, result.feature]).items():
                largest = max(largest, abs(find_score(name).value(result.mean) - value))
    return [*findings, _difference("figures from features", largest)]


def _lists(folder: RunFolder, certificate: Mapping[str, Any], root: str | Path | None) -> list[Finding]:
    # The lists need no accelerator, and the machine that verifies may lack the one that the test had.
    cfg = _config(folder, root, "cpu")
    if not Path(cfg.data.root).is_dir():
        said = f'not looked at: the data are not at "{cfg.data.root}"; name their folder by --root'
        return [Finding("lists of images", None, said)]
    data = read_data(RunSetup.of(cfg), cfg.data.targets)
    findings = []
    for test in {test["dataset"]: test for test in certificate["tests"]}.values():
        items = data.test_dataset[test["dataset"]]
        for part in ("query", "gallery"):
            same = digest_of_items(items[part], cfg.data.root) == test[part]
            said = f"the {part} images of {test['dataset']} are {'' if same else 'not '}those of the test"
            findings.append(Finding("lists of images", same, said))
    return findings


def _from_images(folder: RunFolder, certificate: Mapping[str, Any], root: str | Path | None, device: str | None) -> list[Finding]:
    """Test again, in a folder of its own, and compare."""
    cfg = _config(folder, root, device)
    setup = RunSetup.of(cfg)
    # model.load_weights names what a training started from, or what was tested without one: the certificate says which.
    trained_here = folder.path / certificate["files"]["weights"]["name"] == folder.train.weights
    engine = evaluation_engine(setup, trains=trained_here)
    with tempfile.TemporaryDirectory() as scratch:
        engine.run(
            save_dir=scratch, test_only=True, dist_metric=cfg.test.dist_metric, normalize_feature=cfg.test.normalize_feature,
            ranks=cfg.test.ranks, rerank=cfg.test.rerank,
        )

    def compared() -> list[Finding]:
        rows, largest = _rows(folder), 0.0
        for result in engine.tested:
            row = result_row(cfg, engine.datamanager, result)
            again, own = row_scores(row), row_scores(rows[_key(row)])
            largest = max(largest, *(abs(again[name] - value) for name, value in own.items()))
        return [_difference("figures from images", largest)]

    return _attempt("figures from images", compared)


def _difference(what: str, largest: float) -> Finding:
    if largest == 0:
        return Finding(what, True, "are the same, to the bit")
    agrees = largest <= _TOLERANCE
    return Finding(what, agrees, f"differ by up to {largest:.1e}{' (rounding)' if agrees else ''}")


def _config(folder: RunFolder, root: str | Path | None, device: str | None = None) -> Any:
    given = {"data.root": root, "device": device, "data.save_dir": str(folder.path)}
    return load_config(folder.config, [word for key, value in given.items() if value is not None for word in (key, str(value))])
