"""Many workers as one engine: whether they can be had, handing out examples, taking results."""

import logging
import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Failure, Result
from lightning_app.data.worker_state import WorkerState
from lightning_app.engines.base import never, unseen
from lightning_app.engines.workers.ray_actors import Lost, RayActors, cluster_workers, local_workers, require_ray
from lightning_app.engines.workers.worker import Said, Task, WorkerReport
from lightning_app.errors import BadInputError, WorkersError
from lightning_app.training.device import Device

log = logging.getLogger("lightning_app")

AHEAD = 2
"""Examples that a worker is given beside those it takes at once, so that it doesn't wait for the next."""
LISTENING_SECONDS = 0.5
LOOK_SECONDS = 1.0
AWAY_SECONDS = 60.0  # a restart takes less, unless there is no machine for it
BAD = 5  # losses in a row; but always more than one example can cause
NOTHING = 10  # examples that failed alone, and none ever ended

NO_REPORT = WorkerReport(host="", device="", max_in_flight=0)


@dataclass
class _Worker:
    """A worker as the driver sees it."""

    number: int
    report: WorkerReport | None = None  # the last; None while its process is starting
    is_gone: bool = False  # for good
    held: dict[str, Example] = field(default_factory=dict)
    is_alone: bool = False  # with an example whose worker was lost at every try
    done: int = 0
    lost: int = 0
    lost_in_a_row: int = 0  # since it ended an example
    lost_at: float = 0.0
    reason: str = ""  # why it was lost

    @property
    def is_proven(self) -> bool:
        """Whether its next loss would not be its own fault."""
        return self.report is not None and self.done > 0 and self.lost_in_a_row == 0

    def line(self) -> WorkerState:
        """For the screen and for `status`."""
        there = self.report or NO_REPORT
        state = "at work" if there.in_hand else "idle" if self.report else "gone" if self.is_gone else "starting"
        pace = there.steps / there.seconds if there.seconds else None
        where = self.number + 1, there.host, there.device
        return WorkerState(*where, state, pace, self.done, self.lost, there.in_hand)


