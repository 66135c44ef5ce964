import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lightning_app.errors import BadInputError
from lightning_app.pool.agreement import agree, reliability
from lightning_app.pool.matrix import Pool


def pool_of(correct: np.ndarray, losses: np.ndarray | None = None) -> Pool:
    models, images = correct.shape
    names, paths = tuple(f"m{i}" for i in range(models)), tuple(f"{i:04}" for i in range(images))
    return Pool(Path(), names, paths, correct, losses)


def simulated(models: int, images: int, signal: float) -> np.ndarray:
    """Models that are right where the image's own ease and their own luck together are above 0."""
    chance = np.random.default_rng(3)
    ease = chance.normal(size=images)
    return np.asarray(signal * ease + chance.normal(size=(models, images)) > 0, dtype=np.uint8)


def test_two_models_are_one_split() -> None:
    correct = simulated(2, 400, 1.0)
    found = reliability(pool_of(correct), seed=0)
    r = float(stats.spearmanr(correct[0], correct[1]).statistic)
    assert found.split_half == pytest.approx(r)
    assert found.low == pytest.approx(r)
    assert found.reliability == pytest.approx(2 * r / (1 + r))
    assert found.ceiling == pytest.approx(math.sqrt(2 * r / (1 + r)))
    assert found.models == 1


def test_the_halves_are_random_and_the_correction_is_for_the_whole_pool() -> None:
    correct = simulated(9, 300, 1.0)
    found = reliability(pool_of(correct), seed=0)
    assert found.models == 4
    by_hand = []
    chance = np.random.default_rng(0)
    for _ in range(100):
        order = chance.permutation(9)
        halves = correct[order[:4]].sum(axis=0), correct[order[4:8]].sum(axis=0)
        by_hand.append(float(stats.spearmanr(*halves).statistic))
    r = float(np.mean(by_hand))
    assert found.split_half == pytest.approx(r)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(by_hand, (0.05, 0.95))))
    assert found.reliability == pytest.approx(9 / 4 * r / (1 + 5 / 4 * r))


def test_a_few_models_are_split_in_every_way() -> None:
    correct = simulated(4, 300, 1.0)
    found = reliability(pool_of(correct), seed=0)
    pairs = [((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2))]
    by_hand = [float(stats.spearmanr(*(correct[list(half)].sum(axis=0) for half in pair)).statistic) for pair in pairs]
    assert found.halves == 3
    assert found.split_half == pytest.approx(np.mean(by_hand))
    assert "in 90 % of 3 splits" in str(found)
    assert "90 %" not in str(reliability(pool_of(correct[:2]), seed=0))


def test_equal_losses_stay_ties() -> None:
    right = np.ones((4, 50), dtype=np.uint8)
    assert "all images the same difficulty" in str(reliability(pool_of(right, np.zeros((4, 50))), seed=0))
    coins = np.random.default_rng(0).integers(0, 2, (6, 2000)).astype(np.uint8)
    assert reliability(pool_of(coins, 1.0 - coins), seed=0).split_half == pytest.approx(
        reliability(pool_of(coins), seed=0).split_half
    )


def test_the_ceiling_is_about_the_correlation_with_what_the_images_are() -> None:
    chance = np.random.default_rng(3)
    ease = chance.normal(size=4000)  # what simulated() draws first
    correct = simulated(20, 4000, 0.5)
    found = reliability(pool_of(correct), seed=0)
    assert found.ceiling == pytest.approx(float(stats.spearmanr(correct.sum(axis=0), ease).statistic), abs=0.02)


