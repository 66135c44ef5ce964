"""How steps follow difficulty: every statistic that the report gives, with resampling beside the closed forms."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from lightning_app.analysis.statistics import Estimate, Floats, Paired, Places, estimate, group_sizes

BOOTSTRAP_DRAWS = 2_000
MAX_RESAMPLED = 2_000
"""Examples up to which intervals are bootstrapped too; above, that would take minutes."""
PERMUTATIONS = 9_999
MIN_CLASSES = 50
"""With two examples or more; with 10 classes an interval clustered by class covers 89 % instead of 95."""
DRAWS_AT_A_TIME = 250


@dataclass(frozen=True)
class Association:
    """How steps follow difficulty.

    Args:
        n: Examples.
        tied: Those of them that need as many steps as another one (not reached are all tied).
        spearman: Rank correlation.
        kendall: Tau-b.
        concordance: Harrell's C: of pairs that need different steps, the share in which the harder one needs more;
            above .5 harder takes more steps.
        p: Of a rank correlation as far from zero if steps had nothing to do with difficulty; NaN where undefined.
        p_by: How it was found.
        classes: With two examples or more, if the intervals have been clustered by them; else 0.
    """

    n: int
    tied: int
    spearman: Estimate
    kendall: Estimate
    concordance: Estimate
    p: float
    p_by: str
    classes: int

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "n": self.n,
            "tied": self.tied,
            "spearman": self.spearman.as_dict(),
            "kendall": self.kendall.as_dict(),
            "concordance": self.concordance.as_dict(),
            "p": self.p,
            "p_by": self.p_by,
            "clusters": self.classes,
        }


def associate(steps: Floats, rank: Floats, labels: Floats, seed: int = 0) -> Association:
    """Every statistic of steps against difficulty.

    Args:
        steps: Not reached on top, shape (n,).
        rank: Universal difficulty, shape (n,).
        labels: Classes, NaN where not known, shape (n,).
        seed: Of bootstrap and permutations.
    """
    order = np.lexsort((labels, steps, rank))  # that of the rows says nothing, and is not to choose what is drawn
    steps, rank, labels = steps[order], rank[order], labels[order]
    pairs = Paired(steps, rank)
    n, tied = pairs.n, int((group_sizes(pairs.x) > 1).sum())
    if why := pairs.why_undefined("number of steps", "difficulty"):
        undefined = Estimate(n, math.nan, why=why)
        return Association(n, tied, undefined, undefined, undefined, math.nan, "", 0)
    classes = _large_classes(labels)
    groups = labels if classes else None
    found = [estimate(each, groups) for each in (pairs.spearman, pairs.kendall, pairs.somers)]
    if n <= MAX_RESAMPLED:
        draws = bootstrap(pairs, seed)
        found = [replace(each, bootstrap=percentiles(drawn)) for each, drawn in zip(found, draws, strict=True)]
    rho, tau, d = found
    return Association(n, tied, rho, tau, d.as_concordance(), *permutation_p(pairs, seed), classes)


def _large_classes(labels: Floats) -> int:
    """How many classes have two examples or more; 0 where that is too few to cluster by, or a class isn't known."""
    if np.isnan(labels).any():
        return 0
    classes = int((np.unique(labels, return_counts=True)[1] > 1).sum())
    return classes if classes >= MIN_CLASSES else 0


def bootstrap(pairs: Paired, seed: int, draws: int = BOOTSTRAP_DRAWS) -> Floats:
    """Spearman's rho, Kendall's tau-b and Somers' D of resampled pairs, shape (3, draws).

    A resample is a weight for every pair; the statistics of the weighted pairs need no new sorting.

    Args:
        pairs: Of n.
        seed: Of the draws.
        draws: How many.
    """
    chance = np.random.default_rng(seed)
    n = pairs.n
    signs = (np.sign(np.subtract.outer(side, side)).astype(np.float32) for side in (pairs.x, pairs.y))
    concordant = np.multiply(*signs)
    found = np.empty((3, draws))
    for start in range(0, draws, DRAWS_AT_A_TIME):
        some = min(DRAWS_AT_A_TIME, draws - start)
        drawn = chance.integers(n, size=(some, n)) + n * np.arange(some)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=some * n).reshape(some, n)
        (x, x_tied), (y, y_tied) = (_weighted_ranks(side, weights) for side in (pairs.x, pairs.y))
        # The sums are whole numbers below 2^24: exact in float32.
        balance = np.einsum("dn,dn->d", weights.astype(np.float32) @ concordant, weights, dtype=np.float64) / 2
        every = n * (n - 1) / 2
        scale = np.sqrt(np.einsum("dn,dn,dn->d", weights, x, x) * np.einsum("dn,dn,dn->d", weights, y, y))
        with np.errstate(divide="ignore", invalid="ignore"):
            found[:, start : start + some] = (
                np.einsum("dn,dn,dn->d", weights, x, y) / scale,
                balance / np.sqrt((every - x_tied) * (every - y_tied)),
                balance / (every - x_tied),
            )
    return found


def _weighted_ranks(x: Floats, weights: Places) -> tuple[Floats, Floats]:
    """Midranks less their mean of pairs that count several times, shape (draws, n), and tied pairs, shape (draws,)."""
    level = np.unique(x, return_inverse=True)[1]
    order = np.argsort(level, kind="stable")
    starts = np.searchsorted(level[order], np.arange(level.max() + 1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks = sizes.cumsum(axis=1) - (sizes - 1) / 2 - (len(x) + 1) / 2
    return ranks[:, level], (sizes * (sizes - 1)).sum(axis=1) / 2


def percentiles(draws: Floats) -> tuple[float, float] | None:
    """The middle 95 %; None where more than 5 % of the draws are undefined."""
    defined = draws[np.isfinite(draws)]
    if len(defined) < 0.95 * len(draws):
        return None
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)


def permutation_p(pairs: Paired, seed: int) -> tuple[float, str]:
    """The two-sided p of a rank correlation, and how it was found.

    By permuting y among the pairs. Of x, those that tie in the largest group add the same to every permutation; where
    more than 2,000 others are left, by the normal limit: Spearman's rho has mean 0 and variance 1 / (n - 1), ties or
    not.

    Args:
        pairs: Of n.
        seed: Of the permutations.
    """
    rho, n = abs(pairs.spearman.value), pairs.n
    r, s = (ranks - ranks.mean() for ranks in (stats.rankdata(pairs.x), stats.rankdata(pairs.y)))
    as_far = rho * math.sqrt(float(r @ r) * float(s @ s)) * (1 - 1e-12)
    sizes = group_sizes(pairs.x)
    largest = r[np.argmax(sizes)]
    others = r[r != largest] - largest
    if len(others) > MAX_RESAMPLED:
        return float(2 * stats.norm.sf(rho * math.sqrt(n - 1))), "the normal limit of permutations"
    chance = np.random.default_rng(seed)
    found = 0
    if n <= MAX_RESAMPLED:
        for start in range(0, PERMUTATIONS, DRAWS_AT_A_TIME):
            some = min(DRAWS_AT_A_TIME, PERMUTATIONS - start)
            drawn = chance.permuted(np.tile(s, (some, 1)), axis=1)[:, : len(others)]
            found += int((np.abs(drawn @ others) >= as_far).sum())
    else:  # the few that count, drawn alone
        for _ in range(PERMUTATIONS):
            found += abs(float(s[chance.choice(n, len(others), replace=False)] @ others)) >= as_far
    return (found + 1) / (PERMUTATIONS + 1), "permutations"
