"""Rank correlations with their intervals and what a sample can see; bootstrap and permutations beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
NORMAL_95 = float(stats.norm.ppf(0.975))
POWER_80 = NORMAL_95 + float(stats.norm.ppf(0.8))


@dataclass(frozen=True)
class Estimate:
    """A statistic with its 95 % interval.

    Args:
        n: Examples.
        value: NaN where it is undefined.
        low: Lower end, by Fisher's z with the delete-one jackknife's standard error, or NaN.
        high: Upper end, or NaN.
        why: Why the value, or else its interval, is undefined; empty where both are there.
        bootstrap: The percentile bootstrap's interval, where it was asked for and is defined.
        clustered: The interval whose standard error lets examples of one class depend on each other, likewise.
    """

    n: int
    value: float
    low: float = math.nan
    high: float = math.nan
    why: str = ""
    bootstrap: tuple[float, float] | None = None
    clustered: tuple[float, float] | None = None

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"undefined (n = {self.n}{f': {self.why}' if self.why else ''})"
        interval = "no interval" if math.isnan(self.low) else f"95 % interval {self.low:+.2f} to {self.high:+.2f}"
        return f"{self.value:+.2f} (n = {self.n}, {interval})"

    def as_dict(self) -> dict[str, object]:
        """For JSON; what is undefined is null there."""
        (boot_low, boot_high), (class_low, class_high) = self.bootstrap or (None, None), self.clustered or (None, None)
        return {
            "n": self.n, "value": self.value, "low": self.low, "high": self.high, "why_undefined": self.why,
            "bootstrap_low": boot_low, "bootstrap_high": boot_high,
            "clustered_low": class_low, "clustered_high": class_high,
        }  # fmt: skip

    def short(self, sign: str = "+") -> str:
        """Value and interval alone.

        Args:
            sign: `+`, or empty for a statistic that has none.
        """
        if math.isnan(self.value):
            return "undefined"
        interval = "" if math.isnan(self.low) else f" ({self.low:{sign}.2f} to {self.high:{sign}.2f})"
        return f"{self.value:{sign}.2f}{interval}"

    def as_concordance(self) -> "Estimate":
        """Somers' D as Harrell's C = (D + 1) / 2: .5 is no association."""

        def c(d: float) -> float:
            return (d + 1) / 2

        return replace(
            self, value=c(self.value), low=c(self.low), high=c(self.high),
            bootstrap=self.bootstrap and (c(self.bootstrap[0]), c(self.bootstrap[1])),
            clustered=self.clustered and (c(self.clustered[0]), c(self.clustered[1])),
        )  # fmt: skip


@dataclass(frozen=True)
class Jackknifed:
    """A statistic between -1 and 1.

    Args:
        value: Of all pairs.
        without: Of the others, for every pair, shape (n,); NaN or infinite where it is undefined.
    """

    value: float
    without: Floats

    def interval(self, classes: npt.NDArray[np.generic] | None = None) -> tuple[float, float]:
        """Fisher's z with the jackknife's standard error; NaN where leaving an example out makes z infinite.

        Var(z) is (n - 1) / n times the sum of (mean - z_k)^2. Clustered, the differences are summed within classes
        first: g / (g - 1) ((n - 1) / n)^2 times the sum of the squares; with a class an example the two are the same.

        Args:
            classes: Of each pair, shape (n,): the interval clustered by them.
        """
        n = len(self.without)
        if n < 4 or not abs(self.value) < 1 or not np.all(np.abs(self.without) < 1):
            return math.nan, math.nan
        z = np.arctanh(self.without)
        off = z.mean() - z
        if classes is not None:
            off = np.bincount(np.unique(classes, return_inverse=True)[1], weights=off)
        groups = len(off)
        error = math.sqrt(groups / (groups - 1) * float(np.square(off).sum())) * (n - 1) / n
        centre = math.atanh(self.value)
        return math.tanh(centre - NORMAL_95 * error), math.tanh(centre + NORMAL_95 * error)


class Paired:
    """Pairs of numbers, and what their rank statistics are made of. All in O(n log n).

    Deleting pair k lowers the midrank of every larger x by one and of every equal x by one half, so the sums in a
    correlation change by sums over the larger and equal pairs.

    Args:
        x: Shape (n,).
        y: Shape (n,).
    """

    def __init__(self, x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> None:
        self.x, self.y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        self.n = len(self.x)

    def why_undefined(self, x: str = "x", y: str = "y") -> str:
        """Why no rank statistic is defined; empty where they are.

        Args:
            x: What x is, for the reason.
            y: What y is.
        """
        if self.n < 3:
            return "fewer than three examples"
        same = x if np.ptp(self.x) == 0 else y if np.ptp(self.y) == 0 else ""
        return same and f"all have the same {same}"

    @cached_property
    def spearman(self) -> Jackknifed:
        """Spearman's rho: Pearson's correlation of the midranks."""
        x, y, n = self.x, self.y, self.n
        r, s = stats.rankdata(x), stats.rankdata(y)
        r_lost, r_lost_squares = _weighted_above(x, r), _squares_above(x)
        s_lost, s_lost_squares = _weighted_above(y, s), _squares_above(y)
        products = (r * s).sum() - r * s - _weighted_above(y, r) - _weighted_above(x, s) + self._both_above
        base = (n - 1) * (n / 2) ** 2
        r_variance = (r * r).sum() - r * r - 2 * r_lost + r_lost_squares - base
        s_variance = (s * s).sum() - s * s - 2 * s_lost + s_lost_squares - base
        with np.errstate(divide="ignore", invalid="ignore"):
            without = (products - base) / np.sqrt(r_variance * s_variance)
        return Jackknifed(pearson(r, s), without)

    @cached_property
    def kendall(self) -> Jackknifed:
        """Kendall's tau-b: concordant less discordant pairs, over the root of those untied in x times in y."""
        untied_x, untied_y = self._untied(self.x), self._untied(self.y)
        balance, all_x, all_y = self._balance, untied_x.sum() / 2, untied_y.sum() / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            without = (balance.sum() / 2 - balance) / np.sqrt((all_x - untied_x) * (all_y - untied_y))
        return Jackknifed(float(balance.sum() / 2 / math.sqrt(all_x * all_y)), without)

    @cached_property
    def somers(self) -> Jackknifed:
        """Somers' D of y given x: concordant less discordant pairs, over those untied in x.

        With x the steps, not reached tied on top, those are the pairs of which one is known to need more steps, so that
        (D + 1) / 2 is Harrell's C (Harrell et al. 1982) for one limit.
        """
        untied, balance = self._untied(self.x), self._balance
        with np.errstate(divide="ignore", invalid="ignore"):
            without = (balance.sum() / 2 - balance) / (untied.sum() / 2 - untied)
        return Jackknifed(float(balance.sum() / untied.sum()), without)

    @cached_property
    def _both_above(self) -> Floats:
        """For every k the sum over the others of the weights in x and y (1 if larger, one half if equal) multiplied."""
        a, b = (np.unique(side, return_inverse=True)[1] for side in (self.x, self.y))
        same = group_sizes(a * (b.max() + 1) + b) - 1
        return np.asarray(
            _larger_in_both(a, b) + 0.5 * (_larger_among_equal(a, b) + _larger_among_equal(b, a)) + 0.25 * same
        )

    @cached_property
    def _balance(self) -> Floats:
        """For every k the others that are concordant with it less those that are discordant."""
        # The weight of j is (1 + sign(x_j - x_k)) / 2, so that the product of two holds the product of the signs.
        larger_x, larger_y = self.n + 1 - 2 * stats.rankdata(self.x), self.n + 1 - 2 * stats.rankdata(self.y)
        return np.asarray(np.rint(4 * self._both_above - (self.n - 1) - larger_x - larger_y))

    def _untied(self, side: Floats) -> Floats:
        """For every k the others that differ from it."""
        return np.asarray(self.n - group_sizes(side), dtype=np.float64)


