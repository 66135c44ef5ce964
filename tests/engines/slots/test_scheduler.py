"""Refill, cut at the exact step, order of the results, a failure, time: on a device that is made up."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.engines.slots.scheduler import Scheduler
from tests.engines.slots.stand_in import Clock, Examples, StandIn

RULE = StopRule(0.5, 100)


def train(
    lengths: Sequence[int | None], slots: int = 3, steps_at_once: int = 4, rule: StopRule = RULE, **numbers: float
) -> tuple[list[Trajectory | Failure], Scheduler, list[StandIn]]:
    clock = Clock()
    stand_ins = [StandIn(clock, **numbers) for _ in range(slots)]  # type: ignore[arg-type]
    scheduler = Scheduler(stand_ins, steps_at_once, clock)
    results = list(scheduler.train(Examples(list(lengths), clock), rule, lambda steps: None))
    return results, scheduler, stand_ins


@given(st.lists(st.one_of(st.none(), st.integers(1, 130)), max_size=30), st.integers(1, 5), st.integers(1, 9))
def test_every_example_once_and_cut_at_its_exact_step(
    lengths: list[int | None], slots: int, steps_at_once: int
) -> None:
    shown: list[int] = []
    clock = Clock()
    scheduler = Scheduler([StandIn(clock) for _ in range(slots)], steps_at_once, clock)
    results = list(scheduler.train(Examples(lengths, clock), RULE, shown.append))
    assert sorted(result.example.index for result in results) == list(range(len(lengths)))
    for result in results:
        length = lengths[result.example.index]
        if isinstance(result, Failure):
            assert length is None
            continue
        assert length is not None
        counted = min(length, 100)
        assert result.outcome == ("reached" if length <= 100 else "censored")
        assert list(result.losses) == [1.0] * (counted - (length <= 100)) + [0.0] * (length <= 100)
        assert result.weight_distance == counted
        assert result.predicted_before == 7
        assert result.steps_to_correct == (3 if counted >= 3 else -1)
    assert sum(shown) == sum(min(length, 100) for length in lengths if length is not None)


def test_results_come_in_the_order_of_their_ends_and_a_free_slot_is_filled_at_once() -> None:
    results, _, slots = train([40, 4, 4, 12, None, 4], slots=2)
    assert [result.example.index for result in results if isinstance(result, Trajectory)] == [1, 2, 3, 5, 0]
    assert [slot.loads for slot in slots] == [[40], [4, 4, 12, 4]]
    assert results[3] == Failure(results[3].example, "unreadable")


def test_no_slot_steps_past_the_limit() -> None:
    results, _, slots = train([200, 200, 200], slots=2, steps_at_once=8, rule=StopRule(0.5, 10))
    assert [result.outcome for result in results] == ["censored"] * 3
    assert sum(slot.steps for slot in slots) == 30


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_example_without_a_distance(loss: float) -> None:
    (result,), _, _ = train([6], loss_after=loss)
    assert isinstance(result, Trajectory)
    assert (result.outcome, len(result.losses)) == ("diverged", 6)
    assert math.isnan(result.weight_distance)


@pytest.mark.parametrize(("slots", "steps_at_once"), [(1, 1), (8, 8), (16, 8), (32, 4)])
def test_slots_are_busy_with_a_thousand_uneven_examples(slots: int, steps_at_once: int) -> None:
    """2 to 500 steps each, 0.3 ms a step, a fifth of a millisecond to load one; the end, when slots fall idle, too."""
    lengths = np.random.default_rng(1).integers(2, 501, 1000).tolist()
    results, scheduler, stand_ins = train(
        lengths, slots, steps_at_once, StopRule(0.5, 1000), seconds_a_step=0.0003, seconds_to_load=0.0002
    )
    steps = sum(len(result.losses) for result in results if isinstance(result, Trajectory))
    assert steps == sum(lengths)
    usage = scheduler.usage
    assert usage.stepping == pytest.approx(steps * 0.0003)
    assert usage.past_the_cut == pytest.approx((sum(slot.steps for slot in stand_ins) - steps) * 0.0003)
    assert usage.busy == pytest.approx(usage.stepping / usage.there)
    assert usage.busy >= 0.95


def test_an_idle_slot_is_not_busy() -> None:
    _, scheduler, _ = train([100], slots=4, steps_at_once=4)
    assert scheduler.usage.busy == pytest.approx(0.25)
    _, scheduler, _ = train([2] * 4, slots=1, steps_at_once=8)  # two of eight steps count
    assert scheduler.usage.busy == pytest.approx(0.25)
    assert math.isnan(train([])[1].usage.busy)


def test_the_examples_share_the_time() -> None:
    """Two side by side for 20 steps of a millisecond, then one alone for 20."""
    results, _, _ = train([20, 40], slots=2, steps_at_once=4)
    seconds = {result.example.index: result.seconds for result in results if isinstance(result, Trajectory)}
    assert seconds == pytest.approx({0: 0.010, 1: 0.030})
    results, scheduler, _ = train([5, 80, 33, 2, 60], slots=3)
    assert sum(r.seconds for r in results if isinstance(r, Trajectory)) == pytest.approx(scheduler.usage.there / 3)


def test_no_slot_waits_for_an_image_while_others_work() -> None:
    """The third image is late: the two that are there are trained to their ends first."""
    clock = Clock()
    slots = [StandIn(clock) for _ in range(3)]
    source = Examples([30, 50, 10], clock, lambda index: 0.045 if index == 2 else 0.0)
    results = list(Scheduler(slots, 4, clock).train(source, RULE, lambda steps: None))
    assert [result.example.index for result in results] == [0, 1, 2]
    assert clock.now == pytest.approx(0.060)  # the third ran from 0.048 on, beside the second


def test_it_can_be_used_again() -> None:
    clock = Clock()
    scheduler = Scheduler([StandIn(clock), StandIn(clock)], 4, clock)
    for lengths in ([5, 9], [7]):
        results = list(scheduler.train(Examples(list(lengths), clock), RULE, lambda steps: None))
        assert [len(result.losses) for result in results if isinstance(result, Trajectory)] == lengths
        assert scheduler.usage.stepping == pytest.approx(sum(lengths) * 0.001)
