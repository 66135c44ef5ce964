import math

import numpy as np
import pytest

from lightning_app.data.stop_rule import THRESHOLDS, StopRule

NAN, INF = math.nan, math.inf
ROUNDED_UP = float(np.float32(1e-3))  # 0.0010000000475 as float64: above 1e-3, though equal to it in float32


def run(losses: list[float], epsilon: float, max_steps: int) -> tuple[int, str | None]:
    rule = StopRule(epsilon, max_steps)
    for step, loss in enumerate(losses, start=1):
        outcome = rule.outcome_at(step, loss)
        if outcome:
            return step, outcome
    return len(losses), None


@pytest.mark.parametrize(
    ("losses", "epsilon", "max_steps", "expected"),
    [
        ([0.5, 0.1, 0.05], 0.1, 9, (2, "reached")),  # at or below, not below
        ([0.5, np.nextafter(0.1, 1), 0.1], 0.1, 9, (3, "reached")),
        ([0.1], 0.1, 9, (1, "reached")),
        ([ROUNDED_UP, 0.0009], 1e-3, 9, (2, "reached")),  # compared in float64
        ([3.0, 2.0, 1.0], 0.1, 3, (3, "censored")),
        ([3.0, 2.0, 0.1], 0.1, 3, (3, "reached")),  # reached goes before censored
        ([3.0, 2.0], 0.1, 3, (2, None)),
        ([NAN], 0.1, 9, (1, "diverged")),
        ([1.0, INF], 0.1, 9, (2, "diverged")),
        ([1.0, -INF], 0.1, 2, (2, "diverged")),  # diverged goes before reached and censored
        ([1.0, NAN], 0.1, 2, (2, "diverged")),
        ([0.0], 1e-300, 1, (1, "reached")),
    ],
)
def test_the_outcome(losses: list[float], epsilon: float, max_steps: int, expected: tuple[int, str | None]) -> None:
    assert np.float32(ROUNDED_UP) <= np.float32(1e-3)
    assert run(losses, epsilon, max_steps) == expected


def test_the_ladder() -> None:
    assert list(THRESHOLDS) == ["ln2", "1e-1", "1e-2", "1e-3", "1e-4", "1e-5", "1e-6"]
    assert THRESHOLDS["ln2"] == math.log(2)
    assert THRESHOLDS["1e-3"] == 1e-3
