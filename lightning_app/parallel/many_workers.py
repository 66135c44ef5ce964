"""Many workers as one engine: hands out leases, takes results, and outlives the loss of workers."""

import logging
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.errors import BadInputError, WorkersError
from lightning_app.inputs.example import Example
from lightning_app.parallel.leases import Leases
from lightning_app.parallel.messages import Crew, Introduction, Lost, Message, Order, Report, Said
from lightning_app.store.fingerprint import differences, told
from lightning_app.store.workers import WorkerLine
from lightning_app.training.engine import never, unseen
from lightning_app.training.trajectory import Failure, StopRule, Trajectory

log = logging.getLogger("lightning_app")

LISTENING_SECONDS = 1.0
MOST_LOST_AT_FIRST = 10
"""Workers with which examples were given up before any had been trained: then it isn't the examples."""

MOST_FRUITLESS = 5
"""Losses in a row of a worker that ends no example between them, while others do: then it is the worker."""

Numbers = Mapping[str, object]
ShowWorkers = Callable[[Sequence[WorkerLine]], None]


@dataclass
class _Worker:
    """A worker as the driver sees it.

    Args:
        introduction: None until it is ready.
        in_hand: Paths of the examples that it has begun.
        done: Examples that have ended, by all processes that had this number.
        lost: Its processes that were lost.
        failed_starts: Of them, those in a row that never introduced themselves.
        fruitless: Of them, those in a row that were lost before they had ended an example.
        steps: Taken by this process.
        seconds: That its reports speak of.
        idle_seconds: Of them, those without any example.
        is_idle: Whether it has nothing to do.
        has_order: Whether it owes a report.
        is_dismissed: Whether it is not to come back.
    """

    introduction: Introduction | None = None
    in_hand: Sequence[str] = ()
    done: int = 0
    lost: int = 0
    failed_starts: int = 0
    fruitless: int = 0
    steps: int = 0
    seconds: float = 0.0
    idle_seconds: float = 0.0
    is_idle: bool = True
    has_order: bool = False
    is_dismissed: bool = False

    def took(self, report: Report) -> None:
        """Adds a report."""
        self.in_hand, self.is_idle = report.in_hand, report.is_idle
        self.done += len(report.results)
        self.fruitless = 0 if report.results else self.fruitless
        self.steps += report.steps
        self.seconds += report.seconds
        self.idle_seconds += report.idle_seconds

    def line(self, number: int) -> WorkerLine:
        """For the screen and for `status`."""
        there = self.introduction
        state = "starting" if there is None else "at work" if self.in_hand else "idle"
        return WorkerLine(
            worker=number + 1,
            host=there.host if there else "",
            device=there.device if there else "",
            state="gone" if self.is_dismissed else state,
            steps_per_second=self.steps / self.seconds if self.seconds else None,
            done=self.done,
            lost=self.lost,
            in_hand=tuple(self.in_hand),
        )  # fmt: skip


