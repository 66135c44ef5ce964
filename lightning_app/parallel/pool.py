"""Many workers as one engine: hands out examples, takes results, and outlives the loss of workers."""

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.errors import BadInputError, WorkersError
from lightning_app.inputs.example import Example
from lightning_app.parallel.ray_actors import ENDED, Lost, RayActors
from lightning_app.parallel.worker import Report, Result, Said
from lightning_app.store.workers import WorkerLine
from lightning_app.training.engine import never, unseen
from lightning_app.training.trajectory import Failure, StopRule

log = logging.getLogger("lightning_app")

AHEAD = 2
"""Examples that a worker is given beside those it takes at once, so that it doesn't wait for the next. Each of them
loses a try with its worker, begun or not."""
LISTENING_SECONDS = 0.5
LOOK_SECONDS = 1.0
"""How often it is seen that each worker has something to do."""
LAST_REPORTS_SECONDS = 2.0

ShowWorkers = Callable[[Sequence[WorkerLine]], None]


@dataclass
class _Worker:
    """A worker as the driver sees it.

    Args:
        report: The last of the process that is there; None while there is none.
        held: What it has been given and has not answered, by path.
        is_alone: Whether that is one example whose worker was lost before.
        done: Examples that have ended, by all processes that had this number.
        lost: Its processes that were lost.
        failed_starts: How often in a row its constructor raised.
        has_ended: Whether it has ended an example since its actor was made.
        is_proven: Whether it has ended one since a process of its was lost.
        owed: Reports that it owes.
        is_gone: Whether it is not to come back.
        reason: Why it was lost the last time.
    """

    report: Report | None = None
    held: dict[str, Example] = field(default_factory=dict)
    is_alone: bool = False
    done: int = 0
    lost: int = 0
    failed_starts: int = 0
    has_ended: bool = False
    is_proven: bool = False
    owed: int = 0
    is_gone: bool = False
    reason: str = ""

    @property
    def is_away(self) -> bool:
        """Whether its process was lost, and the next isn't there yet, with examples that others might train."""
        return self.report is None and bool(self.held)

    @property
    def is_free(self) -> bool:
        """Whether it has nothing to do."""
        return self.report is not None and not self.held

    def line(self, number: int) -> WorkerLine:
        """For the screen and for `status`."""
        there = self.report
        in_hand = there.in_hand if there else ()
        state = "gone" if self.is_gone else "starting" if there is None else "at work" if in_hand else "idle"
        return WorkerLine(
            worker=number + 1,
            host=there.host if there else "",
            device=there.device if there else "",
            state=state,
            steps_per_second=there.steps / there.seconds if there and there.seconds else None,
            done=self.done,
            lost=self.lost,
            in_hand=in_hand,
        )


