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

from lightning_app.errors import BadInputError, WorkersError
from lightning_app.inputs.example import Example
from lightning_app.parallel.many_workers import ManyWorkers
from lightning_app.parallel.messages import Introduction, Lost, Message, Order, Report
from lightning_app.store.workers import WorkerLine
from lightning_app.training.trajectory import Failure, StopRule, Trajectory
from tests.parallel.crews import HERE, NUMBERS, SimulatedCrew, introduce, trained
from tests.parallel.test_leases import examples

RULE = StopRule(0.1, 10)


def engine(crew: SimulatedCrew, sample: Sequence[Example], max_retries: int = 3, **other: Any) -> ManyWorkers:
    content = {"numbers": NUMBERS, "environment": HERE, "mixed": False, "show": lambda lines: None, **other}
    workers = ManyWorkers(crew, sample, max_retries=max_retries, **content)
    workers.wait_for_workers(10.0)
    return workers


def crew_of(sample: Sequence[Example], size: int, seconds: float = 1.0, **other: Any) -> SimulatedCrew:
    return SimulatedCrew(sample, {example.path: seconds for example in sample}, size, **other)


def test_every_example_is_trained_once_and_comes_back_under_its_own_number() -> None:
    sample = examples(23)
    crew = crew_of(sample, 3)
    asked = [replace(example, index=example.index + 100) for example in sample[5:]]  # a study that goes on
    results = list(engine(crew, sample).train(asked, RULE))
    assert sorted((r.example.path, r.example.index) for r in results) == sorted((e.path, e.index) for e in asked)
    assert all(isinstance(result, Trajectory) and result.environment is None for result in results)
    assert [path for _, path in crew.begun][:3] == ["5.jpg", "9.jpg", "12.jpg"]
    assert {worker for worker, _ in crew.begun} == {0, 1, 2}


def test_long_examples_do_not_leave_others_idle() -> None:
    random.seed(3)
    sample = examples(400)
    crew = SimulatedCrew(sample, {example.path: random.choice([1, 1, 1, 100]) for example in sample}, 8)
    assert len(list(engine(crew, sample).train(sample, RULE))) == 400
    assert sum(crew.busy) / (8 * crew.now) > 0.95
    at_end = crew.now - min(crew.busy)
    assert at_end <= 101  # no longer than the longest example


@given(
    count=st.integers(1, 40),
    size=st.integers(1, 5),
    at_once=st.integers(1, 6),
    max_retries=st.integers(0, 3),
    seed=st.integers(0, 2**32),
    risk=st.sampled_from([0.0, 0.02, 0.1]),
)
def test_whatever_dies_none_is_lost_and_none_is_twice(
    count: int, size: int, at_once: int, max_retries: int, seed: int, risk: float
) -> None:
    dice = random.Random(seed)
    sample = examples(count)
    poison = {example.path for example in sample if dice.random() < 0.05}
    crew = SimulatedCrew(
        sample,
        {example.path: dice.choice([0.1, 1, 7]) for example in sample},
        size,
        dies=lambda worker, path: path in poison or dice.random() < risk,
        at_once=at_once,
    )
    results = list(engine(crew, sample, max_retries).train(sample, RULE))
    assert Counter(result.example.path for result in results) == Counter(example.path for example in sample)
    begun = Counter(path for _, path in crew.begun)
    assert all(begun[path] <= max_retries + 1 for path in begun)
    assert poison <= {result.example.path for result in results if isinstance(result, Failure)}
    good = [result for result in results if isinstance(result, Trajectory)]
    assert good == [trained(result.example, RULE) for result in good]
    if not risk and at_once == 1:
        assert len(good) == count - len(poison)  # who dies of an example takes no other with it


def test_an_example_that_kills_its_worker_is_an_error_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    sample = examples(9)
    crew = crew_of(sample, 2, dies=lambda worker, path: path == "4.jpg")
    results = list(engine(crew, sample).train(sample, RULE))
    (failure,) = [result for result in results if isinstance(result, Failure)]
    assert failure == Failure(sample[4], "its worker was lost 4 times; the last time: it was killed")
    assert len(results) == 9
    assert crew.starts[0] + crew.starts[1] == 2 + 4
    assert "was lost (it was killed); trained again: '4.jpg'" in caplog.text


def test_nothing_that_can_be_trained_ends_the_study() -> None:
    sample = examples(30)
    crew = crew_of(sample, 2, dies=lambda worker, path: True)
    with pytest.raises(
        WorkersError,
        match=r"nothing can be trained: .* workers were lost before the first .*; the last one: it was killed",
    ):
        list(engine(crew, sample).train(sample, RULE))


