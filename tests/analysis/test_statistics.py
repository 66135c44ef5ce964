import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_app.analysis.statistics import (
    delete_one_spearman,
    not_reached_on_top,
    pairs_to_see,
    smallest_visible,
    spearman,
)

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=4, max_size=25)


@given(pairs)
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore:An input array is constant")
def test_delete_one_is_brute_force(sample: list[tuple[int, int]]) -> None:
    x, y = (np.array(side, dtype=float) for side in zip(*sample, strict=True))
    ours = delete_one_spearman(x, y)
    for k in range(len(x)):
        rest_x, rest_y = np.delete(x, k), np.delete(y, k)
        if np.ptp(rest_x) and np.ptp(rest_y):
            assert ours[k] == pytest.approx(stats.spearmanr(rest_x, rest_y).statistic, abs=1e-9)
        else:
            assert not abs(ours[k]) < 1  # nan or infinite: no interval is made of it


def test_the_interval_is_fishers_z_with_the_jackknifes_error() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=40)
    y = x + rng.normal(size=40)
    z = [np.arctanh(stats.spearmanr(np.delete(x, k), np.delete(y, k)).statistic) for k in range(40)]
    error = math.sqrt(39 / 40 * sum((v - np.mean(z)) ** 2 for v in z))
    result = spearman(x, y)
    centre = math.atanh(stats.spearmanr(x, y).statistic)
    assert result.n == 40
    assert result.rho == pytest.approx(math.tanh(centre))
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


@pytest.mark.parametrize(("x", "y"), [([], []), ([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [4, 4, 4])])
def test_undefined_is_nan(x: list[float], y: list[float]) -> None:
    result = spearman(x, y)
    assert math.isnan(result.rho)
    assert "undefined" in str(result)


def test_a_perfect_correlation_has_no_interval() -> None:
    result = spearman([1, 2, 3, 4], [1, 2, 3, 5])
    assert result.rho == pytest.approx(1)
    assert math.isnan(result.low)
    assert "no interval" in str(result)


def test_minus_one_as_a_number_has_the_wrong_sign() -> None:
    """Harder images take more steps; the hardest never get there. Left in as -1 they turn the correlation around."""
    difficulty = np.arange(100.0)
    steps = np.where(difficulty < 40, difficulty + 1, -1)
    assert spearman(steps, difficulty).rho < 0
    assert spearman(not_reached_on_top(steps, 50), difficulty).rho > 0.8


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
