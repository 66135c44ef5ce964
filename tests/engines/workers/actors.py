"""Actors in one process and in simulated time, which train nothing, and are lost and restarted as Ray's are."""

import functools
import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Trajectory
from lightning_app.engines.workers.ray_actors import MAX_RESTARTS, Heard, Lost, RayActors
from lightning_app.engines.workers.worker import REPORT_SECONDS, WorkerReport

RESTART_SECONDS, SECONDS_TO_DEATH = 3.0, 0.5
READY = WorkerReport(host="here", device="cpu", max_in_flight=1)
KILLED = Lost("it was killed")
NEVER = Lost("no machine has room")


def examples(count: int) -> list[Example]:
    return [Example(i, f"{i}.jpg", Path(f"/images/{i}.jpg"), 0, i + 1) for i in range(count)]


def trained(example: Example, rule: StopRule, seconds: float = 1.0) -> Trajectory:
    """What training would give: its losses follow from the example alone."""
    losses = [1.0 / (step + example.index % 7) for step in range(1, 3 + example.index % 5)]
    return Trajectory(example, "censored", losses, 0, -1, 0.5, seconds)


def in_seconds(sample: Sequence[Example], seconds: float = 1.0) -> dict[str, float]:
    """The same for all."""
    return dict.fromkeys((example.path for example in sample), seconds)


class _Actor:
    def __init__(self) -> None:
        self.process: int | None = None  # None while there is none
        self.deaths = 0
        self.given: dict[str, tuple[Example, StopRule]] = {}
        self.tries = Counter[str]()
        self.in_hand: list[str] = []
        self.asked: bool | None = None  # whether the report that it owes is to tell of a stop
        self.report = READY


class SimulatedActors(RayActors):
    """Workers that take their time, in simulated seconds.

    Args:
        seconds: That each example takes, by path.
        size: Workers.
        max_retries: Ray's `max_task_retries`.
        dies: Says of an example that a worker begins whether the worker dies of it; asked with the worker's number.
        report: What a worker is, by its number.
        makes: What comes of a worker's constructor, by its number and how often it was begun; None if it is well.
    """

    def __init__(
        self,
        seconds: Mapping[str, float],
        size: int,
        max_retries: int = 3,
        dies: Callable[[int, str], bool] = lambda worker, path: False,
        report: Callable[[int], WorkerReport] = lambda worker: READY,
        makes: Callable[[int, int], Lost | None] = lambda worker, start: None,
    ) -> None:
        self.size = size
        self.seconds, self.max_retries, self.dies, self.report, self.makes = seconds, max_retries, dies, report, makes
        self.now, self.most_held = 0.0, 0
        self.begun: list[tuple[int, str]] = []
        self.rules: list[StopRule] = []
        self.dismissed: list[int] = []
        self.busy = [0.0] * size
        self._there = {worker: _Actor() for worker in range(size)}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._out = deque[Heard]()
        self._count = itertools.count()
        for worker in range(size):
            self._in(0.0, worker, self._construct)

    def dismiss(self, worker: int) -> None:
        del self._there[worker]
        self.dismissed.append(worker)

    def train(self, worker: int, example: Example, rule: StopRule) -> None:
        actor = self._there[worker]
        actor.given[example.path] = example, rule
        actor.tries[example.path] = 0
        self.most_held = max(self.most_held, len(actor.given))
        self._begin(worker, actor)

    def ask(self, worker: int, is_stopping: bool) -> None:
        actor = self._there[worker]
        assert actor.asked is None
        actor.asked = is_stopping
        if actor.process is not None:
            self._stop(worker, actor)
            self._in(REPORT_SECONDS, worker, self._report)

    def hear(self, seconds: float) -> Heard | None:
        """Lets simulated time pass until somebody has something to say."""
        until = self.now + seconds
        while True:
            while self._out:
                if (heard := self._out.popleft())[0] in self._there:
                    return heard
            if not self._agenda or self._agenda[0][0] > until:
                self.now = until
                return None
            self.now, _, what = heapq.heappop(self._agenda)
            what()

    def _in(self, seconds: float, worker: int, what: Callable[[int, _Actor], None]) -> None:
        """What happens after so many seconds, if the process is still there."""
        actor = self._there[worker]
        process = actor.process

        def happen() -> None:
            if self._there.get(worker) is actor and actor.process == process:
                what(worker, actor)

        heapq.heappush(self._agenda, (self.now + seconds, next(self._count), happen))

    def _construct(self, worker: int, actor: _Actor) -> None:
        lost = self.makes(worker, actor.deaths)
        if lost is not None:
            if lost.is_dead:
                self._bury(worker, actor, lost)
            return
        actor.process, actor.report = next(self._count), self.report(worker)
        if actor.asked is not None:
            self._stop(worker, actor)
            self._report(worker, actor)
        self._begin(worker, actor)

    def _begin(self, worker: int, actor: _Actor) -> None:
        for path, (_, rule) in actor.given.items():
            if (
                actor.process is not None
                and path not in actor.in_hand
                and len(actor.in_hand) < actor.report.max_in_flight
            ):
                self.begun.append((worker, path))
                self.rules.append(rule)
                actor.in_hand.append(path)
                if self.dies(worker, path):
                    self._in(SECONDS_TO_DEATH, worker, self._die)
                else:
                    self._in(self.seconds[path], worker, functools.partial(self._end, path))

    def _end(self, path: str, worker: int, actor: _Actor) -> None:
        self.busy[worker] += self.seconds[path]
        result = trained(*actor.given.pop(path))
        actor.in_hand.remove(path)
        steps, seconds = actor.report.steps + len(result.losses), actor.report.seconds + 2 * self.seconds[path]
        actor.report = replace(actor.report, steps=steps, seconds=seconds, idle_seconds=seconds / 4)
        self._out.append((worker, result.example, result))
        self._begin(worker, actor)

    def _die(self, worker: int, actor: _Actor) -> None:
        actor.process, actor.deaths = None, actor.deaths + 1
        actor.in_hand.clear()
        if actor.deaths > MAX_RESTARTS:
            self._bury(worker, actor, replace(KILLED, is_dead=True))
            return
        if actor.asked is not None:
            actor.asked = None
            self._out.append((worker, None, KILLED))
        for path, (example, _) in list(actor.given.items()):
            actor.tries[path] += 1
            if actor.tries[path] > self.max_retries:
                del actor.given[path]
                self._out.append((worker, example, KILLED))
        self._in(RESTART_SECONDS, worker, self._construct)

    def _bury(self, worker: int, actor: _Actor, lost: Lost) -> None:
        self._out += [(worker, example, lost) for example, _ in actor.given.values()]
        self._out.append((worker, None, lost))
        actor.given.clear()

    def _stop(self, worker: int, actor: _Actor) -> None:
        for path in [path for path in actor.given if actor.asked and path not in actor.in_hand]:
            self._out.append((worker, actor.given.pop(path)[0], None))

    def _report(self, worker: int, actor: _Actor) -> None:
        actor.asked = None
        self._out.append((worker, None, replace(actor.report, in_hand=tuple(actor.in_hand))))