class ManyWorkers:
    """Trains examples on many devices; see `Engine`.

    Args:
        crew: The workers' processes, on their way.
        sample: All examples of the study.
        numbers: What each worker must find as the driver did: weights, kind of device, numerics.
        environment: The driver's.
        mixed: Whether a worker's may be another.
        max_retries: How often an example is trained again after its worker was lost.
        show: Called with a line a worker whenever something has changed.
    """

    at_once = 1

    def __init__(
        self,
        crew: Crew,
        sample: Sequence[Example],
        numbers: Numbers,
        environment: Numbers,
        mixed: bool,
        max_retries: int,
        show: ShowWorkers,
    ) -> None:
        self._crew = crew
        self._places = {example.path: place for place, example in enumerate(sample)}
        self._numbers = numbers
        self._environment = environment
        self._mixed = mixed
        self._max_retries = max_retries
        self._show = show
        self._workers = [_Worker() for _ in range(crew.size)]
        self._seconds = self._idle_seconds = 0.0
        self._has_trained = False
        self._lost_at_first = 0
        self._said = Counter[Said]()
        self._heard = deque[tuple[int, Message]]()

    @property
    def devices(self) -> int:
        """One a worker, as far as they are to come back."""
        return sum(not worker.is_dismissed for worker in self._workers)

    @property
    def steps_a_second(self) -> float | None:
        """Of all workers, where every one has measured its own."""
        paces = [there.steps_a_second for worker in self._workers if (there := worker.introduction)]
        return None if not paces or None in paces else sum(filter(None, paces))

    def wait_for_workers(self, seconds: float) -> None:
        """Waits until every worker is ready, or some for so long, and sees that each fits the study.

        Raises:
            BadInputError: If one doesn't.
            WorkersError: If none can start.
        """
        waited, said = 0.0, False
        while self._starting() and (waited < seconds or not any(worker.introduction for worker in self._workers)):
            messages = self._crew.hear(LISTENING_SECONDS)
            waited += LISTENING_SECONDS if not messages else 0.0
            if waited >= seconds and not said:
                said = True
                log.warning("still waiting for %d of %d workers: are their devices free?",
                            len(self._starting()), len(self._workers))  # fmt: skip
            for number, message in messages:
                if isinstance(message, Introduction):
                    self._welcome(number, message)
                elif isinstance(message, Lost):
                    self._could_not_start(number, message)
        if self._starting():
            log.warning("%d of %d workers are not there yet: the study begins without them",
                        len(self._starting()), len(self._workers))  # fmt: skip
        for words, count in Counter(
            (there.device, there.host) for worker in self._workers if (there := worker.introduction)
        ).items():
            log.info("Workers: %d on %s (%s)", count, *words)

    def _starting(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.introduction is None and not worker.is_dismissed]

    def _welcome(self, number: int, there: Introduction) -> None:
        """Lets a worker in.

        Raises:
            BadInputError: If it doesn't fit the study.
        """
        who = f"worker {number + 1} on {there.host}"
        if there.unseen is not None:
            raise BadInputError(
                f"--root_dir: {who} can't see {there.unseen}: the images must lie under the same path on every machine"
            )
        if differing := differences(dict(self._numbers), dict(there.numbers)):
            raise BadInputError(f"{who} would train another study (here, there): {told(differing)}")
        differing = differences(dict(self._environment), dict(there.environment))
        if differing and not self._mixed:
            raise BadInputError(
                f"{who} is another environment than this one: {told(differing)}. The last bits of its rows may differ:"
                " --allow_mixed_environment takes it all the same"
            )
        worker = self._workers[number]
        worker.introduction, worker.failed_starts = there, 0
        worker.steps, worker.seconds, worker.idle_seconds, worker.is_idle = 0, 0.0, 0.0, True
        self._tell(number, there.said)

    def _tell(self, number: int, said: Sequence[Said]) -> None:
        """Logs what a worker had to say, and what many say alike once."""
        for level, text in said:
            self._said[level, text] += 1
            if self._said[level, text] == 1:
                log.log(level, "%s", text if level < logging.WARNING else f"worker {number + 1}: {text}")

    def _could_not_start(self, number: int, message: Lost) -> None:
        worker = self._workers[number]
        worker.introduction = None
        worker.failed_starts += 1
        worker.lost += 1
        if worker.failed_starts <= self._max_retries:
            log.warning("worker %d did not start (%s); started again", number + 1, message.reason)
            self._crew.start_anew(number)
            return
        self._dismiss(number, f"could not be started: {message.reason}")

    def _dismiss(self, number: int, why: str) -> None:
        worker = self._workers[number]
        worker.introduction, worker.is_dismissed, worker.in_hand = None, True, ()
        self._crew.dismiss(number)
        log.error("worker %d %s", number + 1, why)
        if all(other.is_dismissed for other in self._workers):
            raise WorkersError(f"no worker is left; the last one {why}")

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        is_due: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Trajectory | Failure]:
        """Trains each example on some device; see `Engine.train`.

        Raises:
            MisconfigurationException: If Lightning refuses its flags at the first example.
            WorkersError: If no worker is left, or none can train anything.
        """
        self._settle(rule)
        leases = Leases(filter(None, examples), self.devices, self._max_retries)
        is_stopping = False
        for number in range(len(self._workers)):
            self._send(number, leases, rule, is_stopping)
        while leases.held or (leases.waiting and not is_stopping):
            for number, message in self._hear():
                self._workers[number].has_order = False
                is_stopping = is_stopping or is_due()
                results: Sequence[Trajectory | Failure] = ()
                if isinstance(message, Introduction):
                    self._let_in_late(number, message)
                elif isinstance(message, Report):
                    on_steps(message.steps)
                    results = self._take(number, message, leases)
                    if message.failed is not None:
                        results = [*results, *self._lose(number, Lost(message.failed, True), leases)]
                else:
                    results = self._lose(number, message, leases)
                self._send(number, leases, rule, is_stopping)  # first, so that it needn't wait for files to be written
                yield from results
            is_stopping = is_stopping or is_due()
            self._show([worker.line(number) for number, worker in enumerate(self._workers)])
            if is_stopping and all(worker.is_idle for worker in self._workers):
                return

    def _hear(self) -> Iterator[tuple[int, Message]]:
        """Listens for a while; what a training that was broken off has not taken of what it heard comes first."""
        if not self._heard:
            self._heard.extend(self._crew.hear(LISTENING_SECONDS))
        while self._heard:
            yield self._heard.popleft()

    def _settle(self, rule: StopRule) -> None:
        """Waits for what an earlier training that was broken off has left in hand."""
        for worker in self._workers:
            worker.is_idle = worker.is_idle or not worker.has_order
        while any(worker.has_order for worker in self._workers):
            for number, message in self._hear():
                worker = self._workers[number]
                worker.has_order = False
                if isinstance(message, Report) and message.failed is None:
                    worker.took(message)
                    if not worker.is_idle:
                        self._crew.send(number, Order((), rule, is_due=True))
                        worker.has_order = True
                elif isinstance(message, Introduction):
                    self._let_in_late(number, message)
                else:
                    reason = message.failed if isinstance(message, Report) else message.reason
                    self._lose(number, Lost(str(reason), worker.introduction is not None), Leases((), 1, 0))

    def _let_in_late(self, number: int, there: Introduction) -> None:
        try:
            self._welcome(number, there)
        except BadInputError as error:
            self._dismiss(number, f"is sent away: {error}")

    def _send(self, number: int, leases: Leases, rule: StopRule, is_stopping: bool) -> None:
        """Sends an order to a worker that is ready; one without examples asks it how it is doing."""
        worker = self._workers[number]
        if worker.introduction is None:
            return
        leases.workers = self.devices
        proven = not worker.fruitless or not self._has_better(worker)
        lease = [] if is_stopping else leases.hand_out(number, worker.introduction.at_once, proven)
        worker.is_idle = worker.is_idle and not lease
        self._crew.send(number, Order([self._places[example.path] for example in lease], rule, is_stopping))
        worker.has_order = True

    def _has_better(self, worker: _Worker) -> bool:
        """Whether another is there that was not lost since it ended an example."""
        return any(other.introduction and not other.fruitless for other in self._workers if other is not worker)

    def _take(self, number: int, report: Report, leases: Leases) -> list[Trajectory | Failure]:
        """Takes a report's results, under the study's own numbers."""
        worker = self._workers[number]
        worker.took(report)
        self._seconds += report.seconds
        self._idle_seconds += report.idle_seconds
        self._tell(number, report.said)
        there = worker.introduction
        assert there is not None
        own = None if there.environment == self._environment else there.environment
        results: list[Trajectory | Failure] = []
        for result in report.results:
            example = leases.is_over(number, result.example.path)
            if isinstance(result, Trajectory):
                self._has_trained = True
                results.append(replace(result, example=example, environment=own))
            else:
                results.append(replace(result, example=example))
        if report.failed is not None and report.is_refusal:
            raise MisconfigurationException(report.failed.partition(": ")[2])
        return results

    def _lose(self, number: int, message: Lost, leases: Leases) -> list[Failure]:
        """Starts a lost worker anew, and gives up the examples that have been lost with their workers too often."""
        worker = self._workers[number]
        if not message.could_start:
            self._could_not_start(number, message)
            return []
        there = worker.introduction
        assert there is not None
        again, given_up = leases.is_lost(number, there.at_once)
        worker.introduction, worker.in_hand, worker.is_idle = None, (), True
        worker.lost += 1
        worker.fruitless += 1
        trained_again = f"; trained again: {', '.join(repr(example.path) for example in again[:3])}" if again else ""
        more = f" and {len(again) - 3} more" if len(again) > 3 else ""
        log.warning("worker %d on %s was lost (%s)%s%s", number + 1, there.host, message.reason, trained_again, more)
        if given_up and not self._has_trained:
            self._lost_at_first += 1
            if self._lost_at_first == MOST_LOST_AT_FIRST:
                raise WorkersError(
                    f"nothing can be trained: {sum(worker.lost for worker in self._workers)} workers were lost before"
                    f" the first example had ended; the last one: {message.reason}"
                )
        if worker.fruitless >= MOST_FRUITLESS and self._has_better(worker):
            self._dismiss(number, f"was lost {worker.fruitless} times without an example between; the others go on")
        else:
            self._crew.start_anew(number)
        return [
            Failure(example, f"its worker was lost {self._max_retries + 1} times; the last time: {message.reason}")
            for example in given_up
        ]

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
