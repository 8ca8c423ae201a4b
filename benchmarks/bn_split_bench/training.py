"""One training of the benchmark: a config of this folder, an architecture, a seed; scores per identity in both directions.

What is trained is what ``torchreid-nas --config benchmarks/bn_split_bench/imagenet.yaml`` trains: the engine, the data and the
optimiser come from :func:`torchreid_nas.run.build.train_engine`. Only the test differs. The features of an image are
computed once for both directions of retrieval.

Example:
    trainer = Trainer("imagenet", "choice")
    trained = trainer.train("split", seed=1)
    trained.scores.rank1, trained.scores.mean_ap
"""
from __future__ import annotations

__all__ = ["DATA", "PERSONS", "Scores", "Trained", "Trainer"]

import dataclasses
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from torch import nn

from torchreid_nas.architecture import ArchitectureSpec
from torchreid_nas.config import load_config
from torchreid_nas.data.synthetic import SyntheticSettings, write_dataset
from torchreid_nas.engine.distances import distances
from torchreid_nas.metrics import evaluate_regdb
from torchreid_nas.run.build import train_engine
from torchreid_nas.run.setup import RunSetup

FOLDER = Path(__file__).resolve().parent
DATA = Path("reid-data/bn_split_bench")

PERSONS = {"choice": 0, "report": 1000}
"""Seed of the generator by the name of the set: no person, camera, place or image of one set is in the other."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of the K test identities after the BNNeck, ``[visible → infrared, infrared → visible]``.

    Attributes:
        hits: (2, K) share of the queries of an identity whose nearest gallery image is of this identity.
        ap: (2, K) mean average precision of these queries.
    """

    hits: np.ndarray
    ap: np.ndarray

    @property
    def rank1(self) -> tuple[float, float]:
        """Rank-1 of both directions, in percent."""
        return tuple(100 * self.hits.mean(axis=1))

    @property
    def mean_ap(self) -> tuple[float, float]:
        """mAP of both directions, in percent."""
        return tuple(100 * self.ap.mean(axis=1))

    def as_lists(self) -> dict[str, list[list[float]]]:
        """Return the scores as JSON holds them, rounded to 4 digits."""
        return {"hits": self.hits.round(4).tolist(), "ap": self.ap.round(4).tolist()}


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished training.

    Attributes:
        network: what is tested, the average of the weights.
        scores: of the network.
        steps: of the optimiser.
        seconds: of training and test.
        looks: scores after the epochs that were asked for.
    """

    network: nn.Module
    scores: Scores
    steps: int
    seconds: float
    looks: dict[int, Scores]


class Trainer:
    """Trains networks of one config on one set of generated persons.

    Args:
        config: name of a config of this folder, or a path.
        persons: a key of :data:`PERSONS`.
        root: folder of the generated images; they are generated once.
        overrides: ``[KEY, VALUE, …]`` on top of the config.
    """

    def __init__(self, config: str = "imagenet", persons: str = "choice", root: Path = DATA, overrides: Sequence[str] = ()):
        path = FOLDER / f"{config}.yaml"
        self._config = path if path.exists() else Path(config)
        cfg = load_config(self._config, overrides)
        folder = root / f"{persons}_{cfg.synthetic.height}x{cfg.synthetic.width}"
        self._overrides = [*overrides, "data.root", str(folder), "synthetic.seed", str(PERSONS[persons])]
        setup = self.setup(seed=1)
        settings = {key: value for key, value in setup.cfg.synthetic.items() if key != "enabled"}
        write_dataset("regdb", folder, SyntheticSettings(**settings))
        self._test = setup.method.data(["regdb"])

    def setup(self, seed: int, overrides: Sequence[str] = ()) -> RunSetup:
        """Return the resolved config with a seed, and the method that it trains by."""
        return RunSetup.of(load_config(self._config, [*self._overrides, "train.seed", str(seed), *overrides]))

    def train(
        self, architecture: ArchitectureSpec, seed: int, overrides: Sequence[str] = (), looks: Collection[int] = (),
    ) -> Trained:
        """Train a network with ``architecture`` from the start of the config, and test it; also after the epochs ``looks``."""
        started = time.perf_counter()
        setup = self.setup(seed, overrides)
        engine = train_engine(setup, architecture)
        engine.max_epoch = setup.cfg.train.max_epoch
        seen: dict[int, Scores] = {}
        # The loop of torchreid's Engine.run, without its files and its last test.
        for epoch in range(engine.max_epoch):
            engine.epoch = epoch
            engine.train()
            if epoch + 1 in looks:
                seen[epoch + 1] = self.score(engine.evaluated_model, setup)
        network = engine.evaluated_model
        scores = self.score(network, setup)
        steps = engine.max_epoch * len(engine.train_loader)
        return Trained(network, scores, steps, time.perf_counter() - started, seen)

    def score(self, network: nn.Module, setup: RunSetup) -> Scores:
        """Test a network of a setup in both directions, in float32."""
        options = dataclasses.replace(setup.method.training_options(), ema=0.0, amp="none")
        engine = setup.method.train_class(self._test, network, options=options, **setup.method.engine_options())
        loaders = self._test.test_loader["regdb"]
        (*_, visible), v_pids, _ = engine.extract(loaders["query"])
        (*_, infrared), i_pids, _ = engine.extract(loaders["gallery"])
        matrix = distances(visible, infrared, "euclidean", normalize=True).numpy()
        forth, back = evaluate_regdb(matrix, v_pids, i_pids), evaluate_regdb(matrix.T, i_pids, v_pids)
        return Scores(
            np.stack([_by_identity(forth.queries.score("rank1"), v_pids), _by_identity(back.queries.score("rank1"), i_pids)]),
            np.stack([_by_identity(forth.queries.score("mAP"), v_pids), _by_identity(back.queries.score("mAP"), i_pids)]),
        )


def _by_identity(values: np.ndarray, pids: np.ndarray) -> np.ndarray:
    """Return the mean of the values of each identity, in the order of the identities."""
    return np.bincount(pids, weights=values) / np.bincount(pids)
