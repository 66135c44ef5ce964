import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Failure, Trajectory
from lightning_app.data.worker_state import WorkerState
from lightning_app.engines.workers.ray_actors import Lost
from lightning_app.engines.workers.worker_pool import AHEAD, AWAY_SECONDS, BAD, WorkerPool
from lightning_app.errors import BadInputError, WorkersError
from tests.engines.workers.actors import NEVER, READY, SimulatedActors, examples, in_seconds, trained

RULE = StopRule(0.1, 10)
REFUSED = Lost("here can't see /a.jpg", is_dead=True, is_refusal=True)
BROKEN = Lost("ModuleNotFoundError: no timm", is_dead=True)


def pool_of(actors: SimulatedActors, show: Any = lambda lines: None) -> WorkerPool:
    pool = WorkerPool(actors, actors.max_retries, show, lambda: actors.now)
    pool.wait_for_workers(10.0)
    return pool


def train(actors: SimulatedActors, sample: Sequence[Example]) -> list[Trajectory | Failure]:
    return list(pool_of(actors).train(sample, RULE))


def errors(results: Sequence[Trajectory | Failure]) -> list[str]:
    return [result.example.path for result in results if isinstance(result, Failure)]


def test_every_example_is_trained_once_easiest_first_and_comes_back_under_its_own_number() -> None:
    sample = examples(23)
    actors = SimulatedActors(in_seconds(sample), 3)
    asked = [replace(example, index=example.index + 100) for example in sample[5:]]  # a study that goes on
    results = train(actors, asked)
    assert sorted((r.example.path, r.example.index) for r in results) == sorted((e.path, e.index) for e in asked)
    assert [int(path.partition(".")[0]) for _, path in actors.begun[-6:]] == list(range(17, 23))
    assert {worker for worker, _ in actors.begun} == {0, 1, 2}
    assert actors.most_held == 1 + AHEAD


def test_long_examples_do_not_leave_others_idle() -> None:
    dice = random.Random(3)
    sample = examples(400)
    actors = SimulatedActors({example.path: dice.choice([1, 1, 1, 100]) for example in sample}, 8)
    assert len(train(actors, sample)) == 400
    assert sum(actors.busy) / (8 * actors.now) > 0.95
    assert actors.now - min(actors.busy) <= 201  # one that is given ahead waits for the one before it


@given(
    count=st.integers(1, 40),
    size=st.integers(1, 5),
    max_in_flight=st.integers(1, 6),
    max_retries=st.integers(0, 3),
    seed=st.integers(0, 2**32),
    risk=st.sampled_from([0.0, 0.02, 0.1]),
)
def test_whatever_dies_none_is_lost_and_none_is_twice(
    count: int, size: int, max_in_flight: int, max_retries: int, seed: int, risk: float
) -> None:
    dice = random.Random(seed)
    sample = examples(count)
    killers = {example.path for example in sample if dice.random() < 0.05}
    actors = SimulatedActors(
        {example.path: dice.choice([0.1, 1, 7]) for example in sample},
        size,
        max_retries,
        dies=lambda worker, path: path in killers or dice.random() < risk,
        report=lambda worker: replace(READY, max_in_flight=max_in_flight),
    )
    results: list[Trajectory | Failure] = []
    try:
        for result in pool_of(actors).train(sample, RULE):
            results.append(result)
    except WorkersError:  # as many killers as that are no study
        assert killers or risk
    else:
        assert {result.example.path for result in results} == {example.path for example in sample}
        assert killers <= set(errors(results))
        if not risk:
            assert set(errors(results)) == killers  # nobody else pays for them
    assert max(Counter(result.example.path for result in results).values(), default=1) == 1
    good = [result for result in results if isinstance(result, Trajectory)]
    assert good == [trained(result.example, RULE) for result in good]


