"""From a pilot to a forecast: what a study would reach, what it would take, what it could see. Pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from lightning_app.analysis.statistics import Floats

LEVEL = 0.8
"""Of every interval here."""
TAIL = 0.2
"""The last part of a curve, to which its tail is fitted."""
IN_THE_TAIL = 0.1
"""A curve whose last loss is above this hasn't shown its tail, and is not extrapolated."""
UNSURE = 0.015
"""The power by which an extrapolation may be off: reaching ten times as far as was seen, by 3.5 % either way. From the
curves of two small networks (docs/lab-notes.md)."""
TOO_FAR = 10
"""Times as far as was seen; beyond, the intervals are too narrow (likewise)."""
SLOWEST = 0.01
"""The power of the step below which a curve stands still."""
FARTHEST = 1e12
"""Steps; what is extrapolated beyond is never."""


@dataclass(frozen=True)
class Interval:
    """A forecast with its 80 % interval; infinite where it is never."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> "Interval":
        """In another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)

    def plus(self, known: float) -> "Interval":
        """With something known added."""
        return Interval(self.value + known, self.low + known, self.high + known)


@dataclass(frozen=True)
class Curve:
    """One example of the pilot.

    Args:
        losses: Of every step, shape (steps,).
        ended: Whether it came to its end (epsilon or a loss that is not finite); else the pilot gave it up.
        seconds: That it took.
    """

    losses: Floats
    ended: bool
    seconds: float

    def steps_to(self, threshold: float) -> Interval:
        """The first step at or below a threshold: observed, else extrapolated, else unknown.

        Plain SGD on one image drives the loss down by a power of the step, mostly near 1/step. The power and its factor
        are fitted to the last fifth of the curve by least squares in the logarithms. How far that may be off grows with
        how far it reaches; a curve that has not shown its tail may come at the next step or never.
        """
        found = np.flatnonzero(self.losses <= threshold)
        if found.size:
            return Interval(*(float(found[0] + 1),) * 3)
        if self.ended:
            return Interval(*(math.inf,) * 3)
        seen = float(len(self.losses))
        if self._tail is None:
            return Interval(math.inf, seen + 1, math.inf)
        p, b = self._tail
        exponent = (-math.log(threshold) - b) / p
        if exponent > math.log(FARTHEST):
            return Interval(*(math.inf,) * 3)
        steps = max(math.exp(exponent), seen + 1)
        off = (steps / seen) ** UNSURE
        return Interval(steps, max(steps / off, seen + 1), steps * off)

    @property
    def shows_its_tail(self) -> bool:
        """Whether it can be extrapolated."""
        return self._tail is not None

    @cached_property
    def _tail(self) -> tuple[float, float] | None:
        """Of loss = exp(-b) step^-p, the p and b; None for a curve that hasn't shown its tail."""
        before = int(len(self.losses) * (1 - TAIL))
        tail = self.losses[before:]
        if len(tail) < 5 or not tail[-1] <= IN_THE_TAIL:
            return None
        steps = np.arange(before + 1, len(self.losses) + 1)
        p, b = np.polyfit(np.log(steps), -np.log(np.maximum(tail, np.finfo(np.float64).tiny)), 1)
        return (float(p), float(b)) if p > SLOWEST else None


@dataclass(frozen=True)
class ThresholdForecast:
    """One threshold.

    Args:
        threshold: The loss.
        share: Of the examples that are left, those that reach it within the steps allowed.
        median: Steps of the median example; not bounded by the steps allowed.
        ninetieth: Steps in the 90th percentile.
    """

    threshold: float
    share: Interval
    median: Interval
    ninetieth: Interval


def forecast_thresholds(
    curves: Sequence[Curve], thresholds: Mapping[str, float], max_steps: int, left: int
) -> dict[str, ThresholdForecast]:
    """Forecasts what the examples that are left will do, from a pilot drawn like them.

    Args:
        curves: The pilot's, at least one.
        thresholds: Losses by name; none below the pilot's epsilon.
        max_steps: Steps allowed to an example.
        left: Examples that are left; with none the pilot's own numbers come back.
    """
    lines: dict[str, ThresholdForecast] = {}
    for name, threshold in thresholds.items():
        steps = [curve.steps_to(threshold) for curve in curves]
        lines[name] = ThresholdForecast(
            threshold,
            share_of_rest(steps, max_steps, left),
            quantile_of_rest(steps, 0.5, left),
            quantile_of_rest(steps, 0.9, left),
        )
    return lines


