import math

import pytest

from lightning_app.report.curves import MAX_POINTS, kept_steps, thinned


@pytest.mark.parametrize("limit", [1, 2, 9, 10, 11, 60, 1000, 10**6])
def test_the_grid_has_the_first_steps_and_few_others(limit: int) -> None:
    steps = kept_steps(limit)
    assert steps[:10] == list(range(1, min(limit, 10) + 1))
    assert steps == sorted(set(steps))
    assert steps[-1] == limit
    assert len(steps) <= MAX_POINTS


@pytest.mark.parametrize("length", [1, 2, 9, 10, 11, 12, 500, 1000, 1500])
def test_a_curve_keeps_its_first_steps_and_its_last(length: int) -> None:
    steps = kept_steps(1000)
    values = [float(step) for step in range(1, length + 1)]
    curve = thinned(values, steps)
    assert curve is not None
    kept = [step for step in steps if step < length]
    assert curve == [length, [float(f"{step:.4g}") for step in [*kept, length]]]
    assert len(kept) + 1 <= MAX_POINTS + 1


def test_values_have_four_digits_and_non_finite_ones_are_null() -> None:
    assert thinned([1.234567, math.nan, math.inf, -math.inf, 0.000123456], kept_steps(5)) == [
        5, [1.235, None, None, None, 0.0001235],
    ]  # fmt: skip


def test_no_steps_no_curve() -> None:
    assert thinned([], kept_steps(10)) is None
