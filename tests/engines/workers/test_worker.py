"""A worker with an engine that does what it is told: what it takes, what it answers, how it ends."""

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from lightning_app.data.environment import environment
from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Result, Trajectory
from lightning_app.engines.base import never, unseen
from lightning_app.engines.workers.worker import (
    Expected,
    ReadyWorker,
    RefusedError,
    Task,
    Worker,
    WorkerReport,
    get_ready,
)
from lightning_app.training.device import pin_numerics, resolve_device
from lightning_app.training.pretrained import load_pretrained, weights_sha256
from lightning_app.training.trainers import TrainerMaker
from tests.engines.workers.actors import examples, trained

RULE = StopRule(0.1, 10)
SAMPLE = examples(8)


class Obedient:
    """Trains at most so many examples at once, each as soon as it may."""

    devices = 1
    steps_a_second = None

    def __init__(self, max_in_flight: int = 1, fails: BaseException | None = None) -> None:
        self.max_in_flight = max_in_flight
        self.fails = fails
        self.may = threading.Semaphore(0)
        self.rounds: list[StopRule] = []
        self.asked_in_vain = 0

    def summary_line(self) -> None:
        pass

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        should_stop: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Result]:
        self.rounds.append(rule)
        source, hands, is_over = iter(examples), list[Example](), False
        while True:
            while not is_over and len(hands) < self.max_in_flight and (example := next(source, None)) is not None:
                hands.append(example)
            self.asked_in_vain += len(hands) < self.max_in_flight
            if not hands:
                return
            if not self.may.acquire(timeout=0.02):
                continue
            if self.fails is not None:
                raise self.fails
            on_steps(2)
            yield trained(hands.pop(0), rule)
            is_over = should_stop()


class Told:
    """A worker whose calls run in an event loop of their own, as Ray's do."""

    def __init__(self, engine: Obedient, environment: dict[str, object] | None = None) -> None:
        self.worker = Worker(lambda: ReadyWorker(engine, "cpu", environment))
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def train(self, *numbers: int, rule: StopRule = RULE) -> list[Future[Result | None]]:
        calls = [self.worker.train(SAMPLE[number], rule) for number in numbers]
        return [asyncio.run_coroutine_threadsafe(call, self._loop) for call in calls]

    def report(self, is_stopping: bool = False) -> WorkerReport:
        return asyncio.run_coroutine_threadsafe(self.worker.report(is_stopping), self._loop).result(10)


@pytest.fixture(autouse=True)
def tidy_log() -> Iterator[None]:
    log = logging.getLogger("lightning_app")
    before, level = list(log.handlers), log.level
    yield
    log.handlers, log.level = before, level


def paths(results: Sequence[Future[Result | None]]) -> list[str | None]:
    ended = [result.result(10) for result in results]
    return [result.example.path if result else None for result in ended]


def test_it_answers_as_soon_as_an_example_has_ended_and_reports_once_a_second() -> None:
    engine = Obedient()
    told = Told(engine)
    first = told.report()
    assert (first.max_in_flight, first.steps, first.seconds) == (1, 0, 0.0)
    time.sleep(0.3)  # until it is given something for the first time, it isn't idle
    begun, later = told.train(3, 4)
    engine.may.release()
    assert paths([begun]) == ["3.jpg"]
    start = time.perf_counter()
    report = told.report()
    assert 0.9 < time.perf_counter() - start < 5
    assert (report.steps, report.in_hand, report.failed) == (2, ("4.jpg",), None)
    assert report.idle_seconds < 0.2 < 0.9 < report.seconds
    engine.may.release(2)
    assert paths([later, *told.train(5)]) == ["4.jpg", "5.jpg"]
    assert engine.rounds == [RULE]  # one training


def test_a_call_that_comes_twice_is_one_training() -> None:
    engine = Obedient()
    told = Told(engine)
    results = told.train(1, 1)
    time.sleep(0.3)  # both are there
    engine.may.release(2)
    assert paths(results) == ["1.jpg", "1.jpg"]
    assert told.report().steps == 2


