"""How far two rankings agree, and how far one ranking would agree with that of another such pool."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
import numpy.typing as npt

from lightning_app.analysis.statistics import Estimate, Floats, pearson, spearman
from lightning_app.errors import BadInputError
from lightning_app.pool.difficulty import average_ranks
from lightning_app.pool.matrix import Pool

HALVES = 100
EXTREME = 0.1
"""The share of the images that is called the easiest, or the hardest."""

IMAGES_AT_A_TIME = 4096


@dataclass(frozen=True)
class Reliability:
    """How far a ranking is that of its pool and not of its images.

    Args:
        halves: How often the models were split: at random, or in every way where there are no more than 100.
        models: In each half.
        split_half: Mean Spearman correlation of the two halves' rankings; NaN where undefined.
        low: 5 % of the splits are below.
        high: 5 % are above.
        reliability: Of the whole pool's ranking, by Spearman and Brown: k r / (1 + (k - 1) r) for a pool k times as
            large as a half (Spearman 1910, Brown 1910).
        ceiling: The square root of the reliability: about the largest correlation that anything whose errors are
            independent of the pool's can have with this ranking.
        reason: Why they are undefined, else empty.
    """

    halves: int
    models: int
    split_half: float
    low: float
    high: float
    reliability: float
    ceiling: float
    reason: str = ""

    def __str__(self) -> str:
        if self.reason:
            return f"undefined: {self.reason}"
        spread = f" ({self.low:.3f} to {self.high:.3f} in 90 % of {self.halves} splits)" if self.halves > 1 else ""
        return (
            f"two halves of the models ({self.models} each) rank alike with Spearman {self.split_half:.3f}{spread}; the"
            f" whole pool's reliability is about {self.reliability:.3f} (Spearman-Brown), so a correlation with it can"
            f" be about {self.ceiling:.3f} at most, for errors independent of the pool's"
        )


def reliability(pool: Pool, seed: int) -> Reliability:
    """Splits the models into random halves and compares the halves' rankings.

    Each half ranks as the pool does: by how many get an image wrong, ties by mean loss where there are losses. Images
    that are still equal stay ties.

    Args:
        pool: Of M models and N images.
        seed: Of the splits.
    """
    models = len(pool.names) // 2
    if models < 1:
        return _undefined(0, "it takes two models or more")
    chance = np.random.default_rng(seed)
    splits = list(islice(_all_splits(len(pool.names), models), HALVES + 1))
    if len(splits) > HALVES:
        orders = [chance.permutation(len(pool.names)).tolist() for _ in range(HALVES)]
        splits = [(order[:models], order[models : 2 * models]) for order in orders]
    first, second = np.zeros((2, len(splits), len(pool.names)))
    for k, (one, other) in enumerate(splits):
        first[k, one] = 1
        second[k, other] = 1
    ranks = [_ranks_by(half, pool) for half in (first, second)]
    found = np.array([pearson(a, b) for a, b in zip(*ranks, strict=True)])
    if np.isnan(found).any():
        return _undefined(models, "a half of the models gives all images the same difficulty")
    r = float(found.mean())
    low, high = (float(q) for q in np.quantile(found, (0.05, 0.95)))
    if r <= 0:
        reason = f"the halves' rankings are not correlated (Spearman {r:+.3f})"
        return Reliability(len(splits), models, r, low, high, math.nan, math.nan, reason)
    times = len(pool.names) / models
    whole = times * r / (1 + (times - 1) * r)
    return Reliability(len(splits), models, r, low, high, whole, math.sqrt(whole))


def _all_splits(models: int, half: int) -> Iterator[tuple[list[int], list[int]]]:
    """Every pair of disjoint halves, once."""
    for one in combinations(range(models), half):
        rest = [model for model in range(models) if model not in one]
        yield from ((list(one), list(other)) for other in combinations(rest, half) if one < other)


def _undefined(models: int, reason: str) -> Reliability:
    return Reliability(0, models, *(math.nan,) * 5, reason)


def _ranks_by(halves: Floats, pool: Pool) -> Iterator[Floats]:
    """Each half's ranks of the images; halves has shape (splits, models) of 0 and 1."""
    n_correct = _sums(halves, pool.correct)
    losses = np.zeros((len(halves), 1)) if pool.losses is None else _sums(halves, pool.losses)
    yield from (average_ranks(right, loss) for right, loss in zip(n_correct, losses, strict=True))


