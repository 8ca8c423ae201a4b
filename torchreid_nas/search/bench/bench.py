"""SplitBench: the scores of trained networks of the BatchNorm space, so that any search is judged in seconds."""
from __future__ import annotations

__all__ = ["TABLES", "Answer", "SplitBench"]

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from torchreid_nas.architecture import BN_SPACE, SHARE, SPLIT, Architecture, ArchitectureSpec
from torchreid_nas.errors import InputError, nearest
from torchreid_nas.search.bench.noise import Components, Estimate
from torchreid_nas.search.bench.predictor import SplitPredictor
from torchreid_nas.search.bench.table import Row, Table, read_table
from torchreid_nas.slots import stages

TABLES = {name: Path(__file__).with_name(f"{name}.csv") for name in ("imagenet", "scratch")}
"""The shipped tables: MobileNetV2 from ImageNet weights, and ResNet-18 of half width from scratch."""

SCORES = ("mAP", "rank1")


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What a table says of one architecture, in percent, the mean of both directions.

    Attributes:
        mean: over the seeds.
        error: standard error of ``mean`` as a difference to another architecture of the same seeds, of a prediction its
            standard deviation.
        by_seed: the score of every training; empty for a prediction.
        identities: (K,) mean over the seeds for every test identity; None for a prediction.
        predicted: whether the architecture was not trained.
    """

    mean: float
    error: float
    by_seed: Mapping[int, float]
    identities: npt.NDArray[np.float64] | None
    predicted: bool = False


class SplitBench:
    """Scores of trained networks by architecture, seed and identity. Generated images: no figure is one of RegDB.

    The reference of :meth:`regret` is the best of the 2^5 architectures that split whole stages, each trained by all seeds.

    Args:
        table: ``"imagenet"``, the path of a table, or a :class:`Table`.
        score: what architectures are judged by, ``"mAP"`` or ``"rank1"``, the mean of both directions.

    Attributes:
        slots: names of the slots.
        stages: name, first slot and last + 1 of every stage.
        stage_wise: bits of the architectures that split whole stages.
        seeds: that trained all of these.

    Raises:
        InputError: there is no such table or score, or the table is damaged, or its stage-wise architectures lack seeds.

    Example:
        >>> bench = SplitBench("imagenet")
        >>> len(bench.slots), len(bench.stage_wise)
        (52, 32)
        >>> answer = bench.query("split")
        >>> answer.predicted, len(answer.by_seed), answer.identities.shape
        (False, 5, (400,))
    """

    def __init__(self, table: str | os.PathLike[str] | Table = "imagenet", score: str = "mAP") -> None:
        if score not in SCORES:
            raise InputError(f'there is no score "{score}", expected {" or ".join(SCORES)}{nearest(score, SCORES)}')
        if not isinstance(table, Table):
            path = TABLES.get(str(table), Path(table))
            if str(table) not in TABLES and not path.suffix:
                known = f"expected {', '.join(TABLES)} or a file{nearest(str(table), TABLES)}"
                raise InputError(f'there is no table "{table}", {known}')
            table = read_table(path)
        self.table, self.score = table, score
        self.slots: tuple[str, ...] = tuple(table.slots)
        self.stages = stages(self.slots)
        self._rows: dict[tuple[str, str], dict[int, Row]] = {}
        for row in table.rows:
            if not row.kind.startswith("long"):
                self._rows.setdefault((row.kind, row.bits), {})[row.seed] = row
        self.stage_wise = [bits for kind, bits in self._rows if kind == "stages"]
        seeds = [set(self._rows["stages", bits]) for bits in self.stage_wise]
        self.seeds = sorted(set.intersection(*seeds)) if seeds else []
        if len(self.seeds) < 2:
            raise InputError("the table holds no two seeds that trained all stage-wise architectures; train more of them")

    # -- questions ------------------------------------------------------------

    def bits(self, architecture: ArchitectureSpec) -> str:
        """Return an architecture as the table writes it: a character per slot, 1 for split.

        Raises:
            InputError: the architecture is of another space or another network.

        >>> SplitBench("imagenet").bits("first-2").rstrip("0")
        '11'
        """
        try:
            choices = Architecture.resolve(architecture, self.slots).choices
        except InputError as error:
            raise InputError(f'this table is of {self.table.facts.get("network", "another network")}: {error}') from error
        return "".join("1" if choice == SPLIT else "0" for _, choice in choices)

    def architecture(self, bits: str) -> Architecture:
        """Return the architecture that the table writes as ``bits``.

        Raises:
            InputError: ``bits`` has another length or other characters.
        """
        if len(bits) != len(self.slots) or set(bits) - {"0", "1"}:
            raise InputError(f'"{bits}" is no architecture of this table, expected {len(self.slots)} characters 0 or 1')
        return Architecture(BN_SPACE, tuple((slot, SPLIT if bit == "1" else SHARE) for slot, bit in zip(self.slots, bits)))

    def trained(self) -> list[str]:
        """Return the bits of all trained architectures, stage-wise ones first."""
        return list(dict.fromkeys(bits for kind, bits in self._rows if kind != "standardised"))

    def query(self, architecture: ArchitectureSpec, predict: bool = True) -> Answer:
        """Return the scores of an architecture, predicted (:attr:`predictor`) where it was not trained.

        Args:
            architecture: as for :func:`torchreid_nas.layers.split_batchnorm`.
            predict: answer for architectures that were not trained.

        Raises:
            InputError: of another space or network, or not trained and ``predict`` is False.
        """
        bits = self.bits(architecture)
        rows = self._find(bits)
        if rows:
            return self._answer(rows)
        if not predict:
            raise InputError(f"the architecture {bits} was not trained for this table; ask for one of trained(), or a prediction")
        mean, deviation = self.predictor.predict(self._matrix([bits]))
        return Answer(float(mean[0]), float(deviation[0]), {}, None, predicted=True)

    def standardised(self) -> Answer:
        """Return the scores of the control: all shared, the input standardised per modality.

        Raises:
            InputError: the table has no such trainings.
        """
        rows = next((rows for (kind, _), rows in self._rows.items() if kind == "standardised"), None)
        if rows is None:
            raise InputError("the table holds no trainings with standardised input; ask for an architecture")
        return self._answer(rows)

    def best(self, without_seed: int | None = None) -> Architecture:
        """Return the stage-wise architecture with the best mean over the seeds, one seed left out if asked for."""
        scores = self.scores
        kept = [index for index, seed in enumerate(self.seeds) if seed != without_seed]
        return self.architecture(self.stage_wise[int(scores[:, kept].mean(axis=(1, 2)).argmax())])

    def regret(self, architecture: ArchitectureSpec | Answer, level: float = 0.95) -> Estimate:
        """Return what is lost against the best stage-wise architecture, in percent, with an interval over seeds and identities.

        The best of many noisy scores is too good. For every seed the best is therefore chosen on the other seeds. Where
        several are nearly as good, the choice may miss the best of all, and the regret is too small by that. The variance
        of the difference has the noise of two trainings per seed, taken from the whole table, and that of the identities. A
        regret below 0 says that the architecture is better than the best that splits whole stages.

        Args:
            architecture: an architecture, or what :meth:`query` or :meth:`standardised` answered.
            level: of the interval.
        """
        answer = architecture if isinstance(architecture, Answer) else self.query(architecture)
        noise = self.components
        seeds = [seed for seed in self.seeds if seed in answer.by_seed] or self.seeds
        best = {seed: self._rows["stages", self.bits(self.best(seed))][seed].identities(self.score) for seed in seeds}
        if answer.identities is None:
            loss = float(np.mean([values.mean() for values in best.values()])) - answer.mean
            variance = answer.error**2 + noise.error(len(seeds)) ** 2 / 2
        else:
            differences = np.mean(list(best.values()), axis=0) - answer.identities
            seen = np.mean([answer.by_seed[seed] for seed in seeds])
            loss = float(np.mean(list(best.values())) - seen)
            variance = 2 * noise.of_training["architecture × seed"].value / len(seeds)
            variance += differences.var(ddof=1) / len(differences)
        freedom = (len(self.stage_wise) - 1) * (len(self.seeds) - 1)
        half = float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(variance))
        return Estimate(loss, loss - half, loss + half)

    # -- the table as a whole -------------------------------------------------

    @functools.cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """Return the scores of the stage-wise architectures, (A, S, K) by ``stage_wise``, ``seeds`` and identity, in percent."""
        return np.array([
            [self._rows["stages", bits][seed].identities(self.score) for seed in self.seeds] for bits in self.stage_wise
        ])

    @functools.cached_property
    def components(self) -> Components:
        """Return how much of the stage-wise scores is architecture, seed and identity."""
        return Components.of(self.scores)

    @functools.cached_property
    def predictor(self) -> SplitPredictor:
        """What predicts architectures that were not trained."""
        return self.fit_predictor()

    def fit_predictor(self, additive: bool = False) -> SplitPredictor:
        """Return a predictor that is fitted on all trained architectures; ``additive``: see :class:`SplitPredictor`."""
        bits = self.trained()
        # What a seed adds to all architectures is taken off: not all of them were trained by all seeds.
        by_seed = self.scores.mean(axis=(0, 2))
        added = dict(zip(self.seeds, by_seed - by_seed.mean()))
        found = [
            [score - added.get(seed, 0.0) for seed, score in self._answer(self._find(each)).by_seed.items()] for each in bits
        ]
        return SplitPredictor(
            self._matrix(bits), [float(np.mean(each)) for each in found], [len(each) for each in found],
            [(start, stop) for _, start, stop in self.stages], additive,
        )

    @property
    def kendall_between_seeds(self) -> list[float]:
        """Return the rank correlation of the stage-wise scores of every two seeds."""
        means = self.scores.mean(axis=2)
        pairs = [(one, other) for one in range(len(self.seeds)) for other in range(one)]
        return [float(stats.kendalltau(means[:, one], means[:, other]).statistic) for one, other in pairs]

    @property
    def long(self) -> dict[tuple[str, str], dict[int, dict[int, float]]]:
        """The long trainings: by kind (``"long-1024"``: of 1,024 steps) and bits the score of each seed after so many steps."""
        found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
        for row in sorted(self.table.rows, key=lambda row: (row.kind, row.bits, row.steps, row.seed)):
            if row.kind.startswith("long"):
                score = float(row.identities(self.score).mean())
                found.setdefault((row.kind, row.bits), {}).setdefault(row.steps, {})[row.seed] = score
        return found

    # -- inside ---------------------------------------------------------------

    def _find(self, bits: str) -> dict[int, Row]:
        return self._rows.get(("stages", bits)) or self._rows.get(("slots", bits)) or {}

    def _matrix(self, bits: Iterable[str]) -> npt.NDArray[np.float64]:
        return np.array([[float(bit) for bit in each] for each in bits])

    def _answer(self, rows: Mapping[int, Row]) -> Answer:
        values = {seed: rows[seed].identities(self.score) for seed in sorted(rows)}
        by_seed = {seed: float(each.mean()) for seed, each in values.items()}
        error = self.components.error(len(rows)) / np.sqrt(2)
        return Answer(float(np.mean(list(by_seed.values()))), float(error), by_seed, np.mean(list(values.values()), axis=0))