def share_of_rest(steps: Sequence[Interval], max_steps: int, left: int) -> Interval:
    """The share of the rest that comes within the steps allowed.

    The beta-binomial predictive distribution under Jeffreys' prior: its 10 % where the unsure ones of the pilot are
    late, its 90 % where they are early.

    Args:
        steps: The pilot's.
        max_steps: Steps allowed.
        left: How many are left; with none the pilot's own share comes back.
    """
    n = len(steps)
    value = sum(each.value <= max_steps for each in steps)
    late = sum(each.high <= max_steps for each in steps)
    early = sum(each.low <= max_steps for each in steps)
    share = value / n
    if not left:
        return Interval(share, late / n, early / n)
    low = float(stats.betabinom(left, late + 0.5, n - late + 0.5).ppf((1 - LEVEL) / 2)) / left
    high = float(stats.betabinom(left, early + 0.5, n - early + 0.5).ppf((1 + LEVEL) / 2)) / left
    return Interval(share, min(low, share), max(high, share))


def quantile_of_rest(steps: Sequence[Interval], q: float, left: int) -> Interval:
    """A quantile of the rest's steps.

    Pilot and rest are drawn alike, so how many of the pilot's n lie below the r-th of the rest's m is negative
    hypergeometric, whatever the distribution of steps:
    P(K = k) = C(k + r - 1, k) C(n - k + m - r, n - k) / C(n + m, n). The interval's ends lie between the pilot's values
    at which that distribution comes to 10 % and 90 %, interpolated in the logarithm, the unsure ones early and late.

    Args:
        steps: The pilot's, n of them.
        q: Which quantile.
        left: The rest's m; with none the pilot's own quantile comes back.
    """
    values, early, late = (
        np.sort(np.array(kind)) for kind in zip(*((each.value, each.low, each.high) for each in steps), strict=True)
    )
    n = len(steps)
    place = max(math.ceil(q * n) - 1, 0)
    value = float(values[place])
    if not left:
        return Interval(value, float(early[place]), float(late[place]))
    r = max(1, math.ceil(q * left))
    below = stats.nhypergeom(n + left, n, r).cdf(np.arange(n))
    low, high = (float(np.interp(p, below, np.arange(n))) for p in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    highest = math.inf if below[-1] < (1 + LEVEL) / 2 else _between(late, high)
    lowest = 1.0 if below[0] > (1 - LEVEL) / 2 else _between(early, low)
    return Interval(value, min(lowest, value), max(highest, value))


def _between(ordered: Floats, place: float) -> float:
    """The value at a place, from 0, of ordered ones, interpolated in the logarithm."""
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    if math.isinf(above):
        return float(above) if place > math.floor(place) or math.isinf(below) else float(below)
    return float(math.exp(np.interp(place - math.floor(place), (0, 1), np.log((below, above)))))


def total_of_rest(each: Sequence[float], left: int) -> Interval:
    """The sum over the rest, from the pilot's values of each, by Student's t for a mean of new draws."""
    values = np.asarray(each, dtype=np.float64)
    n, total = len(values), float(np.mean(each)) * left
    if not left or n < 2:
        return Interval(total, total, total if not left else math.inf)
    error = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * values.std(ddof=1) * math.sqrt(1 / n + 1 / left)) * left
    return Interval(total, max(total - error, 0.0), total + error)


def steps_taken(curves: Sequence[Curve], epsilon: float, max_steps: int) -> list[float]:
    """Steps that each example of the pilot takes when it is given all that are allowed."""
    return [
        float(len(curve.losses)) if curve.ended else min(curve.steps_to(epsilon).value, float(max_steps))
        for curve in curves
    ]


def seconds_taken(curves: Sequence[Curve], epsilon: float, max_steps: int) -> list[float]:
    """Seconds of each example of the pilot when it is given all the steps that are allowed: its own, stretched."""
    taken = steps_taken(curves, epsilon, max_steps)
    return [curve.seconds * steps / len(curve.losses) for curve, steps in zip(curves, taken, strict=True)]


def round_up(steps: float) -> int:
    """To two digits."""
    unit = int(10 ** max(0, math.floor(math.log10(steps)) - 1))
    return math.ceil(steps / unit) * unit