class WorkerPool:
    """Trains examples on many devices; see `Engine`.

    Ray restarts a worker that is lost, and gives it again what it had, up to `max_retries` times. What has failed so,
    perhaps only beside the example that took the worker with it, is tried again alone at the end; then it is an error.

    Args:
        actors: The workers' processes.
        max_retries: How often Ray gives an example again.
        show: Called about once a second with a line a worker.
        clock: Seconds.
    """

    max_in_flight = 1

    def __init__(
        self,
        actors: RayActors,
        max_retries: int,
        show: Callable[[Sequence[WorkerState]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._actors, self._show, self._clock = actors, show, clock
        self._bad = max(BAD, max_retries + 2)
        self._workers = [_Worker(number) for number in range(actors.size)]
        self._waiting, self._suspects = deque[Example](), deque[Example]()
        self._rule = StopRule(0.0, 0)
        self._on_steps: Callable[[int], None] = unseen
        self._is_under_way = self._is_stopping = self._has_any_ended = False
        self._next_look, self._failed_alone = 0.0, 0
        self._seconds = self._idle_seconds = 0.0
        self._said = set[Said]()

    @property
    def devices(self) -> int:
        """One a worker, as far as they are to come back."""
        return sum(not worker.is_gone for worker in self._workers)

    @property
    def steps_a_second(self) -> float | None:
        """Of all workers, where every one has measured its own."""
        paces = [worker.report.steps_a_second for worker in self._workers if worker.report]
        return None if not paces or None in paces else sum(filter(None, paces))

    @property
    def busy(self) -> float:
        """Share of their time, as far as they have reported it, that the workers have had an example in hand."""
        return 1 - self._idle_seconds / self._seconds if self._seconds else math.nan

    def summary_line(self) -> str | None:
        """How busy the workers were."""
        if math.isnan(self.busy):
            return None
        busy, lost = 100 * self.busy, sum(worker.lost for worker in self._workers)
        return f"Workers: {len(self._workers)}, at work {busy:.1f} % of their time; lost and started anew: {lost}"

    def wait_for_workers(self, seconds: float) -> None:
        """Waits until every worker is ready, or some for so long.

        Raises:
            BadInputError: If one doesn't fit the study.
            WorkersError: If none can start.
        """
        for worker in self._workers:
            self._actors.ask(worker.number, is_stopping=False)
        until = self._clock() + seconds
        while (there := self._there()) < self.devices and (self._clock() < until or not there):
            self._listen()
        if there < self.devices:
            log.warning("%d of %d workers are there: the study begins without the others", there, self.devices)
        for words, count in Counter((w.report.device, w.report.host) for w in self._workers if w.report).items():
            log.info("Workers: %d on %s (%s)", count, *words)
        self._is_under_way = True

    def _there(self) -> int:
        return sum(worker.report is not None for worker in self._workers)

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        should_stop: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Result]:
        """Trains each example on some device; see `Engine.train`.

        Raises:
            MisconfigurationException: If Lightning refuses its flags at the first example.
            WorkersError: If no worker is left, or nothing can be trained.
        """
        self._is_stopping = True
        while self._held():  # by a training that was broken off
            self._listen()
        self._waiting, self._suspects = deque(filter(None, examples)), deque()
        self._rule, self._on_steps, self._is_stopping = rule, on_steps, False
        for worker in self._workers:
            self._hand_out(worker)
        while self._held() or ((self._waiting or self._suspects) and not self._is_stopping):
            self._is_stopping = self._is_stopping or should_stop()
            if (result := self._listen()) is not None:
                yield result

    def _held(self) -> int:
        return sum(len(worker.held) for worker in self._workers)

    def _listen(self) -> Result | None:
        """Takes what is heard next, if anything is within a moment."""
        if self._clock() >= self._next_look:
            self._next_look = self._clock() + LOOK_SECONDS
            self._look_for_those_away()
            self._show([worker.line() for worker in self._workers])
        if (heard := self._actors.hear(LISTENING_SECONDS)) is None:
            return None
        worker, example, came = self._workers[heard[0]], heard[1], heard[2]
        result = None
        if isinstance(came, Lost) and came.is_dead:
            if came.is_refusal and not self._is_under_way:
                raise BadInputError(f"worker {worker.number + 1}: {came.reason}")
            self._send_away(worker, f"is gone: {came.reason}")
        elif example is not None:
            result = self._end(worker, example, came)
        else:
            if isinstance(came, WorkerReport):
                self._take_report(worker, came)
            elif isinstance(came, Lost) and worker.report:
                self._take_loss(worker, came.reason if worker.report.failed is None else worker.report.failed)
            if not worker.is_gone:  # there is always a report that it owes
                self._actors.ask(worker.number, self._is_stopping)
        self._hand_out(worker)  # first, so that it needn't wait for files to be written
        return result

    def _hand_out(self, worker: _Worker) -> None:
        """Keeps a worker in examples; when few are left nobody is given any that another could begin."""
        waiting, given = len(self._waiting), list[Example]()
        if worker.report is None or worker.is_alone or self._is_stopping:
            return
        if waiting and (self._has_any_ended or not self._suspects):
            share = -(-(waiting + self._held()) // self.devices)
            ahead = min(AHEAD, waiting // (2 * self.devices))
            more = min(worker.report.max_in_flight + ahead, share) - len(worker.held)
            given = [self._waiting.popleft() for _ in range(min(more, waiting))]
        elif self._suspects and not worker.held and (worker.is_proven or not self._is_any_proven()):
            worker.is_alone = True
            given = [self._suspects.popleft()]
        for example in given:
            worker.held[example.path] = example
            self._actors.train(worker.number, example, self._rule)

    def _is_any_proven(self) -> bool:
        return any(worker.is_proven for worker in self._workers)

    def _end(self, worker: _Worker, example: Example, came: Result | WorkerReport | Lost | None) -> Result | None:
        """What comes of a call."""
        del worker.held[example.path]
        was_alone, worker.is_alone = worker.is_alone, False
        if isinstance(came, Result):
            worker.done, worker.lost_in_a_row, self._has_any_ended = worker.done + 1, 0, True
            return replace(came, example=example)
        if not isinstance(came, Lost):  # it was not begun
            self._waiting.appendleft(example)
        elif not was_alone:
            log.warning("%r has lost its worker at every try, and is tried again alone", example.path)
            self._suspects.append(example)
        else:
            reason = worker.reason or came.reason
            self._failed_alone += 1
            if self._failed_alone == NOTHING and not self._has_any_ended:
                raise WorkersError(f"nothing can be trained: every example loses its worker: {reason}")
            return Failure(example, f"its worker was lost at every try, also alone; the last time: {reason}")
        return None

    def _take_report(self, worker: _Worker, report: WorkerReport) -> None:
        before = worker.report or NO_REPORT
        if report.seconds < before.seconds:  # it is that of the next process
            before = NO_REPORT
        self._on_steps(report.steps - before.steps)
        self._seconds += report.seconds - before.seconds
        self._idle_seconds += report.idle_seconds - before.idle_seconds
        worker.report, worker.reason = report, report.failed or worker.reason
        for level, text in report.said:  # what many say alike is said once
            if (level, text) not in self._said:
                self._said.add((level, text))
                log.log(level, "%s", text if level < logging.WARNING else f"worker {worker.number + 1}: {text}")
        name, _, words = (report.failed or "").partition(": ")
        if name == MisconfigurationException.__name__:
            raise MisconfigurationException(words)

    def _take_loss(self, worker: _Worker, reason: str) -> None:
        """Notes that a worker's process is gone; Ray restarts it, and gives it again what it has."""
        log.warning("worker %d was lost (%s); trained again: %d examples", worker.number + 1, reason, len(worker.held))
        worker.report, worker.reason, worker.lost_at = None, reason, self._clock()
        worker.lost, worker.lost_in_a_row = worker.lost + 1, worker.lost_in_a_row + 1
        if worker.lost_in_a_row >= self._bad and self._is_any_proven():
            self._send_away(worker, f"is dismissed, lost {self._bad} times in a row: {reason}")

    def _look_for_those_away(self) -> None:
        """Doesn't wait for ever for a machine that has what others could train, or what is not needed any more."""
        are_others_idle = not self._waiting and any(worker.report and not worker.held for worker in self._workers)
        for worker in self._workers:
            is_away = worker.report is None and self._clock() > worker.lost_at + AWAY_SECONDS
            if worker.held and is_away and (are_others_idle or self._is_stopping):
                self._send_away(worker, "has not come back")

    def _send_away(self, worker: _Worker, why: str) -> None:
        """Hands back what a worker has; it costs no example a try."""
        (self._suspects if worker.is_alone else self._waiting).extendleft(reversed(worker.held.values()))
        worker.held.clear()
        worker.report, worker.is_gone, worker.is_alone = None, True, False
        self._actors.dismiss(worker.number)
        log.error("worker %d %s", worker.number + 1, why)
        if not self.devices:
            raise WorkersError(f"no worker is left; the last one {why}")


PATIENCE_SECONDS = 60.0
"""Workers that a busy cluster has not started until then join later."""
MAX_WORKERS_ANYWHERE, WORKERS_A_CORE = 16, 4
"""More processes than that would leave none of them anything of the machine."""


@dataclass(frozen=True)
class WorkerOptions:
    """Where several workers are.

    Args:
        ray_address: Of a cluster, or None: on this machine, one a device.
        at_most: No more of a cluster's devices than these; None for all.
        max_retries: How often an example is trained again after its worker was lost.
    """

    ray_address: str | None = None
    at_most: int | None = None
    max_retries: int = 3


def are_several(devices: Sequence[Device], ray_address: str | None) -> bool:
    """Whether workers train, or this process itself."""
    return len(devices) > 1 or ray_address is not None


def require_workers(devices: Sequence[Device], ray_address: str | None, device_flags: str) -> None:
    """Refuses several workers where they can't be had, as far as that can be told at once.

    Args:
        devices: That Lightning's flags choose on this machine.
        ray_address: Of a cluster, or None.
        device_flags: As typed, for messages.

    Raises:
        BadInputError: With the flag.
    """
    if not are_several(devices, ray_address):
        return
    kind = devices[0].kind
    if kind not in ("cpu", "cuda"):
        raise BadInputError(f"{device_flags}: several workers train on CPUs or NVIDIA GPUs, not on {kind}")
    cores = os.cpu_count() or 1
    if kind == "cpu" and len(devices) > max(MAX_WORKERS_ANYWHERE, WORKERS_A_CORE * cores):
        raise BadInputError(
            f"{device_flags} would be {len(devices)} worker processes on a machine with {cores} cores: give about one"
            " a core"
        )
    if ray_address is not None and len(devices) > 1:
        raise BadInputError(f"{device_flags} is of this machine; with --ray_address --workers says how many")
    require_ray(ray_address)


@contextmanager
def started_workers(
    task: Task,
    devices: Sequence[Device],
    options: WorkerOptions,
    show: Callable[[Sequence[WorkerState]], None],
) -> Iterator[WorkerPool]:
    """The workers of a study, ready.

    Args:
        task: For all of them.
        devices: That Lightning's flags choose on this machine.
        options: Where they are.
        show: Called about once a second with how each is doing.

    Raises:
        BadInputError: If they can't be had, or don't fit the study.
        WorkersError: If none can start.
    """
    if options.ray_address is None:
        connected = local_workers(task, [device.root.index for device in devices], options.max_retries)
    else:
        kind = devices[0].kind
        connected = cluster_workers(task, kind, options.ray_address, options.at_most, options.max_retries)
    with connected as actors:
        pool = WorkerPool(actors, options.max_retries, show)
        pool.wait_for_workers(PATIENCE_SECONDS)
        yield pool