class WorkerPool:
    """Trains examples on many devices; see `Engine`.

    A worker whose process is lost is restarted, and trains again what it had been given, up to `max_retries` times.
    What has failed so, and was perhaps only beside the example that took the worker with it, is tried again alone when
    all others have ended; then it is an error.

    Args:
        actors: The workers' processes.
        max_retries: How often a worker that was restarted is given an example again.
        show: Called about once a second with a line a worker.
        clock: Seconds.
    """

    at_once = 1

    def __init__(
        self, actors: RayActors, max_retries: int, show: ShowWorkers, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._actors = actors
        self._max_retries = max_retries
        self._show = show
        self._clock = clock
        self._workers = [_Worker() for _ in range(actors.size)]
        self._waiting: deque[Example] = deque()
        self._suspects: deque[Example] = deque()
        self._taken_back: Counter[str] = Counter()
        self._numbers: dict[str, int] = {}
        self._rule = StopRule(0.0, 0)
        self._on_steps: Callable[[int], None] = unseen
        self._is_under_way = False
        self._next_look = 0.0
        self._seconds = self._idle_seconds = 0.0
        self._said = Counter[Said]()

    @property
    def devices(self) -> int:
        """One a worker, as far as they are to come back."""
        return sum(not worker.is_gone for worker in self._workers)

    @property
    def steps_a_second(self) -> float | None:
        """Of all workers, where every one has measured its own."""
        paces = [worker.report.steps_a_second for worker in self._workers if worker.report]
        return None if not paces or None in paces else sum(filter(None, paces))

    def wait_for_workers(self, seconds: float) -> None:
        """Starts the workers, and waits until every one is ready, or some for so long.

        Raises:
            BadInputError: If one doesn't fit the study.
            WorkersError: If none can start.
        """
        for number in range(len(self._workers)):
            self._start(number)
        until, said = self._clock() + seconds, False
        while self._starting() and (self._clock() < until or not any(worker.report for worker in self._workers)):
            if heard := self._actors.hear(LISTENING_SECONDS):
                self._take(*heard)
            if self._clock() >= until and not said:
                said = True
                log.warning("still waiting for %d of %d workers: are their devices free?",
                            self._starting(), len(self._workers))  # fmt: skip
        if self._starting():
            log.warning("%d of %d workers are not there yet: the study begins without them",
                        self._starting(), len(self._workers))  # fmt: skip
        for words, count in Counter((w.report.device, w.report.host) for w in self._workers if w.report).items():
            log.info("Workers: %d on %s (%s)", count, *words)
        self._is_under_way = True

    def _starting(self) -> int:
        return sum(worker.report is None and not worker.is_gone for worker in self._workers)

    def _start(self, number: int) -> None:
        worker = self._workers[number]
        worker.report, worker.has_ended, worker.is_proven, worker.owed = None, False, False, 0
        self._actors.start(number)
        self._ask(number, is_stopping=False)

    def _ask(self, number: int, is_stopping: bool) -> None:
        self._workers[number].owed += 1
        self._actors.ask(number, is_stopping)

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        is_due: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Result]:
        """Trains each example on some device; see `Engine.train`.

        Raises:
            MisconfigurationException: If Lightning refuses its flags at the first example.
            WorkersError: If no worker is left.
        """
        self._settle()
        self._waiting, self._suspects = deque(filter(None, examples)), deque()
        self._numbers = {example.path: number for number, example in enumerate(self._waiting)}
        self._taken_back.clear()
        self._rule, self._on_steps = rule, on_steps
        is_stopping, self._next_look = False, 0.0
        while self._held or ((self._waiting or self._suspects) and not is_stopping):
            if not is_stopping and is_due():
                is_stopping, self._next_look = True, 0.0
            yield from self._look_after(is_stopping)
            if heard := self._actors.hear(LISTENING_SECONDS):
                results = self._take(*heard)
                if not is_stopping:  # first, so that it needn't wait for files to be written
                    self._hand_out(heard[0])
                yield from results
        self._take_last_reports()

    @property
    def _held(self) -> int:
        return sum(len(worker.held) for worker in self._workers)

    def _settle(self) -> None:
        """Waits for what an earlier training that was broken off has left in hand."""
        self._next_look, self._on_steps = 0.0, unseen
        while self._held:
            for _ in self._look_after(is_stopping=True):
                pass
            if heard := self._actors.hear(LISTENING_SECONDS):
                self._take(*heard)

    def _take_last_reports(self) -> None:
        """Has the steps and the seconds of the last second, too."""
        for number, worker in enumerate(self._workers):
            if worker.report:
                self._ask(number, is_stopping=True)
        until = self._clock() + LAST_REPORTS_SECONDS
        while any(worker.report and worker.owed > 1 for worker in self._workers) and self._clock() < until:
            if heard := self._actors.hear(LISTENING_SECONDS):
                self._take(*heard)

    def _look_after(self, is_stopping: bool) -> Iterator[Result]:
        """Once a second: asks every worker how it is doing, and sees that each has something to do."""
        if self._clock() < self._next_look:
            return
        self._next_look = self._clock() + LOOK_SECONDS
        for number, worker in enumerate(self._workers):
            if not is_stopping:
                self._hand_out(number)
            others_are_free = not self._waiting and any(other.is_free for other in self._workers)
            if worker.is_away and (is_stopping or others_are_free):
                results = self._take_back(number)
                self._start(number)
                yield from results
            elif worker.report and (is_stopping or (others_are_free and len(worker.held) > worker.report.at_once)):
                self._ask(number, is_stopping=True)  # what it hasn't begun is for others
            elif not worker.is_gone and not worker.owed:
                self._ask(number, is_stopping=False)
        self._show([worker.line(number) for number, worker in enumerate(self._workers)])

    def _hand_out(self, number: int) -> None:
        """Keeps a worker in examples; when few are left nobody is given any that another could begin."""
        worker, waiting = self._workers[number], len(self._waiting)
        if worker.report is None or worker.is_alone:
            return
        if waiting:
            share = -(-(waiting + self._held) // self.devices)
            ahead = min(AHEAD, waiting // (2 * self.devices))
            for _ in range(min(worker.report.at_once + ahead, share) - len(worker.held)):
                if self._waiting:
                    self._give(number, self._waiting.popleft())
        elif self._suspects and worker.is_free and (worker.is_proven or not self._has_proven()):
            worker.is_alone = True
            self._give(number, self._suspects.popleft())

    def _has_proven(self) -> bool:
        """Whether a worker is there whose loss would not be its own fault."""
        return any(worker.report and worker.is_proven for worker in self._workers)

    def _give(self, number: int, example: Example) -> None:
        self._workers[number].held[example.path] = example
        self._actors.train(number, self._numbers[example.path], example, self._rule)

    def _take(self, number: int, example: Example | None, came: Result | Report | Lost | None) -> list[Result]:
        """Takes what was heard.

        Raises:
            BadInputError: If a worker doesn't fit the study, before the first training.
            MisconfigurationException: If Lightning refuses its flags.
            WorkersError: If no worker is left.
        """
        worker = self._workers[number]
        if isinstance(came, Report):
            self._take_report(number, came)
        elif isinstance(came, Lost) and came.is_dead:
            return self._replace(number, came)
        elif example is None:
            assert isinstance(came, Lost)
            worker.owed -= 1
            self._is_lost(number, came.reason)
        else:
            del worker.held[example.path]
            was_alone, worker.is_alone = worker.is_alone, False
            if isinstance(came, Lost):
                return self._suspect(example, was_alone, self._why(worker, came.reason))
            if came is None:
                self._waiting.appendleft(example)
                return []
            worker.done += 1
            worker.has_ended = worker.is_proven = True
            return [replace(came, example=example)]
        return []

    def _take_report(self, number: int, report: Report) -> None:
        worker = self._workers[number]
        worker.owed -= 1
        if worker.report and worker.report.process != report.process:
            self._is_lost(number, ENDED)  # it owed no report when it was
        before = worker.report or replace(report, steps=0, seconds=0.0, idle_seconds=0.0)
        worker.report, worker.failed_starts = report, 0
        self._on_steps(report.steps - before.steps)
        self._seconds += report.seconds - before.seconds
        self._idle_seconds += report.idle_seconds - before.idle_seconds
        for level, text in report.said:  # what many say alike is said once
            self._said[level, text] += 1
            if self._said[level, text] == 1:
                log.log(level, "%s", text if level < logging.WARNING else f"worker {number + 1}: {text}")
        if report.failed is not None and report.is_refusal:
            raise MisconfigurationException(report.failed.partition(": ")[2])
        if not worker.owed:
            self._ask(number, is_stopping=False)

    def _is_lost(self, number: int, reason: str) -> None:
        """Notes that a worker's process is gone, and that another is on its way."""
        worker = self._workers[number]
        if worker.report is None:
            return
        worker.reason = self._why(worker, reason)
        log.warning("worker %d on %s was lost (%s)%s", number + 1, worker.report.host, worker.reason,
                    f"; trained again: {_some(worker.held)}" if worker.held else "")  # fmt: skip
        worker.report, worker.is_proven = None, False
        worker.lost += 1

    def _why(self, worker: _Worker, reason: str) -> str:
        """Why a worker was lost, as it may have said itself."""
        return (worker.report.failed if worker.report else worker.reason) or reason

    def _suspect(self, example: Example, was_alone: bool, reason: str) -> list[Result]:
        """What comes of an example whose worker was lost with it at every try."""
        if was_alone:
            return [Failure(example, f"its worker was lost at every try, also alone; the last time: {reason}")]
        log.warning("the worker of %r was lost %d times; the example is tried again alone, at the end", example.path,
                    self._max_retries + 1)  # fmt: skip
        self._suspects.append(example)
        return []

    def _take_back(self, number: int) -> list[Result]:
        """Gives what a worker holds to others: at first among others, then alone, and not for ever."""
        worker = self._workers[number]
        examples, was_alone = list(worker.held.values()), worker.is_alone
        worker.held.clear()
        worker.is_alone = False
        results: list[Result] = []
        for example in reversed(examples):
            self._taken_back[example.path] += 1
            if was_alone and self._taken_back[example.path] > self._max_retries:
                results += self._suspect(example, was_alone, worker.reason)
            elif was_alone or self._taken_back[example.path] > 1:
                self._suspects.appendleft(example)
            else:
                self._waiting.appendleft(example)
        return results

    def _replace(self, number: int, lost: Lost) -> list[Result]:
        """Makes a new actor where Ray has given one up, unless that wouldn't help.

        Raises:
            BadInputError: If it doesn't fit the study, before the first training.
            WorkersError: If no worker is left.
        """
        worker = self._workers[number]
        if lost.refused is not None and not self._is_under_way:
            raise BadInputError(f"worker {number + 1}: {lost.refused}")
        self._is_lost(number, lost.reason)
        results = self._take_back(number)
        if lost.refused is not None:
            self._dismiss(number, f"is sent away: {lost.refused}")
        elif lost.could_start and not worker.has_ended:
            self._dismiss(
                number, f"was lost again and again, without an example between: {worker.reason or lost.reason}"
            )
        elif not lost.could_start and worker.failed_starts == self._max_retries:
            self._dismiss(number, f"could not be started: {lost.reason}")
        else:
            if not lost.could_start:
                worker.failed_starts += 1
                log.warning("worker %d did not start (%s); started again", number + 1, lost.reason)
            self._start(number)
        return results

    def _dismiss(self, number: int, why: str) -> None:
        worker = self._workers[number]
        worker.report, worker.is_gone = None, True
        self._actors.dismiss(number)
        log.error("worker %d %s", number + 1, why)
        if all(other.is_gone for other in self._workers):
            raise WorkersError(f"no worker is left; the last one {why}")

    def closing(self) -> str | None:
        """How busy the workers were."""
        if not self._seconds:
            return None
        busy, lost = 100 * self.busy, sum(worker.lost for worker in self._workers)
        return f"Workers: {len(self._workers)}, at work {busy:.1f} % of their time; lost and started anew: {lost}"

    @property
    def busy(self) -> float:
        """Share of the workers' time, as far as they have reported it, with an example in hand."""
        return 1 - self._idle_seconds / self._seconds if self._seconds else math.nan


def _some(paths: Iterable[str]) -> str:
    first, *others = map(repr, paths)
    more = f" and {len(others) - 2} more" if len(others) > 2 else ""
    return ", ".join([first, *others[:2]]) + more