def pearson(a: Floats, b: Floats) -> float:
    """The product-moment correlation; NaN where one side is constant."""
    a, b = a - a.mean(), b - b.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def _weighted_above(x: Floats, weights: Floats) -> Floats:
    """For every k the sum of the weights where x is larger, plus half of the others' where it is equal."""
    levels, level = np.unique(x, return_inverse=True)
    sums = np.bincount(level, weights=weights, minlength=len(levels))
    above = sums[::-1].cumsum()[::-1] - sums
    return np.asarray(above[level] + 0.5 * (sums[level] - weights))


def _squares_above(x: Floats) -> Floats:
    """For every k the number of larger x, plus a quarter of the others that are equal."""
    _, level, counts = np.unique(x, return_inverse=True, return_counts=True)
    above = counts[::-1].cumsum()[::-1] - counts
    return np.asarray(above[level] + 0.25 * (counts[level] - 1))


def group_sizes(values: npt.NDArray[np.generic]) -> Places:
    """For every k how many are equal to it, itself included."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray(counts[level])


def _larger_among_equal(a: Places, b: Places) -> Places:
    """For every k the number with the same b and a larger a."""
    order = np.lexsort((-a, b))
    of_the_group = np.searchsorted(b[order], b[order])
    both = b[order] * (a.max() + 1) + (a.max() - a[order])
    result = np.empty_like(a)
    result[order] = np.searchsorted(both, both) - of_the_group
    return result


def _larger_in_both(a: Places, b: Places) -> Places:
    """For every k the number with a larger a and a larger b, both dense ranks from 0."""
    # Counts inversions bit by bit of b: among those that agree in all higher bits, the earlier ones with a 1 are
    # larger than a 0.
    order = np.lexsort((b, -a))  # larger a first; of equal ones the smaller b first, so that they never count
    values = b[order]
    larger = np.zeros_like(a)
    for bit in range(int(b.max()).bit_length()):
        agree = np.argsort(values >> (bit + 1), kind="stable")
        prefix, ones = values[agree] >> (bit + 1), (values[agree] >> bit) & 1
        before = ones.cumsum() - ones
        before -= before[np.searchsorted(prefix, prefix)]
        larger[agree] += np.where(ones == 0, before, 0)
    result = np.empty_like(a)
    result[order] = larger
    return result


def spearman(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> Estimate:
    """Spearman's correlation with its interval.

    Args:
        x: Shape (n,).
        y: Shape (n,).
    """
    pairs = Paired(x, y)
    if why := pairs.why_undefined():
        return Estimate(pairs.n, math.nan, why=why)
    return estimate(pairs.spearman)


def estimate(found: Jackknifed, classes: npt.NDArray[np.generic] | None = None) -> Estimate:
    """A statistic with its interval, and clustered by class where classes are given."""
    low, high = found.interval()
    if math.isnan(low):
        return Estimate(len(found.without), found.value, why=f"no interval: {_why_no_interval(found)}")
    clustered = None if classes is None else found.interval(classes)
    return Estimate(len(found.without), found.value, low, high, clustered=clustered)


def _why_no_interval(found: Jackknifed) -> str:
    if len(found.without) < 4:
        return "fewer than four examples"
    if not abs(found.value) < 1:
        return "the two orders are the same, or each other's reverse"
    return "without one of the examples it would be 1, -1 or undefined"


def partial_spearman(x: Floats, y: Floats, given: Floats) -> Estimate:
    """Spearman's correlation of x and y given a third quantity, from the three correlations.

    (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2) (1 - r_yz^2)).

    Args:
        x: Shape (n,).
        y: Shape (n,).
        given: Shape (n,).
    """
    xy, xz, yz = Paired(x, y), Paired(x, given), Paired(y, given)
    if why := xy.why_undefined("number of steps", "difficulty") or xz.why_undefined(y="initial loss"):
        return Estimate(xy.n, math.nan, why=why)

    def partial(a: Floats, b: Floats, c: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((a - b * c) / np.sqrt((1 - b * b) * (1 - c * c)))

    found = [each.spearman for each in (xy, xz, yz)]
    value = float(partial(*(np.array(each.value) for each in found)))
    if not abs(value) <= 1:
        return Estimate(xy.n, math.nan, why="steps or difficulty rank exactly as the initial loss does")
    return estimate(Jackknifed(value, partial(*(each.without for each in found))))


def not_reached_on_top(steps: Floats, limit: int) -> Floats:
    """Counts of steps with -1 (never reached) as limit + 1, where they all tie above every real count."""
    return np.where(steps < 0, limit + 1, steps).astype(np.float64)


def smallest_visible(n: int) -> float:
    """The smallest correlation that n pairs tell from zero in 80 % of samples (two-sided, p < .05), by Fisher's z.

    NaN for fewer than four pairs.
    """
    return math.tanh(POWER_80 / math.sqrt(n - 3)) if n > 3 else math.nan


def pairs_to_see(rho: float) -> int:
    """How many pairs tell a correlation from zero in 80 % of samples; the inverse of `smallest_visible`."""
    return math.ceil((POWER_80 / math.atanh(abs(rho))) ** 2 + 3)


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
