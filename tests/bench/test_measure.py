"""Engines whose steps take a known time, on a clock that only they move."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_app.bench.measure import Candidate, FirstDifference, Spread, first_differences, measure
from lightning_app.bench.runners import EngineResult
from lightning_app.data.example import Example
from lightning_app.data.stop_rule import Outcome, StopRule


def ended(*losses: float, outcome: Outcome = "censored") -> EngineResult:
    return EngineResult(outcome, list(losses))


OFF = float(np.nextafter(0.3, 1))


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (ended(0.4, 0.3), ended(0.4, 0.3), None),
        (ended(0.4, OFF), ended(0.4, 0.3), (2, OFF, 0.3)),  # one bit
        (ended(0.5), ended(0.5, 0.4, outcome="reached"), (2, None, 0.4)),
        (ended(0.5, 0.4, 0.3), ended(0.5, 0.4), (3, 0.3, None)),
        (ended(0.5, 0.4), ended(0.5, 0.4, outcome="reached"), (2, 0.4, 0.4)),  # another outcome alone
        (ended(math.nan), ended(-math.nan), None),  # NaN is NaN
        (ended(0.0), ended(-0.0), (1, 0.0, -0.0)),
        (ended(math.inf), ended(1.0), (1, math.inf, 1.0)),
    ],
)
def test_the_first_difference_of_an_example(
    ours: EngineResult, theirs: EngineResult, found: tuple[int, float | None, float | None] | None
) -> None:
    others = {0: ended(0.9), 2: ended(0.8)}
    expected = [] if found is None else [FirstDifference("slots", 1, *found, ours.outcome, theirs.outcome)]
    # An example that only one has trained on is not compared.
    assert (
        first_differences("slots", {**others, 1: ours, 7: ended(0.1)}, {**others, 1: theirs, 8: ended(0.2)}) == expected
    )


class Clock:
    """Seconds that pass when an engine works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns: list[str] = []

    def __call__(self) -> float:
        return self.now


class Made:
    """Takes a time a step in each of its turns; example i takes 10·(i + 1) steps, wrong ones in the turns named."""

    def __init__(self, name: str, clock: Clock, times: Sequence[float], wrong: int | None = None) -> None:
        self.name, self.clock, self.times, self.wrong, self.turn = name, clock, times, wrong, 0

    def __call__(self, examples: Sequence[Example], rule: StopRule) -> Mapping[int, EngineResult]:
        self.clock.turns.append(self.name)
        found = {}
        for example in examples:
            steps = 10 * (example.index + 1)
            self.clock.now += steps * self.times[self.turn]
            losses = [1 / step for step in range(1, steps + 1)]
            found[example.index] = EngineResult("reached", [*losses[:-1], 0.77] if self.turn == self.wrong else losses)
        self.turn += 1
        return found


def measured(
    ours: Sequence[float], theirs: Sequence[float], our_wrong: int | None = None, their_wrong: int | None = None
) -> tuple[Candidate, Candidate, list[str]]:
    clock, bar = Clock(), list[int]()
    examples = [Example(i, str(i), Path(str(i)), 0, i) for i in range(8)]
    plain = Candidate("plain", Made("plain", clock, theirs, their_wrong), 1, examples[:2])
    slots = Candidate("slots", Made("slots", clock, ours, our_wrong), 2, examples)
    measure([plain, slots], StopRule(0.1, 100), len(ours), torch.device("cpu"), lambda: bar.append(1), clock)
    assert len(bar) == 2 * len(ours)
    return slots, plain, clock.turns


def test_turns_are_interleaved_and_rates_are_of_all_steps() -> None:
    slots, plain, turns = measured([0.001, 0.004, 0.002], [0.01, 0.01, 0.01])
    assert turns == ["plain", "slots"] * 3
    assert (slots.steps, plain.steps, slots.outcomes) == (360, 30, {"reached": 8})
    assert (slots.compared(plain), slots.differing, plain.differing) == (2, [], [])
    rate = slots.steps_per_second
    assert (rate.median, rate.low, rate.high) == pytest.approx((500, 250, 1000))


def test_ratios_are_taken_turn_by_turn() -> None:
    """A machine that is twice as slow for one turn of both changes no ratio."""
    slots, plain, _ = measured([0.25, 0.5, 0.25], [0.5, 1.0, 0.5])
    assert slots.speed_ratio(plain) == Spread(2.0, 2.0, 2.0)


def test_a_turn_that_differs_is_kept_also_when_later_ones_agree() -> None:
    slots, plain, _ = measured([0.1] * 3, [0.1] * 3, our_wrong=1)
    found = [
        (difference.engine, difference.example, difference.step, difference.loss) for difference in slots.differing
    ]
    assert found == [("slots", 0, 10, 0.77), ("slots", 1, 20, 0.77)]
    assert plain.differing == []


def test_a_reference_that_does_not_repeat_itself_is_found() -> None:
    slots, plain, _ = measured([0.1] * 3, [0.1] * 3, their_wrong=2)
    assert [(found.engine, found.loss, found.expected) for found in plain.differing[:1]] == [("plain", 0.77, 0.1)]
    assert slots.differing == []