def test_a_stop_ends_it_after_what_is_in_hand() -> None:
    sample = examples(50)
    crew = crew_of(sample, 2)
    ended: list[str] = []
    for result in engine(crew, sample).train(sample, RULE, lambda: len(ended) >= 5):
        ended.append(result.example.path)
    begun = [path for _, path in crew.begun]
    assert sorted(begun) == sorted(ended)
    assert 5 <= len(ended) <= 9  # what each had begun when it was told
    assert [order.is_due for _, order in crew.orders[-2:]] == [True, True]


def test_steps_are_counted_and_workers_shown() -> None:
    sample = examples(12)
    lines: list[Sequence[WorkerLine]] = []
    steps: list[int] = []
    workers = engine(crew_of(sample, 2, seconds=2.5), sample, show=lines.append)
    results = list(workers.train(sample, RULE, on_steps=steps.append))
    assert sum(steps) == sum(len(result.losses) for result in results if isinstance(result, Trajectory))
    (line, other) = lines[-1]
    assert (line.worker, line.host, line.device, line.lost) == (1, "here", "cpu", 0)
    assert line.done + other.done == 12
    assert any(line.state == "at work" and line.in_hand == ("0.jpg",) for line, _ in lines)
    assert workers.closing() == "Workers: 2, at work 75.0 % of their time; lost and started anew: 0"


def test_a_training_that_was_broken_off_leaves_nothing_for_the_next() -> None:
    sample = examples(20)
    crew = crew_of(sample, 3, seconds=2.5)
    workers = engine(crew, sample)
    for _ in workers.train(sample, RULE):
        break
    other = StopRule(0.1, 5)
    results = list(workers.train(sample[:6], other))
    assert sorted(result.example.path for result in results) == [f"{i}.jpg" for i in range(6)]
    first = next(place for place, (_, order) in enumerate(crew.orders) if order.rule == other and order.places)
    assert {order.rule for _, order in crew.orders[first:]} == {other}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"unseen": "/data/a.jpg"}, "--root_dir: worker 2 on here can't see /data/a.jpg: the images must lie under"),
        ({"numbers": {**NUMBERS, "weights_sha256": "x"}}, 'train another study.*weights_sha256 was "abc", is "x"'),
        ({"environment": {**HERE, "torch": "2.11.0"}}, 'torch was "2.15.0", is "2.11.0".*--allow_mixed_environment'),
    ],
)
def test_a_worker_that_does_not_fit_is_refused(other: dict[str, Any], message: str) -> None:
    sample = examples(3)
    crew = crew_of(sample, 2, introduction=lambda worker, start: introduce(**(other if worker else {})))
    with pytest.raises(BadInputError, match=message):
        engine(crew, sample)


def test_rows_of_another_environment_say_so() -> None:
    sample = examples(12)
    other = {**HERE, "device": "another CPU"}
    crew = crew_of(sample, 2, introduction=lambda worker, start: introduce(environment=other if worker else HERE))
    results = list(engine(crew, sample, mixed=True).train(sample, RULE))
    made = {result.example.path: result.environment for result in results if isinstance(result, Trajectory)}
    assert all(made[path] == (other if worker else None) for worker, path in crew.begun)
    assert {worker for worker, _ in crew.begun} == {0, 1}


def test_a_worker_that_does_not_fit_is_sent_away_when_it_comes_late(caplog: pytest.LogCaptureFixture) -> None:
    sample = examples(9)
    deaths = iter([True])
    crew = crew_of(
        sample, 2, dies=lambda worker, path: worker == 1 and next(deaths, False),
        introduction=lambda worker, start: introduce(unseen="/a.jpg" if start else None),
    )  # fmt: skip
    assert len(list(engine(crew, sample).train(sample, RULE))) == 9
    assert crew.dismissed == [1]
    assert "worker 2 is sent away: --root_dir: worker 2 on here can't see /a.jpg" in caplog.text


def test_a_worker_that_can_not_start_is_tried_again_and_then_left_out(caplog: pytest.LogCaptureFixture) -> None:
    sample = examples(5)
    gone = Lost("no memory", False)
    crew = crew_of(sample, 2, introduction=lambda worker, start: gone if worker else introduce())
    assert len(list(engine(crew, sample).train(sample, RULE))) == 5
    assert crew.starts == [1, 4]
    assert "worker 2 could not be started: no memory" in caplog.text
    with pytest.raises(WorkersError, match="no worker is left; the last one could not be started: no memory"):
        engine(crew_of(sample, 1, introduction=lambda worker, start: gone), sample)


