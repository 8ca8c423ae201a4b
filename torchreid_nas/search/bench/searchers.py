"""Searchers that judge an architecture by training it: on a table a training takes no time.

Every searcher is called alike: ``searcher(train, genes, budget, generator)``. ``train(gene)`` trains the architecture of a
gene once, with the next seed, and returns its score. A gene has a character per decision, 1 for split.
"""
from __future__ import annotations

__all__ = [
    "SEARCHERS", "Found", "Searcher", "random_search", "regularised_evolution", "thompson_sampling", "upper_confidence_bound",
]

import dataclasses
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Train = Callable[[str], float]
Array = npt.NDArray[np.float64]
# In percent of mAP: what splitting one stage may change, and what a seed may.
_EFFECT, _NOISE, _LEVEL = 1.0, 0.5, 10.0


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search ends with.

    Attributes:
        gene: the architecture.
        belief: the score that the searcher expects of every architecture that it has an opinion of.
        trainings: how many it has paid for.
    """

    gene: str
    belief: Mapping[str, float]
    trainings: int


Searcher = Callable[[Train, Sequence[str], int, np.random.Generator], Found]


def random_search(train: Train, genes: Sequence[str], budget: int, generator: np.random.Generator) -> Found:
    """Train ``budget`` architectures drawn without replacement, all once before one is trained twice; take the best mean."""
    order = [gene for _ in range(-(-budget // len(genes))) for gene in generator.permutation(np.array(genes)).tolist()]
    return _best_mean([(gene, train(gene)) for gene in order[:budget]])


def regularised_evolution(
    train: Train, genes: Sequence[str], budget: int, generator: np.random.Generator, population: int = 6, contenders: int = 3,
) -> Found:
    """Mutate the best of a few of the living, and let the oldest die (Real et al., AAAI 2019); take the best mean.

    The first ``population`` are drawn at random. The best of ``contenders`` of the living has a child, which differs in one
    decision.
    """
    trained = [(gene, train(gene)) for gene in generator.choice(np.array(genes), min(population, budget), replace=False).tolist()]
    living = deque(trained)
    while len(trained) < budget:
        chosen = generator.choice(len(living), min(contenders, len(living)), replace=False)
        parent = max((living[index] for index in chosen), key=lambda each: each[1])[0]
        place = int(generator.integers(len(parent)))
        child = parent[:place] + ("0" if parent[place] == "1" else "1") + parent[place + 1:]
        trained.append((child, train(child)))
        living.append(trained[-1])
        living.popleft()
    return _best_mean(trained)


def thompson_sampling(
    train: Train, genes: Sequence[str], budget: int, generator: np.random.Generator, prior: Sequence[float] | None = None,
) -> Found:
    """Train what a drawn line through the scores says is best (Thompson, Biometrika 1933), a line per decision.

    ``prior`` says what splitting is expected to gain by decision, in percent of mAP, such as a supernet's guess; default 0.
    """
    return _linear(train, genes, budget, prior, lambda x, mean, cov: x @ generator.multivariate_normal(mean, cov))


def upper_confidence_bound(
    train: Train, genes: Sequence[str], budget: int, generator: np.random.Generator, prior: Sequence[float] | None = None,
) -> Found:
    """Train what two deviations above the expected line is best (LinUCB: Li et al., WWW 2010); ``prior`` as for Thompson.

    The first training is drawn at random, for all architectures have the same bound without a prior.
    """
    first = generator.permutation(len(genes)) / (1000.0 * len(genes))
    return _linear(
        train, genes, budget, prior, lambda x, mean, cov: x @ mean + 2 * np.sqrt(np.einsum("ij,jk,ik->i", x, cov, x)) + first,
    )


SEARCHERS: dict[str, Searcher] = {
    "random search": random_search, "regularised evolution": regularised_evolution, "Thompson sampling": thompson_sampling,
    "upper confidence bound": upper_confidence_bound,
}
"""The searchers by the names that tables show."""


def _best_mean(trained: Sequence[tuple[str, float]]) -> Found:
    scores = defaultdict(list)
    for gene, score in trained:
        scores[gene].append(score)
    means = {gene: float(np.mean(values)) for gene, values in scores.items()}
    return Found(max(means, key=means.__getitem__), means, len(trained))


def _linear(
    train: Train, genes: Sequence[str], budget: int, prior: Sequence[float] | None,
    worth: Callable[[Array, Array, Array], Array],
) -> Found:
    """Bayesian linear regression of the scores on the decisions, the next training by ``worth``, the answer by its mean."""
    x = np.array([[1.0, *map(float, gene)] for gene in genes])
    mean = np.array([0.0, *(prior if prior is not None else [0.0] * (x.shape[1] - 1))])
    precision = np.diag([_LEVEL**-2, *([_EFFECT**-2] * (x.shape[1] - 1))])
    right = precision @ mean
    for _ in range(budget):
        covariance = np.linalg.inv(precision)
        index = int(np.argmax(worth(x, covariance @ right, covariance)))
        precision = precision + np.outer(x[index], x[index]) / _NOISE**2
        right = right + x[index] * train(genes[index]) / _NOISE**2
    expected = x @ np.linalg.solve(precision, right)
    return Found(genes[int(np.argmax(expected))], dict(zip(genes, expected.tolist())), budget)