def test_an_engine_with_free_slots_is_not_kept_waiting() -> None:
    engine = Obedient(max_in_flight=3)
    told = Told(engine)
    results = told.train(0)
    time.sleep(0.5)
    assert engine.asked_in_vain > 5  # it went on looking after what it had
    results += told.train(1, 2)
    told.report()
    assert told.report().in_hand == ("0.jpg", "1.jpg", "2.jpg")
    assert engine.rounds == [RULE]
    engine.may.release(3)
    assert paths(results) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_stop_ends_it_after_what_is_in_hand_and_the_next_rule_is_another_training() -> None:
    engine = Obedient()
    told = Told(engine)
    results = told.train(0, 1)
    time.sleep(0.1)
    assert told.report(is_stopping=True).in_hand == ("0.jpg",)
    engine.may.release()
    assert paths(results) == ["0.jpg", None]
    engine.may.release()
    other = StopRule(0.1, 5)
    assert paths(told.train(1, rule=other)) == ["1.jpg"]
    assert engine.rounds == [RULE, other]


def test_results_of_another_environment_say_so() -> None:
    engine = Obedient()
    engine.may.release()
    (result,) = Told(engine, {"torch": "another"}).train(0)
    trajectory = result.result(10)
    assert isinstance(trajectory, Trajectory)
    assert trajectory.environment == {"torch": "another"}


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (RuntimeError("CUDA error:\n no kernel"), "RuntimeError: CUDA error: no kernel"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_what_its_engine_raises_is_told_in_one_line_and_then_the_process_ends(
    error: BaseException, failed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: Future[int] = Future()
    monkeypatch.setattr(os, "_exit", ended.set_result)
    engine = Obedient(fails=error)
    told = Told(engine)
    (result,) = told.train(0)
    engine.may.release()
    told.report()
    report = told.report()
    assert report.failed == failed
    assert ended.result(10) == 1
    assert not result.done()  # its process is restarted, and it is given the example again


def test_what_is_said_comes_with_its_reports() -> None:
    log = logging.getLogger("lightning_app")

    def make() -> ReadyWorker:
        assert threading.current_thread().name == "engine"
        log.info("Engine: %s", "one")
        log.debug("nobody's")
        return ReadyWorker(Obedient(), "cpu")

    worker = Worker(make)
    assert asyncio.run(worker.report(False)).said == ((logging.INFO, "Engine: one"),)
    log.warning("odd")
    assert asyncio.run(worker.report(True)).said == ((logging.WARNING, "odd"),)


@pytest.mark.parametrize(
    ("error", "kind", "words"), [(ValueError("no"), ValueError, "no"), (SystemExit(4), RuntimeError, "SystemExit: 4")]
)
def test_what_keeps_it_from_getting_ready_is_raised(error: BaseException, kind: type[Exception], words: str) -> None:
    def make() -> ReadyWorker:
        raise error

    with pytest.raises(kind, match=words):
        Worker(make)


@pytest.fixture
def task(tiny_model: str, photographs: Path) -> Task:
    trainers = TrainerMaker({"accelerator": "cpu", "devices": 1})
    pretrained = load_pretrained(tiny_model)
    device = resolve_device(trainers, "cpu")
    numbers = {
        "weights_sha256": weights_sha256(pretrained.network),
        "device_kind": "cpu",
        "numerics": pin_numerics("cpu"),
    }
    here = environment(device.name, device.threads, device.instructions)
    expected = Expected(numbers, "highest", here, False, photographs / "ant" / "00.jpg")
    return Task(Mock(), trainers, pretrained, expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda there: {"image": there.image.with_name("gone.jpg")}, r"--root_dir: .* can't see .*/gone\.jpg: the"),
        (lambda there: {"numbers": {**there.numbers, "weights_sha256": "x"}},
         r'would train another study \(here, there\): weights_sha256 was "x", is'),
        (lambda there: {"environment": {**there.environment, "torch": "2.5"}},
         r'another environment than this one: torch was "2.5", is .*--allow_mixed_environment'),
    ],
)  # fmt: skip
def test_a_worker_that_does_not_fit_is_refused(task: Task, change: Callable[[Expected], Any], words: str) -> None:
    with pytest.raises(RefusedError, match=words):
        get_ready(replace(task, expected=replace(task.expected, **change(task.expected))))


def test_another_environment_is_taken_where_that_is_asked_for(task: Task) -> None:
    there = {**task.expected.environment, "torch": "2.5"}
    assert get_ready(task).environment is None
    ready = get_ready(replace(task, expected=replace(task.expected, environment=there, is_another_allowed=True)))
    assert ready.environment is not None
    assert ready.environment["torch"] == task.expected.environment["torch"]


def test_it_loads_nothing_heavy_before_its_environment_is_set() -> None:
    code = "import sys, lightning_app.engines.workers.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "lightning", "numpy", "ray"} & {*done.stdout.split()}
