import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from lightning_app.analysis.extrapolation import (
    UNSURE,
    Curve,
    Interval,
    forecast_thresholds,
    quantile_of_rest,
    round_up,
    seconds_taken,
    share_of_rest,
    steps_taken,
    total_of_rest,
)


def power(factor: float, p: float, steps: int, ended: bool = False, seconds: float = 1.0) -> Curve:
    """loss = factor * step^-p."""
    return Curve(factor * np.arange(1, steps + 1.0) ** -p, ended, seconds)


def known(steps: Sequence[float] | np.ndarray) -> list[Interval]:
    """Counts that were seen."""
    return [Interval(float(count), float(count), float(count)) for count in steps]


def test_what_was_seen_is_exact() -> None:
    curve = power(1.0, 1.0, 100)
    for threshold, steps in ((0.1, 10), (0.01, 100), (2.0, 1)):
        assert curve.steps_to(threshold) == Interval(steps, steps, steps)


@pytest.mark.parametrize(("factor", "p"), [(1.0, 1.0), (0.3, 1.2), (2.0, 0.8)])
def test_a_power_of_the_step_is_extrapolated_to_its_closed_form(factor: float, p: float) -> None:
    curve = power(factor, p, 200)
    for threshold in (1e-3, 1e-4, 1e-6):
        steps = (factor / threshold) ** (1 / p)
        found = curve.steps_to(threshold)
        assert found.value == pytest.approx(math.ceil(steps) if steps <= 200 else steps, rel=1e-6)
        if steps > 250:
            assert found.high / found.value == pytest.approx((steps / 200) ** UNSURE)
            assert found.value / found.low == pytest.approx((steps / 200) ** UNSURE)


def test_the_tail_counts_and_not_what_was_before() -> None:
    steps = np.arange(1, 1001.0)
    late = Curve(np.where(steps < 500, 5.0, 0.5 / steps), False, 1)
    assert late.steps_to(1e-4).value == pytest.approx(5000)


@pytest.mark.parametrize(
    "losses",
    [
        np.full(100, 1e-3),  # stands still
        np.linspace(1e-3, 1e-2, 100),  # rises
        1 / np.arange(1, 6.0),  # hasn't come to its tail
        np.array([1e-3]),
        np.array([2.0, math.nan]),
    ],
)
def test_of_a_curve_that_shows_no_tail_nobody_knows(losses: np.ndarray) -> None:
    curve = Curve(losses, False, 1)
    assert curve.steps_to(1e-4) == Interval(math.inf, len(losses) + 1, math.inf)
    assert not curve.shows_its_tail


def test_an_ended_curve_is_not_extrapolated() -> None:
    never = Interval(math.inf, math.inf, math.inf)
    assert power(1.0, 1.0, 100, ended=True).steps_to(1e-3) == never
    assert Curve(np.array([1.0, math.inf]), True, 1).steps_to(0.5) == never


def test_it_never_comes_before_what_was_seen() -> None:
    steep = power(1.0, 1.0, 100)
    assert steep.steps_to(0.00999).value == pytest.approx(101, abs=0.2)
    assert steep.steps_to(0.00999).low == 101
    bumpy = Curve(np.append(steep.losses[:-1], 0.02), False, 1)
    assert bumpy.steps_to(0.0105).value == 96  # seen


def test_a_share_is_jeffreys_predictive() -> None:
    interval = share_of_rest(known([1.0] * 25 + [9.0] * 25), 5, 150)
    chance = np.random.default_rng(0)
    p = chance.beta(25.5, 25.5, 200_000)
    drawn = chance.binomial(150, p) / 150
    assert interval.value == 0.5
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(drawn, (0.1, 0.9))), abs=0.011)
    whole = share_of_rest(known([1.0] * 50), 5, 1000)
    assert whole.high == 1
    assert 0.95 < whole.low < 1
    assert share_of_rest(known([1.0] * 3 + [9.0] * 7), 5, 0) == Interval(0.3, 0.3, 0.3)
    few = share_of_rest(known([1.0] * 49 + [9.0]), 5, 3)
    assert few.low <= few.value <= few.high


