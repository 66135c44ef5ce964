import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_app.analysis.statistics import (
    Jackknifed,
    Paired,
    estimate,
    not_reached_on_top,
    pairs_to_see,
    partial_spearman,
    smallest_visible,
    spearman,
)

Floats = npt.NDArray[np.float64]

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=25)


def sides(sample: list[tuple[int, int]]) -> tuple[Floats, Floats]:
    x, y = np.array(sample, dtype=np.float64).T
    return x, y


def by_hand(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Spearman's rho, Kendall's tau-b and Somers' D, by scipy."""
    found = stats.spearmanr(x, y).statistic, stats.kendalltau(x, y).statistic, stats.somersd(x, y).statistic
    return float(found[0]), float(found[1]), float(found[2])


@given(pairs)
@settings(max_examples=100, deadline=None)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:An input array is constant")
def test_every_statistic_and_its_delete_one_values_are_brute_force(sample: list[tuple[int, int]]) -> None:
    x, y = sides(sample)
    if not (np.ptp(x) and np.ptp(y)):
        return
    found = Paired(x, y)
    ours = (found.spearman, found.kendall, found.somers)
    assert [each.value for each in ours] == pytest.approx(by_hand(x, y), abs=1e-9)
    for k in range(len(x)):
        rest_x, rest_y = np.delete(x, k), np.delete(y, k)
        if np.ptp(rest_x) and np.ptp(rest_y):
            assert [each.without[k] for each in ours] == pytest.approx(by_hand(rest_x, rest_y), abs=1e-9)
        else:
            assert not abs(found.spearman.without[k]) < 1  # nan or infinite: no interval is made of it


def test_the_interval_is_fishers_z_with_the_jackknifes_error() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    z = [np.arctanh(stats.spearmanr(np.delete(x, k), np.delete(y, k)).statistic) for k in range(40)]
    error = math.sqrt(39 / 40 * sum((v - np.mean(z)) ** 2 for v in z))
    result = spearman(x, y)
    centre = math.atanh(stats.spearmanr(x, y).statistic)
    assert result.n == 40
    assert result.value == pytest.approx(math.tanh(centre))
    assert result.low == pytest.approx(math.tanh(centre - 1.959964 * error), abs=1e-6)
    assert result.high == pytest.approx(math.tanh(centre + 1.959964 * error), abs=1e-6)


def test_the_interval_covers() -> None:
    """About 95 % of the intervals of 400 samples of 100 hold the population's value, with and without censoring."""
    rng = np.random.default_rng(1)
    rho = 0.3
    for limit in (math.inf, 1.3):  # none, about 10 % above the limit
        a = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], size=200_000)
        truth = float(stats.spearmanr(np.minimum(a[:, 0], limit), a[:, 1]).statistic)
        hits = 0
        for k in range(400):
            sample = a[100 * k : 100 * (k + 1)]
            result = spearman(np.minimum(sample[:, 0], limit), sample[:, 1])
            hits += bool(result.low <= truth <= result.high)
        assert 0.92 <= hits / 400 <= 0.98


def test_clustered_by_an_example_a_class_changes_nothing() -> None:
    chance = np.random.default_rng(0)
    found = Paired(chance.normal(size=80), chance.normal(size=80)).spearman
    assert found.interval(np.arange(80.0)) == pytest.approx(found.interval())


def test_the_partial_correlation_is_that_of_the_residuals_of_the_ranks() -> None:
    chance = np.random.default_rng(2)
    given_ = chance.normal(size=300)
    x, y = given_ + chance.normal(size=300), given_ + chance.normal(size=300)
    r, s, t = (stats.rankdata(side) for side in (x, y, given_))
    residuals = [side - np.polyval(np.polyfit(t, side, 1), t) for side in (r, s)]
    found = partial_spearman(x, y, given_)
    assert found.value == pytest.approx(stats.pearsonr(*residuals).statistic, abs=1e-9)
    assert found.low < found.value < found.high
    assert spearman(x, y).value > 0.35 > 0.2 > abs(found.value)


