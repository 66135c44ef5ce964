import math
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from lightning_app.analysis import statistics as association
from lightning_app.analysis.statistics import (
    Paired,
    associate,
    bootstrap,
    not_reached_on_top,
    permutation_p,
    spearman,
)
from tests.analysis.test_statistics import by_hand

Floats = npt.NDArray[np.float64]


def harrell(steps: Floats, events: npt.NDArray[np.bool_], difficulty: Floats) -> float:
    """Harrell's C pair by pair: of the pairs of which one is known to have taken more steps."""
    concordant = comparable = 0.0
    for i, j in combinations(range(len(steps)), 2):
        first, last = (i, j) if (steps[i], not events[i]) < (steps[j], not events[j]) else (j, i)
        if not events[first] or (steps[first] == steps[last] and events[last]):
            continue
        comparable += 1
        concordant += float(np.sign(difficulty[last] - difficulty[first]) + 1) / 2
    return concordant / comparable


def censored(chance: np.random.Generator) -> tuple[Floats, npt.NDArray[np.bool_], Floats, int]:
    """Steps with ties, given up at one limit, with a difficulty that has ties too."""
    n, limit = int(chance.integers(5, 40)), int(chance.integers(3, 20))
    wanted = chance.integers(1, 25, n)
    events = wanted <= limit
    return np.minimum(wanted, limit).astype(float), events, chance.integers(0, 15, n).astype(float), limit


def ours(steps: Floats, events: npt.NDArray[np.bool_], difficulty: Floats, limit: int) -> float:
    on_top = not_reached_on_top(np.where(events, steps, -1), limit)
    return associate(on_top, difficulty, np.full(len(steps), math.nan)).concordance.value


def test_harrells_c_is_that_of_scipy_lifelines_and_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = pytest.importorskip("lifelines.utils", reason="lifelines, an oracle for this test alone, is not installed")
    monkeypatch.setattr(association, "MAX_RESAMPLED", 0)  # the value alone
    chance = np.random.default_rng(0)
    seen = 0
    while seen < 1000:
        steps, events, difficulty, limit = censored(chance)
        found = ours(steps, events, difficulty, limit)
        if math.isnan(found):
            continue
        on_top = np.where(events, steps, limit + 1)
        assert found == pytest.approx((stats.somersd(on_top, difficulty).statistic + 1) / 2, abs=1e-9)
        assert found == pytest.approx(harrell(steps, events, difficulty), abs=1e-9)
        assert found == pytest.approx(utils.concordance_index(steps, difficulty, events), abs=1e-9)
        seen += 1


def test_known_answers() -> None:
    """One of ten pairs is out of order: tau is 1 - 2/10, C is 9/10."""
    found = associate(np.array([1.0, 3, 2, 4, 5]), np.arange(5.0), np.full(5, math.nan))
    assert found.spearman.value == pytest.approx(0.9)
    assert found.kendall.value == pytest.approx(0.8)
    assert found.concordance.value == pytest.approx(0.9)
    assert (found.n, found.tied) == (5, 0)
    turned = associate(-np.array([1.0, 3, 2, 4, 5]), np.arange(5.0), np.full(5, math.nan))
    assert turned.concordance.value == pytest.approx(0.1)


def test_clustered_intervals_know_that_twins_say_nothing_new() -> None:
    """Every example four times: four times the examples, no more to know. By class the interval is that of one each."""
    chance = np.random.default_rng(0)
    x = chance.normal(size=200)
    y = 0.3 * x + chance.normal(size=200)
    once = spearman(x, y)
    four = associate(np.tile(x, 4), np.tile(y, 4), np.tile(np.arange(200.0), 4))
    assert four.classes == 200
    assert four.spearman.clustered == pytest.approx((once.low, once.high), abs=0.01)
    assert four.spearman.high - four.spearman.low < 0.6 * (once.high - once.low)