def test_a_worker_that_loses_whatever_it_gets_costs_no_example(caplog: pytest.LogCaptureFixture) -> None:
    sample = examples(300)
    crew = crew_of(sample, 3, dies=lambda worker, path: worker == 1)
    workers = engine(crew, sample)
    results = list(workers.train(sample, RULE))
    assert len(results) == 300
    assert not [result for result in results if isinstance(result, Failure)]
    assert (crew.starts[1], crew.dismissed, workers.devices) == (5, [1], 2)
    assert "worker 2 was lost 5 times without an example between; the others go on" in caplog.text


def test_a_worker_that_never_comes_is_not_waited_for_by_what_another_has_lost() -> None:
    sample = examples(6)

    class OneNeverComes(SimulatedCrew):
        def hear(self, seconds: float) -> list[tuple[int, Message]]:
            return [(worker, message) for worker, message in super().hear(seconds) if worker == 0]

    crew = OneNeverComes(sample, {e.path: 1.0 for e in sample}, 2, dies=lambda worker, path: path == "2.jpg")
    results = list(engine(crew, sample).train(sample, RULE))
    assert [result.example.path for result in results if isinstance(result, Failure)] == ["2.jpg"]
    assert len(results) == 6


def test_the_pace_is_that_of_all_where_all_have_measured_it() -> None:
    sample = examples(3)
    assert engine(crew_of(sample, 2), sample).steps_a_second is None
    crew = crew_of(sample, 2, introduction=lambda worker, start: introduce(steps_a_second=100.0 + worker))
    assert engine(crew, sample).steps_a_second == 201.0


class OneReport(SimulatedCrew):
    """A crew whose first report is given."""

    report: Report

    def hear(self, seconds: float) -> list[tuple[int, Message]]:
        heard = super().hear(seconds)
        if heard and isinstance(heard[0][1], Report):
            return [(heard[0][0], self.report)]
        return heard


def test_what_an_engine_raises_loses_its_worker_and_a_refusal_ends_the_study() -> None:
    sample = examples(1)
    failed = Report([], 0, ["0.jpg"], 1.0, 0.0, False, "RuntimeError: CUDA out of memory", False, [])
    crew = OneReport(sample, {"0.jpg": 1.0}, 1)
    crew.report = failed
    (failure,) = engine(crew, sample).train(sample, RULE)
    assert isinstance(failure, Failure)
    assert failure.reason.endswith("the last time: RuntimeError: CUDA out of memory")
    assert crew.starts == [4 + 1]
    crew = OneReport(sample, {"0.jpg": 1.0}, 1)
    crew.report = replace(failed, failed="MisconfigurationException: no such clipping", is_refusal=True)
    with pytest.raises(MisconfigurationException, match=r"^no such clipping$"):
        list(engine(crew, sample).train(sample, RULE))


def test_what_workers_say_alike_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    sample = examples(2)
    said = [(logging.INFO, "Engine: a"), (logging.WARNING, "odd")]
    crew = crew_of(sample, 3, introduction=lambda worker, start: replace(introduce(), said=said))
    engine(crew, sample)
    assert caplog.text.count("Engine: a") == 1
    assert caplog.text.count("worker 1: odd") == 1
    assert "Workers: 3 on cpu (here)" in caplog.text


def test_workers_that_come_late_join() -> None:
    sample = examples(40)

    class Late(SimulatedCrew):
        def hear(self, seconds: float) -> Sequence[tuple[int, Message]]:  # type: ignore[override]
            if self.now < 12 and isinstance(self._tell.get(1), Introduction):
                late = self._tell.pop(1)
                heard = super().hear(seconds)
                self._tell[1] = late
                return heard
            return super().hear(seconds)

    crew = Late(sample, {example.path: 1.0 for example in sample}, 2)
    assert len(list(engine(crew, sample).train(sample, RULE))) == 40
    assert {worker for worker, _ in crew.begun} == {0, 1}


def test_an_order_names_places_in_the_sample() -> None:
    sample = examples(4)
    crew = crew_of(sample, 1)
    list(engine(crew, sample).train(sample[2:], RULE))
    assert crew.orders[0] == (0, Order([2, 3], RULE, False))
