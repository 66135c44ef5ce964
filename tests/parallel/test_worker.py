"""A worker with an engine that does what it is told: what it takes, what it reports, how it ends."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest

from lightning_app.inputs.example import Example
from lightning_app.parallel.messages import Introduction, Order, Report
from lightning_app.parallel.worker import Worker
from lightning_app.training.engine import Engine, never, unseen
from lightning_app.training.trajectory import Failure, StopRule, Trajectory
from tests.parallel.crews import introduce, trained
from tests.parallel.test_leases import examples

RULE = StopRule(0.1, 10)


class Obedient:
    """Trains at most so many examples at once, each as soon as it may."""

    devices = 1
    steps_a_second = None

    def __init__(self, at_once: int = 1, fails: str | None = None) -> None:
        self.at_once = at_once
        self.fails = fails
        self.may = threading.Semaphore(0)
        self.rounds: list[StopRule] = []
        self.asked_in_vain = 0

    def closing(self) -> None:
        pass

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        is_due: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Trajectory | Failure]:
        self.rounds.append(rule)
        source, hands = iter(examples), list[Example]()
        while True:
            while len(hands) < self.at_once and (example := next(source, None)) is not None:
                hands.append(example)
            self.asked_in_vain += len(hands) < self.at_once
            if not hands:
                return
            if not self.may.acquire(timeout=0.02):
                continue
            if hands[0].path == self.fails:
                raise RuntimeError("CUDA error:\n no kernel")
            on_steps(2)
            yield trained(hands.pop(0), rule)
            if is_due():
                return


@pytest.fixture(autouse=True)
def tidy_log() -> Iterator[None]:
    log = logging.getLogger("lightning_app")
    before, level = list(log.handlers), log.level
    yield
    log.handlers, log.level = before, level


def begun(engine: Obedient, count: int = 8) -> Worker:
    worker = Worker(examples(count), lambda: (engine, introduce()))
    worker.begin()
    return worker


def told(worker: Worker, *places: int, is_due: bool = False, until: Callable[[Report], bool] = bool) -> list[Report]:
    """Sends an order, and empty ones after it until a report is as it is meant to be."""
    reports = [worker.exchange(Order(places, RULE, is_due))]
    for _ in range(20):
        if until(reports[-1]):
            return reports
        reports.append(worker.exchange(Order((), RULE, is_due)))
    raise AssertionError(reports)


def paths(reports: Iterable[Report]) -> list[str]:
    return [result.example.path for report in reports for result in report.results]


def test_it_answers_as_soon_as_an_example_has_ended() -> None:
    engine = Obedient()
    worker = begun(engine)
    engine.may.release()
    time.sleep(0.5)  # until it is asked for the first time, it isn't idle
    start = time.perf_counter()
    report = worker.exchange(Order([3, 4], RULE))
    assert report.seconds < 0.5
    assert report.idle_seconds < 0.2
    assert time.perf_counter() - start < 0.9
    assert (paths([report]), report.steps, report.failed, report.is_idle) == (["3.jpg"], 2, None, False)
    report = worker.exchange(Order([], RULE))  # a second passes
    assert (report.results, report.steps, report.in_hand) == ([], 0, ["4.jpg"])
    assert 0.9 < report.seconds < 10
    assert report.idle_seconds < 0.2
    engine.may.release(2)
    assert paths(told(worker, 5, until=lambda report: report.is_idle)) == ["4.jpg", "5.jpg"]
    assert engine.rounds == [RULE]  # one training, however many orders


def test_a_worker_without_work_says_so_and_takes_more_later() -> None:
    engine = Obedient()
    worker = begun(engine)
    engine.may.release(2)
    assert paths(told(worker, 0, until=lambda report: report.is_idle)) == ["0.jpg"]
    report = worker.exchange(Order([], RULE))
    assert report.idle_seconds > 0.9 * report.seconds > 0.8
    assert paths(told(worker, 1, until=lambda report: report.is_idle)) == ["1.jpg"]


def test_an_engine_with_free_slots_is_not_kept_waiting() -> None:
    engine = Obedient(at_once=3)
    worker = begun(engine)
    worker.exchange(Order([0], RULE))
    assert engine.asked_in_vain > 5  # within a second: it went on looking after what it had
    report = worker.exchange(Order([1, 2], RULE))
    assert list(report.in_hand) == ["0.jpg", "1.jpg", "2.jpg"]
    assert engine.rounds == [RULE]
    engine.may.release(3)
    assert paths(told(worker, until=lambda report: report.is_idle)) == ["0.jpg", "1.jpg", "2.jpg"]


def test_a_stop_ends_it_after_what_is_in_hand_and_the_next_rule_is_another_training() -> None:
    engine = Obedient()
    worker = begun(engine)
    worker.exchange(Order([0, 1], RULE))
    engine.may.release()
    reports = told(worker, is_due=True, until=lambda report: report.is_idle)
    assert paths(reports) == ["0.jpg"]
    assert list(reports[-1].in_hand) == []
    engine.may.release()
    other = StopRule(0.1, 5)
    assert paths([worker.exchange(Order([1], other))]) == ["1.jpg"]
    assert engine.rounds == [RULE, other]


def test_what_its_engine_raises_is_told_in_one_line_again_and_again() -> None:
    worker = begun(Obedient(fails="0.jpg"))
    engine_of(worker).may.release()
    for order in (Order([0], RULE), Order([], RULE)):
        report = worker.exchange(order)
        assert report.failed == "RuntimeError: CUDA error: no kernel"
        assert not report.is_refusal


def engine_of(worker: Worker) -> Obedient:
    engine = worker._introduce()[0]
    assert isinstance(engine, Obedient)
    return engine


def test_what_is_said_while_it_gets_ready_comes_with_its_introduction() -> None:
    log = logging.getLogger("lightning_app")

    def get_ready() -> tuple[Engine, Introduction]:
        assert threading.current_thread().name == "engine"
        log.info("Engine: %s", "one")
        log.debug("nobody's")
        return Obedient(), introduce()

    worker = Worker(examples(1), get_ready)
    assert worker.begin().said == [(logging.INFO, "Engine: one")]
    log.warning("odd")
    assert worker.exchange(Order([], RULE)).said == [(logging.WARNING, "odd")]


def test_an_engine_that_ends_its_thread_is_told_too() -> None:
    class Leaves(Obedient):
        def train(self, *arguments: object, **more: object) -> Iterator[Trajectory | Failure]:
            raise SystemExit(3)

    assert begun(Leaves()).exchange(Order([0], RULE)).failed == "SystemExit: 3"

    def get_ready() -> tuple[Engine, Introduction]:
        raise SystemExit(4)

    with pytest.raises(RuntimeError, match="SystemExit: 4"):
        Worker(examples(1), get_ready).begin()


def test_what_keeps_it_from_getting_ready_is_raised() -> None:
    def get_ready() -> tuple[Engine, Introduction]:
        raise ValueError("no such device")

    with pytest.raises(ValueError, match="no such device"):
        Worker(examples(1), get_ready).begin()