def _sums(halves: Floats, values: npt.NDArray[np.generic]) -> Floats:
    """Halves @ values, a block of images at a time: the matrix stays on the disk."""
    sums = np.empty((len(halves), values.shape[1]))
    for start in range(0, values.shape[1], IMAGES_AT_A_TIME):
        block = slice(start, start + IMAGES_AT_A_TIME)
        largest = float(np.finfo(np.float32).max)  # 0 times infinity is not 0
        finite = np.nan_to_num(values[:, block].astype(np.float64), nan=largest, posinf=largest)
        sums[:, block] = halves @ finite
    return sums


@dataclass(frozen=True)
class Agreement:
    """Two rankings of the same images.

    Args:
        joined_by: How their paths were matched, in words.
        only_first: Images that the second doesn't have.
        only_second: The other way around.
        correlation: Spearman's, over the images in common.
        easiest: The share of the easiest tenth of the one that is in the easiest tenth of the other.
        hardest: The same for the hardest.
        chance: What both would be for unrelated rankings: a tenth, as near as the number of images allows.
    """

    joined_by: str
    only_first: int
    only_second: int
    correlation: Estimate
    easiest: float
    hardest: float
    chance: float


JOINS: Mapping[str, Callable[[str], str]] = {
    "path": lambda path: path,
    "class folder and file name": lambda path: "/".join(path.replace("\\", "/").split("/")[-2:]),
    "file name": lambda path: path.replace("\\", "/").rsplit("/", 1)[-1],
}
"""How paths of two machines may be matched, the strictest first."""
HALF = 0.5
"""A stricter match is good enough that finds this share of what the loosest finds."""


def agree(first: Mapping[str, float], second: Mapping[str, float]) -> Agreement:
    """Compares two rankings.

    Where images tie across the limit of a tenth, each belongs to it with equal chance, and the overlap is what is to be
    expected.

    Args:
        first: Rank by path; ties are fine.
        second: The other one.

    Raises:
        BadInputError: If they have no image in common.
    """
    joined = {words: (_unique(first, key), _unique(second, key)) for words, key in JOINS.items()}
    counts = {words: len(a.keys() & b.keys()) for words, (a, b) in joined.items()}
    words = next(words for words, count in counts.items() if count >= HALF * max(counts.values()))
    a, b = joined[words]
    both = sorted(a.keys() & b.keys())
    if not both:
        raise BadInputError(
            f"--against: the two rankings have no image in common (such as {next(iter(first))!r} and"
            f" {next(iter(second))!r}); they are joined by path, or by its end"
        )
    x, y = (np.array([ranks[name] for name in both], dtype=np.float64) for ranks in (a, b))
    tenth = max(1, round(EXTREME * len(both)))
    return Agreement(
        joined_by=words,
        only_first=len(first) - len(both),
        only_second=len(second) - len(both),
        correlation=spearman(x, y),
        easiest=float(_lowest(x, tenth) @ _lowest(y, tenth)) / tenth,
        hardest=float(_lowest(-x, tenth) @ _lowest(-y, tenth)) / tenth,
        chance=tenth / len(both),
    )


def _unique(ranks: Mapping[str, float], key: Callable[[str], str]) -> dict[str, float]:
    """Ranks by key, without the images whose key is also another's."""
    count = Counter(map(key, ranks))
    return {key(path): rank for path, rank in ranks.items() if count[key(path)] == 1}


def _lowest(x: Floats, k: int) -> Floats:
    """The chance of each to be among the k lowest, ties broken at random; sums to k."""
    limit = np.partition(x, k - 1)[k - 1]
    below, at = x < limit, x == limit
    return np.asarray(below + at * (k - below.sum()) / at.sum(), dtype=np.float64)