def test_mean_losses_break_ties_as_in_the_ranking() -> None:
    correct = np.array([[1, 1, 0, 0], [1, 1, 0, 0]], dtype=np.uint8)
    same, turned = np.array([[1.0, 2, 3, 4], [1, 2, 3, 4]]), np.array([[1.0, 2, 3, 4], [2, 1, 4, 3]])
    assert reliability(pool_of(correct, same), seed=0).split_half == pytest.approx(1)
    assert reliability(pool_of(correct, turned), seed=0).split_half == pytest.approx(0.6)
    assert reliability(pool_of(correct), seed=0).split_half == pytest.approx(1)  # all ties
    unlimited = np.array([[1.0, 2, 3, math.inf], [1, 2, 3, math.nan]])
    assert reliability(pool_of(correct, unlimited), seed=0).split_half == pytest.approx(1)


@pytest.mark.parametrize(
    ("correct", "reason"),
    [
        (simulated(1, 50, 1), "it takes two models or more"),
        (np.ones((4, 50), dtype=np.uint8), "gives all images the same difficulty"),
        (np.stack([simulated(1, 50, 1)[0], 1 - simulated(1, 50, 1)[0]]), "are not correlated"),
    ],
)
def test_where_it_is_undefined_the_reason_is_said(correct: np.ndarray, reason: str) -> None:
    found = reliability(pool_of(correct), seed=0)
    assert math.isnan(found.ceiling)
    assert reason in str(found)


def test_agreement_is_spearmans_and_the_overlaps_of_the_tenths() -> None:
    first = {f"{i}.png": float(i) for i in range(100)}
    turned = {f"{i}.png": float(-i) for i in range(100)}
    same, opposite = agree(first, first), agree(first, turned)
    assert (same.correlation.value, same.easiest, same.hardest) == pytest.approx((1, 1, 1))
    assert (opposite.correlation.value, opposite.easiest, opposite.hardest) == pytest.approx((-1, 0, 0))
    half = {f"{i}.png": float(i if i >= 5 else 1000 + i) for i in range(100)}
    assert (agree(first, half).easiest, agree(first, half).hardest) == (0.5, 0.5)


def test_ties_belong_to_a_tenth_in_part() -> None:
    first = {f"{i}": float(i) for i in range(20)}  # a tenth is two images
    tied = {f"{i}": 0.0 if i < 4 else float(i) for i in range(20)}
    assert agree(first, tied).easiest == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("other", "joined_by"),
    [("/a/val/n1/%d.jpg", "path"), ("/b/n1/%d.jpg", "class folder and file name"), ("flat\\%d.jpg", "file name")],
)
def test_paths_of_two_machines_are_joined_by_their_ends(other: str, joined_by: str) -> None:
    first = {f"/a/val/n1/{i}.jpg": float(i) for i in range(50)}
    second = {other % i: float(i) for i in range(10, 70)}
    found = agree(first, second)
    assert (found.joined_by, found.only_first, found.only_second) == (joined_by, 10, 20)
    assert (found.correlation.n, found.correlation.value) == pytest.approx((40, 1))


def test_paths_that_are_equal_are_joined_by_path_though_more_file_names_match() -> None:
    same = {f"n1/{i}.png": float(i) for i in range(10)}
    found = agree({**same, "a/x.png": 0.0}, {**same, "b/x.png": 99.0})
    assert (found.joined_by, found.correlation.n, found.only_first) == ("path", 10, 1)


def test_names_that_are_not_unique_are_not_joined() -> None:
    first = {"a/1.png": 1.0, "b/1.png": 2.0, "c/2.png": 3.0}
    second = {"x/1.png": 1.0, "x/2.png": 2.0}
    assert agree(first, second).correlation.n == 1
    with pytest.raises(BadInputError, match=r"no image in common \(such as 'a/1.png' and 'z'\)"):
        agree(first, {"z": 1.0})


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60))
def test_an_overlap_is_a_share(ranks: list[int]) -> None:
    first = {f"{i}": float(rank) for i, rank in enumerate(ranks)}
    found = agree(first, {f"{i}": float(i) for i in range(len(ranks))})
    assert 0 <= found.easiest <= 1 + 1e-9
    assert 0 <= found.hardest <= 1 + 1e-9