def test_a_share_is_wide_where_the_pilot_is_unsure() -> None:
    unsure = [Interval(6.0, 4.0, 9.0)] * 10 + [Interval(1.0, 1.0, 1.0)] * 40
    interval = share_of_rest(unsure, 5, 10_000)
    assert interval.value == 0.8
    assert interval.low < 0.8
    assert interval.high > 0.98
    nobody_knows = [Interval(math.inf, 101, math.inf)] * 50
    assert share_of_rest(nobody_knows, 1000, 100).low == 0
    assert share_of_rest(nobody_knows, 1000, 100).high == 1
    assert share_of_rest(nobody_knows, 100, 100).high < 0.1  # they were given that many


@pytest.mark.parametrize(("q", "left"), [(0.5, 150), (0.9, 150), (0.5, 7), (0.9, 5000)])
def test_a_quantile_of_the_rest_is_held_in_four_of_five(q: float, left: int) -> None:
    chance = np.random.default_rng(2)
    held = []
    for _ in range(120):
        steps = np.exp(chance.normal(5, 1, 50 + left))
        interval = quantile_of_rest(known(steps[:50]), q, left)
        held.append(interval.low <= np.sort(steps[50:])[math.ceil(q * left) - 1] <= interval.high)
    assert 0.7 < np.mean(held) < 0.9


def test_quantiles_know_never() -> None:
    steps = known([10.0] * 20 + [math.inf] * 30)
    assert quantile_of_rest(steps, 0.5, 100).value == math.inf
    assert quantile_of_rest(steps, 0.5, 100).high == math.inf
    assert quantile_of_rest(steps, 0.2, 100).value == pytest.approx(10)
    assert quantile_of_rest(known([1.0, 2, 3]), 0.5, 0) == Interval(2, 2, 2)
    few = quantile_of_rest(known(np.arange(1, 11.0)), 0.9, 1000)
    assert few.high == math.inf  # ten pilot examples can't bound it
    assert few.value == 9
    unsure = quantile_of_rest([Interval(10.0, 8.0, 13.0)] * 50, 0.5, 1000)
    assert (unsure.low, unsure.value, unsure.high) == pytest.approx((8, 10, 13))


def test_a_total_is_students() -> None:
    chance = np.random.default_rng(4)
    held = []
    for _ in range(1000):
        values = chance.normal(100, 20, 20 + 80)
        interval = total_of_rest(values[:20].tolist(), 80)
        held.append(interval.low <= values[20:].sum() <= interval.high)
    assert 0.76 < np.mean(held) < 0.84
    assert total_of_rest([3.0, 5.0], 0).high == 0
    assert total_of_rest([0.0, 0.0, 100.0], 5).low == 0


def test_steps_and_seconds_are_those_of_all_the_steps_allowed() -> None:
    curves = [
        power(1.0, 1.0, 100, ended=True, seconds=1.0),  # reached 0.01
        power(3.0, 1.0, 100, seconds=1.0),  # would take 300
        power(9.0, 1.0, 150, seconds=3.0),  # 900: more than are allowed
        Curve(np.array([1.0, math.nan]), True, 0.1),  # diverged
        Curve(np.full(100, 2.0), False, 1.0),  # stands still
    ]
    assert steps_taken(curves, 0.01, 500) == pytest.approx([100, 300, 500, 2, 500], rel=1e-6)
    assert seconds_taken(curves, 0.01, 500) == pytest.approx([1, 3, 10, 0.1, 5], rel=1e-6)


def test_all_of_it_together() -> None:
    factors = np.exp(0.5 * stats.norm.ppf((np.arange(50) + 0.5) / 50))
    lines = forecast_thresholds([power(f, 1.0, 300) for f in factors], {"1e-1": 0.1, "epsilon": 1e-3}, 1000, 10_000)
    assert lines["1e-1"].share.value == 1
    line = lines["epsilon"]
    assert line.share.value == pytest.approx(np.mean(factors <= 1))
    assert line.share.low < 0.5 < line.share.high  # of the population
    assert line.median.low < 1000 < line.median.high
    assert line.ninetieth.low < 1000 * math.exp(0.5 * stats.norm.ppf(0.9)) < line.ninetieth.high


@pytest.mark.parametrize(("steps", "rounded"), [(1.2, 2), (9.5, 10), (10, 10), (101, 110), (12_345, 13_000)])
def test_a_number_to_recommend_is_round(steps: float, rounded: int) -> None:
    assert round_up(steps) == rounded