def test_fewer_than_fifty_classes_are_too_few_to_cluster_by() -> None:
    chance = np.random.default_rng(0)
    x, y = chance.normal(size=200), chance.normal(size=200)
    fifty, fewer = np.arange(200.0) % 50, np.arange(200.0) % 49
    assert associate(x, y, fifty).classes == 50
    assert associate(x, y, fewer).spearman.clustered is None
    assert associate(x, y, np.where(fifty == 3, math.nan, fifty)).classes == 0  # a class that isn't known
    alone = np.concatenate([np.arange(151.0), np.arange(49.0)])
    assert associate(x, y, alone).classes == 0  # 49 have two examples


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:An input array is constant")
def test_the_bootstrap_is_that_of_resampled_pairs() -> None:
    chance = np.random.default_rng(3)
    x, y = chance.integers(0, 8, 30).astype(float), chance.integers(0, 8, 30).astype(float)
    found = bootstrap(Paired(x, y), seed=5, draws=20)
    drawn = np.random.default_rng(5).integers(30, size=(20, 30))
    for k, places in enumerate(drawn):
        assert found[:, k] == pytest.approx(by_hand(x[places], y[places]), abs=1e-9)
    again = bootstrap(Paired(x, y), seed=5, draws=20)
    assert np.array_equal(found, again)


def test_the_bootstraps_interval_stands_beside_the_closed_form_up_to_2000() -> None:
    chance = np.random.default_rng(0)
    x = chance.normal(size=2001)
    y = 0.2 * x + chance.normal(size=2001)
    unknown = np.full(2001, math.nan)
    small = associate(x[:400], y[:400], unknown[:400])
    for each in (small.spearman, small.kendall, small.concordance):
        assert each.bootstrap == pytest.approx((each.low, each.high), abs=0.03)
    assert associate(x, y, unknown).spearman.bootstrap is None


def test_p_is_that_of_all_permutations() -> None:
    """Of six pairs there are 720 orders; with ties."""
    x, y = np.array([1.0, 2, 2, 4, 5, 7]), np.array([1.0, 3, 2, 6, 5, 5])
    pairs = Paired(x, y)
    exact = stats.permutation_test(
        (x,), lambda a: stats.spearmanr(a, y).statistic, permutation_type="pairings", n_resamples=10_000
    )
    p, how = permutation_p(pairs, 0)
    assert how == "permutations"
    assert p == pytest.approx(exact.pvalue, abs=0.01)


def test_p_is_even_where_there_is_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the steps are not reached; p has to be below .05 in one of twenty samples, and so on."""
    monkeypatch.setattr(association, "PERMUTATIONS", 999)
    chance = np.random.default_rng(0)
    found = [
        permutation_p(Paired(np.minimum(chance.normal(size=60), 0), chance.normal(size=60)), k)[0] for k in range(300)
    ]
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.09


def test_above_2000_counts_p_is_the_normal_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(1)
    x = chance.normal(size=500)
    pairs = Paired(x, 0.1 * x + chance.normal(size=500))
    drawn, how = permutation_p(pairs, 0)
    assert how == "permutations"
    monkeypatch.setattr(association, "MAX_RESAMPLED", 498)
    limit, how = permutation_p(pairs, 0)
    assert how == "the normal limit of permutations"
    assert limit == pytest.approx(drawn, abs=0.01)


@pytest.mark.parametrize(("reached", "exact"), [(1, 1 / 3000 * 2), (2, 1 / (3000 * 2999 / 2) * 2)])
def test_of_many_of_whom_few_reached_p_is_still_that_of_permutations(reached: int, exact: float) -> None:
    """The one that reached is the easiest of 3,000, or the hardest: two places in 3,000. The normal limit says 8 %."""
    steps = np.full(3000, 11.0)
    steps[:reached] = 3
    p, how = permutation_p(Paired(steps, np.arange(3000.0)), 0)
    assert how == "permutations"
    assert p == pytest.approx(exact, abs=0.0006)


def test_the_same_permutations_whether_all_or_only_the_few_that_count_are_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chance = np.random.default_rng(4)
    steps = np.where(chance.random(300) < 0.1, chance.integers(1, 5, 300), 9).astype(float)
    pairs = Paired(steps, steps + 8 * chance.normal(size=300))
    every, _ = permutation_p(pairs, 0)
    monkeypatch.setattr(association, "MAX_RESAMPLED", 100)
    few, how = permutation_p(pairs, 0)
    assert how == "permutations"
    assert 0.001 < every < 0.999
    assert few == pytest.approx(every, abs=0.02)