@pytest.mark.parametrize("given_", [[1.0, 2, 3, 4, 5], [2.0, 2, 2, 2, 2]])
def test_a_partial_correlation_without_anything_left_is_undefined_and_says_why(given_: list[float]) -> None:
    found = partial_spearman(np.arange(5.0), np.array([1.0, 3, 2, 4, 5]), np.array(given_))
    assert math.isnan(found.value)
    assert found.why


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        ([], [], "fewer than three examples"),
        ([1, 2], [1, 2], "fewer than three examples"),
        ([1, 1, 1], [1, 2, 3], "all have the same x"),
        ([1, 2, 3], [4, 4, 4], "all have the same y"),
    ],
)
def test_undefined_is_nan_with_a_reason(x: list[float], y: list[float], why: str) -> None:
    result = spearman(x, y)
    assert math.isnan(result.value)
    assert str(result) == f"undefined (n = {len(x)}: {why})"
    assert result.as_dict()["why_undefined"] == why


def test_a_perfect_correlation_has_no_interval() -> None:
    result = spearman([1, 2, 3, 4], [1, 2, 3, 5])
    assert result.value == pytest.approx(1)
    assert math.isnan(result.low)
    assert "no interval" in str(result)
    assert result.why == "no interval: the two orders are the same, or each other's reverse"
    some = estimate(Jackknifed(0.9, np.array([1.0, 0.8, 0.9, 0.7])), np.arange(4.0))
    assert some.why == "no interval: without one of the examples it would be 1, -1 or undefined"
    assert some.clustered is None
    assert spearman([1, 2, 3], [1, 3, 2]).why == "no interval: fewer than four examples"


def test_minus_one_as_a_number_has_the_wrong_sign() -> None:
    """Harder images take more steps; the hardest never get there. Left in as -1 they turn the correlation around."""
    difficulty = np.arange(100.0)
    steps = np.where(difficulty < 40, difficulty + 1, -1)
    assert spearman(steps, difficulty).value < 0
    assert spearman(not_reached_on_top(steps, 50), difficulty).value > 0.8


def test_dropping_what_was_not_reached_shrinks_the_correlation() -> None:
    """As measured once: of .152 with 29 % not reached on top, .102 is left without them, -.047 with them as -1."""
    chance = np.random.default_rng(0)
    difficulty = chance.normal(size=100_000)
    hardness = 0.175 * difficulty + chance.normal(size=100_000)
    limit = float(np.quantile(hardness, 0.71))
    steps, reached = np.where(hardness > limit, -1e9, hardness), hardness <= limit
    on_top = spearman(np.where(reached, steps, 1e9), difficulty).value
    dropped = spearman(steps[reached], difficulty[reached]).value
    assert on_top > 1.3 * dropped > 0 > spearman(steps, difficulty).value


def test_not_reached_ties_above_every_count() -> None:
    assert not_reached_on_top(np.array([3.0, -1, 50, -1]), 50).tolist() == [3, 51, 50, 51]


def test_what_a_sample_can_see() -> None:
    assert [pairs_to_see(rho) for rho in (0.10, 0.15, -0.15, 0.3)] == [783, 347, 347, 85]
    assert smallest_visible(783) == pytest.approx(0.1, abs=1e-4)
    assert math.isnan(smallest_visible(3))


def test_a_sample_sees_it_four_times_in_five() -> None:
    chance = np.random.default_rng(0)
    n = pairs_to_see(0.3)
    x = chance.normal(size=(2000, n))
    y = 0.3 * x + math.sqrt(1 - 0.09) * chance.normal(size=(2000, n))
    seen = [stats.pearsonr(a, b).pvalue < 0.05 for a, b in zip(x, y, strict=True)]
    assert 0.77 < np.mean(seen) < 0.83
