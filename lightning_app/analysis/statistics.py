"""Rank statistics that know what "never reached" means."""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

Floats = npt.NDArray[np.float64]
NORMAL_95 = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with its 95 % interval.

    Args:
        n: Pairs.
        rho: NaN where it is undefined: fewer than three pairs, or one side constant.
        low: Lower end, or NaN.
        high: Upper end, or NaN.
    """

    n: int
    rho: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.rho):
            return f"undefined (n = {self.n})"
        interval = "no interval" if math.isnan(self.low) else f"95 % interval {self.low:+.2f} to {self.high:+.2f}"
        return f"{self.rho:+.2f} (n = {self.n}, {interval})"


def not_reached_on_top(steps: Floats, limit: int) -> Floats:
    """Counts of steps with -1 (never reached) as limit + 1, where they all tie above every real count."""
    return np.where(steps < 0, limit + 1, steps).astype(np.float64)


def spearman(x: Sequence[float] | Floats, y: Sequence[float] | Floats) -> Correlation:
    """Spearman's correlation; the interval is Fisher's z with the delete-one jackknife's standard error.

    Args:
        x: Shape (n,).
        y: Shape (n,).
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    n = len(a)
    if n < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(n, math.nan, math.nan, math.nan)
    rho = float(stats.spearmanr(a, b).statistic)
    without = delete_one_spearman(a, b)
    if n < 4 or not np.all(np.abs(without) < 1) or not abs(rho) < 1:
        return Correlation(n, rho, math.nan, math.nan)
    z = np.arctanh(without)
    error = math.sqrt((n - 1) / n * float(np.square(z - z.mean()).sum()))
    centre = math.atanh(rho)
    return Correlation(n, rho, math.tanh(centre - NORMAL_95 * error), math.tanh(centre + NORMAL_95 * error))


def delete_one_spearman(x: Floats, y: Floats) -> Floats:
    """Spearman's correlation of the n - 1 other pairs, for every pair, in O(n log n).

    Deleting pair k lowers the midrank of every larger x by one and of every equal x by one half, so the sums in the
    correlation change by sums over the larger and equal pairs.

    Args:
        x: Shape (n,).
        y: Shape (n,).

    Returns:
        Shape (n,); NaN where the rest is constant.
    """
    n = len(x)
    r, s = stats.rankdata(x), stats.rankdata(y)
    r_lost, r_lost_squares = _weighted_above(x, r), _squares_above(x)
    s_lost, s_lost_squares = _weighted_above(y, s), _squares_above(y)
    products = (r * s).sum() - r * s - _weighted_above(y, r) - _weighted_above(x, s) + _both_above(x, y)
    mean = n / 2
    base = (n - 1) * mean * mean
    r_variance = (r * r).sum() - r * r - 2 * r_lost + r_lost_squares - base
    s_variance = (s * s).sum() - s * s - 2 * s_lost + s_lost_squares - base
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((products - base) / np.sqrt(r_variance * s_variance))


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


def _both_above(x: Floats, y: Floats) -> Floats:
    """For every k the sum over the others of the weights in x and y (1 if larger, one half if equal) multiplied."""
    result = np.zeros(len(x))
    larger: list[float] = []
    order = np.argsort(-x, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(x[order])) + 1):
        equal = sorted(y[group].tolist())
        for k, value in zip(group.tolist(), y[group].tolist(), strict=True):
            result[k] = _above(larger, value) + 0.5 * (_above(equal, value) - 0.5)
        for value in equal:
            insort(larger, value)
    return result


def _above(ordered: list[float], value: float) -> float:
    left, right = bisect_left(ordered, value), bisect_right(ordered, value)
    return len(ordered) - right + 0.5 * (right - left)


POWER_80 = NORMAL_95 + float(stats.norm.ppf(0.8))


def smallest_visible(n: int) -> float:
    """The smallest correlation that n pairs tell from zero in 80 % of samples (two-sided, p < .05), by Fisher's z.

    NaN for fewer than four pairs.
    """
    return math.tanh(POWER_80 / math.sqrt(n - 3)) if n > 3 else math.nan


def pairs_to_see(rho: float) -> int:
    """How many pairs tell a correlation from zero in 80 % of samples; the inverse of `smallest_visible`."""
    return math.ceil((POWER_80 / math.atanh(abs(rho))) ** 2 + 3)