@pytest.mark.parametrize(("size", "max_in_flight"), [(1, 1), (2, 1), (2, 4)])
def test_an_example_that_kills_its_worker_is_an_error_and_its_neighbours_are_not(
    size: int, max_in_flight: int, caplog: pytest.LogCaptureFixture
) -> None:
    sample = examples(30)
    actors = SimulatedActors(
        in_seconds(sample), size, dies=lambda worker, path: path == "4.jpg",
        report=lambda worker: replace(READY, max_in_flight=max_in_flight),
    )  # fmt: skip
    results = train(actors, sample)
    (failure,) = [result for result in results if isinstance(result, Failure)]
    assert failure == Failure(sample[4], "its worker was lost at every try, also alone; the last time: it was killed")
    assert len(results) == 30
    tries = Counter(path for _, path in actors.begun)["4.jpg"]
    assert 6 <= tries <= 9  # about four times among others, four times alone; it may change its worker between
    assert "worker 1 was lost (it was killed); trained again: " in caplog.text


def test_nothing_that_can_be_trained_ends_the_study() -> None:
    sample = examples(50_000)
    actors = SimulatedActors(in_seconds(sample), 2, dies=lambda worker, path: True)
    with pytest.raises(WorkersError, match="nothing can be trained: every example loses its worker: it was killed"):
        train(actors, sample)
    assert len(actors.begun) < 80


def test_a_worker_that_loses_whatever_it_gets_costs_no_example(caplog: pytest.LogCaptureFixture) -> None:
    sample = examples(300)
    actors = SimulatedActors(in_seconds(sample), 3, dies=lambda worker, path: worker == 1)
    pool = pool_of(actors)
    results = list(pool.train(sample, RULE))
    assert (len(results), errors(results), actors.dismissed, pool.devices) == (300, [], [1], 2)
    assert sum(worker == 1 for worker, _ in actors.begun) == BAD
    assert "worker 2 is dismissed, lost 5 times in a row: it was killed" in caplog.text


def test_a_worker_that_does_not_come_back_is_not_waited_for_by_those_who_have_nothing_else() -> None:
    sample = examples(20)
    actors = SimulatedActors(
        in_seconds(sample), 2, dies=lambda worker, path: worker == 1 and path == "3.jpg",
        makes=lambda worker, start: NEVER if start else None,  # its machine is gone, no other has room
    )  # fmt: skip
    results = train(actors, sample)
    assert (len(results), errors(results), actors.dismissed) == (20, [], [1])
    assert actors.now < 20 + AWAY_SECONDS


def test_a_stop_ends_it_after_what_is_in_hand() -> None:
    sample = examples(50)
    actors = SimulatedActors(in_seconds(sample), 2)
    ended: list[str] = []
    for result in pool_of(actors).train(sample, RULE, lambda: len(ended) >= 5):
        ended.append(result.example.path)
    assert sorted(path for _, path in actors.begun) == sorted(ended)
    assert 5 <= len(ended) <= 9  # what each had begun when it was told


def test_a_stop_begins_nothing_on_a_worker_that_is_on_its_way_back() -> None:
    sample = examples(50)
    actors = SimulatedActors(in_seconds(sample), 2, dies=lambda worker, path: worker == 1)
    ended = list(pool_of(actors).train(sample, RULE, lambda: actors.now >= 6))
    assert len(ended) == sum(worker == 0 for worker, _ in actors.begun)
    assert actors.now < 20


def test_steps_are_counted_and_workers_shown() -> None:
    sample = examples(12)
    lines: list[Sequence[WorkerState]] = []
    steps: list[int] = []
    pool = pool_of(SimulatedActors(in_seconds(sample, 2.5), 2), lines.append)
    results = list(pool.train(sample, RULE, on_steps=steps.append))
    total = sum(len(result.losses) for result in results if isinstance(result, Trajectory))
    assert total - 10 <= sum(steps) <= total  # those of the last second are not reported any more
    (line, other) = lines[-1]
    assert (line.worker, line.host, line.device, line.lost) == (1, "here", "cpu", 0)
    assert line.done + other.done >= 10
    assert any(line.state == "at work" and line.in_hand == ("0.jpg",) for line, _ in lines)
    assert pool.summary_line() == "Workers: 2, at work 75.0 % of their time; lost and started anew: 0"


