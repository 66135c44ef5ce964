"""Engines whose steps take a known time, on a clock that only they move."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from lightning_app.bench.findings import line_of
from lightning_app.bench.measuring import Entrant, Repeat, Spread, measure, spread
from lightning_app.bench.roofline import Roofline
from lightning_app.bench.runners import Ended
from lightning_app.data.example import Example
from lightning_app.data.trajectory import StopRule

CPU = torch.device("cpu")
ROOF = Roofline(1, 1, 1000.0, 1e9)  # 1,000 steps/s


class Clock:
    """Seconds that pass when an engine works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns: list[str] = []

    def __call__(self) -> float:
        return self.now


class Made:
    """Takes a fixed time an example and a time a step; example i takes 10·(i + 1) steps."""

    def __init__(self, name: str, clock: Clock, fixed: float, step: float, wrong: Mapping[int, float] = {}) -> None:
        self.name, self.clock, self.fixed, self.step, self.wrong = name, clock, fixed, step, wrong
        self.turn = 0

    def __call__(self, examples: Sequence[Example], rule: StopRule) -> Mapping[int, Ended]:
        if rule.max_steps > 1:
            self.clock.turns.append(self.name)
            self.turn += 1
        ended = {}
        for example in examples:
            steps = min(10 * (example.index + 1), rule.max_steps)
            self.clock.now += self.fixed + steps * self.step
            losses = [1 / step for step in range(1, steps + 1)]
            if self.turn in self.wrong:
                losses[-1] = self.wrong[self.turn]
            ended[example.index] = Ended("reached", losses)
        return ended


def examples(count: int) -> list[Example]:
    return [Example(i, str(i), Path(str(i)), 0, i) for i in range(count)]


def test_the_times_of_a_step_and_of_an_example_are_told_apart() -> None:
    clock = Clock()
    plain = Entrant("plain", Made("plain", clock, fixed=0.002, step=0.008), 1, examples(3))
    slots = Entrant("slots", Made("slots", clock, fixed=0.005, step=0.004), 1, examples(3))
    turns = []
    measure([plain, slots], StopRule(0.1, 100), 3, CPU, lambda: turns.append(1), clock)
    assert clock.turns == ["plain", "slots"] * 3
    assert len(turns) == 6
    line = line_of(slots, plain, ROOF)
    assert (line.examples, line.steps, line.compared, line.differences) == (3, 60, 3, ())
    assert line.ms_per_step is not None
    assert line.fixed_ms_per_example is not None
    assert line.step_ratio is not None
    assert line.ms_per_step.median == pytest.approx(4)
    assert line.fixed_ms_per_example.median == pytest.approx(5)
    assert line.step_ratio.median == pytest.approx(0.5)
    rate, theirs = 60 / (60 * 0.004 + 3 * 0.005), 60 / (60 * 0.008 + 3 * 0.002)
    assert line.steps_per_second.median == pytest.approx(rate)
    assert line.speed_ratio.median == pytest.approx(rate / theirs)
    assert line.share_of_roof == pytest.approx(rate / 1000)


def test_many_slots_have_no_time_of_an_example_and_are_compared_where_both_trained() -> None:
    clock = Clock()
    plain = Entrant("plain", Made("plain", clock, 0.0, 0.01), 1, examples(2))
    slots = Entrant("slots", Made("slots", clock, 0.0, 0.001), 2, examples(8))
    measure([plain, slots], StopRule(0.1, 100), 1, CPU, lambda: None, clock)
    line = line_of(slots, plain, ROOF)
    assert (line.slots, line.examples, line.compared) == (2, 8, 2)
    assert (line.ms_per_step, line.step_ratio, line.fixed_ms_per_example) == (None, None, None)
    assert line.speed_ratio.median == pytest.approx(10)
    first = line_of(plain, slots, ROOF)
    assert first.ms_per_step is not None
    assert first.step_ratio is None


def test_a_turn_that_differs_is_kept_also_when_later_ones_agree() -> None:
    clock = Clock()
    plain = Entrant("plain", Made("plain", clock, 0.0, 0.01), 1, examples(2))
    slots = Entrant("slots", Made("slots", clock, 0.0, 0.01, {2: 0.77}), 1, examples(2))
    measure([plain, slots], StopRule(0.1, 100), 3, CPU, lambda: None, clock)
    assert [(found.engine, found.example, found.step, found.loss) for found in slots.differing] == [
        ("slots", 0, 10, 0.77),
        ("slots", 1, 20, 0.77),
    ]
    assert plain.differing == []


def test_a_reference_that_does_not_repeat_itself_is_found() -> None:
    clock = Clock()
    plain = Entrant("plain", Made("plain", clock, 0.0, 0.01, {3: 0.77}), 1, examples(1))
    measure([plain], StopRule(0.1, 100), 3, CPU, lambda: None, clock)
    assert [(found.engine, found.loss, found.expected) for found in plain.differing] == [("plain", 0.77, 0.1)]


def test_one_step_each_tells_no_time_of_a_step() -> None:
    repeat = Repeat(examples=4, steps=4, seconds=1.0, short_seconds=1.0)
    assert math.isnan(repeat.ms_per_step)
    assert math.isnan(repeat.fixed_ms)
    assert repeat.steps_per_second == 4


def test_a_spread_is_the_median_and_the_ends() -> None:
    assert spread([5.0, 1.0, 2.0]) == Spread(2.0, 1.0, 5.0)


def test_ratios_are_taken_turn_by_turn() -> None:
    """A machine that is twice as slow for one turn of both changes no ratio."""
    plain, ours = Entrant("plain", Made("", Clock(), 0, 0), 1, []), Entrant("x", Made("", Clock(), 0, 0), 1, [])
    plain.repeats = [Repeat(1, 10, seconds, seconds / 10) for seconds in (1.0, 2.0, 1.0)]
    ours.repeats = [Repeat(1, 10, seconds, seconds / 10) for seconds in (0.5, 1.0, 0.5)]
    line = line_of(ours, plain, ROOF)
    assert line.speed_ratio == Spread(2.0, 2.0, 2.0)
    assert line.step_ratio == Spread(0.5, 0.5, 0.5)
