import math

import numpy as np
import pytest
from scipy import stats

from lightning_app.analysis.forecast import (
    Curve,
    cost_of_steps,
    forecast,
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


def test_what_was_seen_is_exact() -> None:
    curve = power(1.0, 1.0, 100)
    assert curve.steps_to(0.1) == 10
    assert curve.steps_to(0.01) == 100
    assert curve.steps_to(2.0) == 1


@pytest.mark.parametrize(("factor", "p"), [(1.0, 1.0), (0.3, 1.2), (2.0, 0.8)])
def test_a_power_of_the_step_is_extrapolated_to_its_closed_form(factor: float, p: float) -> None:
    curve = power(factor, p, 200)
    for threshold in (1e-3, 1e-4, 1e-6):
        steps = (factor / threshold) ** (1 / p)
        assert curve.steps_to(threshold) == pytest.approx(math.ceil(steps) if steps <= 200 else steps, rel=1e-6)


def test_the_tail_counts_and_not_what_was_before() -> None:
    steps = np.arange(1, 1001.0)
    late = Curve(np.where(steps < 500, 5.0, 0.5 / steps), False, 1)
    assert late.steps_to(1e-4) == pytest.approx(5000)


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
def test_a_curve_that_shows_no_tail_never_comes(losses: np.ndarray) -> None:
    curve = Curve(losses, False, 1)
    assert curve.steps_to(1e-4) == math.inf
    assert not curve.shows_its_tail


def test_an_ended_curve_is_not_extrapolated() -> None:
    assert power(1.0, 1.0, 100, ended=True).steps_to(1e-3) == math.inf
    assert Curve(np.array([1.0, math.inf]), True, 1).steps_to(0.5) == math.inf


def test_it_never_comes_before_what_was_seen() -> None:
    steep = power(1.0, 1.0, 100)
    assert steep.steps_to(0.00999) == pytest.approx(101, abs=0.2)
    bumpy = Curve(np.append(steep.losses[:-1], 0.02), False, 1)
    assert bumpy.steps_to(0.0105) == 96  # seen


def test_a_share_is_jeffreys_predictive() -> None:
    interval = share_of_rest(25, 50, 150)
    chance = np.random.default_rng(0)
    p = chance.beta(25.5, 25.5, 200_000)
    drawn = chance.binomial(150, p) / 150
    assert interval.value == 0.5
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(drawn, (0.1, 0.9))), abs=0.011)
    assert share_of_rest(50, 50, 1000).high == 1
    assert 0.95 < share_of_rest(50, 50, 1000).low < 1
    assert share_of_rest(3, 10, 0) == share_of_rest(3, 10, 0).times(1)
    assert share_of_rest(3, 10, 0).low == 0.3


@pytest.mark.parametrize(("q", "left"), [(0.5, 150), (0.9, 150), (0.5, 7), (0.9, 5000)])
def test_a_quantile_of_the_rest_is_held_in_four_of_five(q: float, left: int) -> None:
    chance = np.random.default_rng(2)
    held = []
    for _ in range(300):
        steps = np.exp(chance.normal(5, 1, 50 + left))
        interval = quantile_of_rest(steps[:50], q, left)
        held.append(interval.low <= np.sort(steps[50:])[math.ceil(q * left) - 1] <= interval.high)
    assert 0.74 < np.mean(held) < 0.86


def test_quantiles_know_never() -> None:
    steps = np.array([10.0] * 20 + [math.inf] * 30)
    assert quantile_of_rest(steps, 0.5, 100).value == math.inf
    assert quantile_of_rest(steps, 0.5, 100).high == math.inf
    assert quantile_of_rest(steps, 0.2, 100).value == pytest.approx(10)
    assert quantile_of_rest(np.array([1.0, 2, 3]), 0.5, 0).value == pytest.approx(2)
    few = quantile_of_rest(np.arange(1, 11.0), 0.9, 1000)
    assert few.high == math.inf  # ten pilot examples can't bound it
    assert few.value == pytest.approx(9.5, abs=0.1)


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
        power(1.0, 1.0, 100, ended=True, seconds=0.5 + 100 * 0.01),  # reached 0.01
        power(3.0, 1.0, 100, seconds=0.5 + 100 * 0.01),  # would take 300
        power(9.0, 1.0, 150, seconds=0.5 + 150 * 0.01),  # 900: more than are allowed
        Curve(np.array([1.0, math.nan]), True, 0.5 + 2 * 0.01),  # diverged
        Curve(np.full(100, 2.0), False, 0.5 + 100 * 0.01),  # stands still
    ]
    assert steps_taken(curves, 0.01, 500) == pytest.approx([100, 300, 500, 2, 500], rel=1e-6)
    assert cost_of_steps(curves) == pytest.approx((0.5, 0.01))
    assert seconds_taken(curves, 0.01, 500) == pytest.approx([1.5, 3.5, 5.5, 0.52, 5.5], rel=1e-6)
    slow = [Curve(curve.losses, curve.ended, 2 * curve.seconds if i == 1 else curve.seconds)
            for i, curve in enumerate(curves)]  # fmt: skip
    assert seconds_taken(slow, 0.01, 500)[1] > 1.5 * seconds_taken(curves, 0.01, 500)[1]


def test_all_of_it_together() -> None:
    factors = np.exp(0.5 * stats.norm.ppf((np.arange(50) + 0.5) / 50))
    lines = forecast([power(f, 1.0, 300) for f in factors], {"1e-1": 0.1, "epsilon": 1e-3}, 1000, 10_000)
    assert lines["1e-1"].share.value == 1
    line = lines["epsilon"]
    assert line.share.value == pytest.approx(np.mean(factors <= 1))
    assert line.share.low < 0.5 < line.share.high  # of the population
    assert line.median.low < 1000 < line.median.high
    assert line.ninetieth.low < 1000 * math.exp(0.5 * stats.norm.ppf(0.9)) < line.ninetieth.high


@pytest.mark.parametrize(("steps", "rounded"), [(1.2, 2), (9.5, 10), (10, 10), (101, 110), (12_345, 13_000)])
def test_a_number_to_recommend_is_round(steps: float, rounded: int) -> None:
    assert round_up(steps) == rounded