@pytest.mark.parametrize("risk", [0.0, 0.3])
def test_a_training_that_was_broken_off_leaves_nothing_for_the_next(risk: float) -> None:
    sample, dice = examples(20), random.Random(2)
    actors = SimulatedActors(in_seconds(sample, 2.5), 3, dies=lambda worker, path: dice.random() < risk)
    pool = pool_of(actors)
    for _ in pool.train(sample, RULE):
        break
    other = StopRule(0.1, 5)
    results = list(pool.train(sample[:6], other))
    assert sorted(result.example.path for result in results) == [f"{i}.jpg" for i in range(6)]
    assert set(actors.rules[actors.rules.index(other) :]) == {other}


def test_a_worker_that_does_not_fit_is_refused() -> None:
    sample = examples(3)
    with pytest.raises(BadInputError, match=r"worker 2: here can't see /a\.jpg"):
        train(SimulatedActors(in_seconds(sample), 2, makes=lambda worker, start: REFUSED if worker else None), sample)


def test_a_worker_that_does_not_fit_is_sent_away_when_it_comes_late(caplog: pytest.LogCaptureFixture) -> None:
    sample, deaths = examples(30), iter([True])
    actors = SimulatedActors(
        in_seconds(sample), 2, dies=lambda worker, path: worker == 1 and next(deaths, False),
        makes=lambda worker, start: REFUSED if start else None,
    )  # fmt: skip
    assert (len(train(actors, sample)), actors.dismissed) == (30, [1])
    assert "worker 2 is gone: here can't see /a.jpg" in caplog.text


def test_a_worker_that_can_not_be_made_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    sample = examples(5)
    assert len(train(SimulatedActors(in_seconds(sample), 2, makes=lambda w, start: BROKEN if w else None), sample)) == 5
    assert "worker 2 is gone: ModuleNotFoundError: no timm" in caplog.text
    with pytest.raises(WorkersError, match="no worker is left; the last one is gone: ModuleNotFoundError: no timm"):
        pool_of(SimulatedActors(in_seconds(sample), 1, makes=lambda worker, start: BROKEN))


def test_the_pace_is_that_of_all_where_all_have_measured_it() -> None:
    sample = examples(3)
    assert pool_of(SimulatedActors(in_seconds(sample), 2)).steps_a_second is None
    actors = SimulatedActors({}, 2, report=lambda worker: replace(READY, steps_a_second=100.0 + worker))
    assert pool_of(actors).steps_a_second == 201.0


def test_what_an_engine_raised_is_the_reason_and_a_refusal_of_lightnings_ends_the_study() -> None:
    sample = examples(1)

    class Fails(SimulatedActors):
        failed = "RuntimeError: CUDA out of memory"

        def _die(self, worker: int, actor: Any) -> None:
            self._out.append((worker, None, replace(READY, failed=self.failed)))
            actor.asked = None
            super()._die(worker, actor)

    actors = Fails(in_seconds(sample), 1, dies=lambda worker, path: True)
    (failure,) = train(actors, sample)
    assert isinstance(failure, Failure)
    assert failure.reason.endswith("the last time: RuntimeError: CUDA out of memory")
    Fails.failed = "MisconfigurationException: no such callback"
    with pytest.raises(MisconfigurationException, match=r"^no such callback$"):
        train(Fails(in_seconds(sample), 1, dies=lambda worker, path: True), sample)


def test_what_workers_say_alike_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    said = ((logging.INFO, "Engine: a"), (logging.WARNING, "odd"))
    pool_of(SimulatedActors({}, 3, report=lambda worker: replace(READY, said=said)))
    assert caplog.text.count("Engine: a") == 1
    assert caplog.text.count("worker 1: odd") == 1
    assert "Workers: 3 on cpu (here)" in caplog.text


def test_workers_that_come_late_join(caplog: pytest.LogCaptureFixture) -> None:
    class ComesLate(SimulatedActors):
        def _construct(self, worker: int, actor: Any) -> None:
            if worker and self.now < 20:
                self._in(20.0, worker, self._construct)
            else:
                super()._construct(worker, actor)

    sample = examples(60)
    actors = ComesLate(in_seconds(sample), 2)
    assert len(train(actors, sample)) == 60
    assert {worker for worker, _ in actors.begun} == {0, 1}
    assert "1 of 2 workers are there: the study begins without the others" in caplog.text
