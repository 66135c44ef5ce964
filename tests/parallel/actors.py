"""Actors in one process and in simulated time, which train nothing, and are lost and restarted as Ray's are."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lightning_app.inputs.example import Example
from lightning_app.parallel.ray_actors import Heard, Lost, RayActors
from lightning_app.parallel.worker import REPORT_SECONDS, Report
from lightning_app.training.trajectory import StopRule, Trajectory

RESTART_SECONDS, SECONDS_TO_DEATH = 3.0, 0.5
READY = Report(process=0, host="here", device="cpu", at_once=1)
KILLED = Lost("it was killed")


def examples(count: int) -> list[Example]:
    return [Example(i, f"{i}.jpg", Path(f"/images/{i}.jpg"), 0, i + 1) for i in range(count)]


def trained(example: Example, rule: StopRule, seconds: float = 1.0) -> Trajectory:
    """What training would give: its losses follow from the example alone."""
    losses = [1.0 / (step + example.index % 7) for step in range(1, 3 + example.index % 5)]
    return Trajectory(example, "censored", losses, 0, -1, 0.5, seconds)


@dataclass
class _Actor:
    """One of them, as far as it has come.

    Args:
        life: Tells it from those that were in its place before.
        process: None while there is none.
        deaths: Processes that were lost.
        tries: Of each example that it has been given, how often it was lost with it.
        coming: Examples that have not begun.
        in_hand: Examples that have.
        asked: Reports that it owes, and whether each is to tell of a stop.
        began: When this process was given its first example.
        steps: Of this process.
    """

    life: int
    process: int | None = None
    deaths: int = 0
    tries: dict[str, int] = field(default_factory=dict)
    given: dict[str, tuple[int, Example, StopRule]] = field(default_factory=dict)
    coming: list[tuple[int, Example, StopRule]] = field(default_factory=list)
    in_hand: list[str] = field(default_factory=list)
    asked: list[bool] = field(default_factory=list)
    began: float = -1.0
    steps: int = 0


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
        report: Callable[[int], Report] = lambda worker: READY,
        makes: Callable[[int, int], Lost | None] = lambda worker, start: None,
    ) -> None:
        self.size = size
        self.seconds, self.max_retries, self.dies, self.report, self.makes = seconds, max_retries, dies, report, makes
        self.now = 0.0
        self.begun: list[tuple[int, str]] = []
        self.rules: list[StopRule] = []
        self.dismissed: list[int] = []
        self.busy = [0.0] * size
        self.starts = [0] * size
        self.most_held = 0
        self._there: dict[int, _Actor] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._out: deque[tuple[int, int, Heard]] = deque()
        self._count = itertools.count()

    def clock(self) -> float:
        """Simulated seconds."""
        return self.now

    def start(self, worker: int) -> None:
        self._there[worker] = _Actor(next(self._count))
        self._construct(worker, self._there[worker], 0.0)

    def dismiss(self, worker: int) -> None:
        del self._there[worker]
        self.dismissed.append(worker)

    def _at(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self.now + seconds, next(self._count), what))

    def _say(self, worker: int, actor: _Actor, example: Example | None, what: object) -> None:
        self._out.append((worker, actor.life, (worker, example, what)))  # type: ignore[arg-type]

    def _construct(self, worker: int, actor: _Actor, seconds: float) -> None:
        def construct() -> None:
            if self._there.get(worker) is not actor:
                return
            refused = self.makes(worker, self.starts[worker])
            self.starts[worker] += 1
            if refused is not None and refused.is_dead:
                self._bury(worker, actor, refused)
                return
            if refused is not None:
                self._die(worker, actor)
                return
            actor.process, actor.steps, actor.began = next(self._count), 0, -1.0
            for is_stopping in actor.asked:
                self._report(worker, actor, is_stopping)
            actor.asked.clear()
            actor.coming = list(actor.given.values())
            self._begin(worker, actor)

        self._at(seconds, construct)

    def train(self, worker: int, number: int, example: Example, rule: StopRule) -> None:
        actor = self._there[worker]
        actor.given[example.path] = number, example, rule
        actor.tries[example.path] = 0
        self.most_held = max(self.most_held, len(actor.given))
        if actor.process is not None:
            actor.coming.append((number, example, rule))
            self._begin(worker, actor)

    def _begin(self, worker: int, actor: _Actor) -> None:
        actor.coming.sort(key=lambda entry: entry[0])
        while actor.coming and len(actor.in_hand) < self.report(worker).at_once:
            _, example, rule = actor.coming.pop(0)
            self.begun.append((worker, example.path))
            self.rules.append(rule)
            actor.began = self.now if actor.began < 0 else actor.began
            actor.in_hand.append(example.path)
            dies = self.dies(worker, example.path)

            def end(example: Example = example, rule: StopRule = rule, dies: bool = dies) -> None:
                if dies:
                    self._die(worker, actor)
                    return
                self.busy[worker] += self.seconds[example.path]
                result = trained(example, rule)
                actor.steps += len(result.losses)
                actor.in_hand.remove(example.path)
                del actor.given[example.path]
                self._say(worker, actor, example, result)
                self._begin(worker, actor)

            self._of_process(worker, actor, SECONDS_TO_DEATH if dies else self.seconds[example.path], end)

    def _of_process(self, worker: int, actor: _Actor, seconds: float, what: Callable[[], None]) -> None:
        """What happens after so many seconds, if the process is still there."""
        process = actor.process

        def happen() -> None:
            if self._there.get(worker) is actor and actor.process == process:
                what()

        self._at(seconds, happen)

    def _die(self, worker: int, actor: _Actor) -> None:
        actor.process, actor.deaths = None, actor.deaths + 1
        actor.coming.clear()
        actor.in_hand.clear()
        if actor.deaths > 2 * (self.max_retries + 1):
            self._bury(worker, actor, replace(KILLED, is_dead=True))
            return
        for _ in actor.asked:
            self._say(worker, actor, None, KILLED)
        actor.asked.clear()
        for path, (_, example, _) in list(actor.given.items()):
            actor.tries[path] += 1
            if actor.tries[path] > self.max_retries:
                del actor.given[path]
                self._say(worker, actor, example, KILLED)
        self._construct(worker, actor, RESTART_SECONDS)

    def _bury(self, worker: int, actor: _Actor, lost: Lost) -> None:
        for _, example, _ in actor.given.values():
            self._say(worker, actor, example, lost)
        self._say(worker, actor, None, lost)
        actor.given.clear()

    def ask(self, worker: int, is_stopping: bool) -> None:
        actor = self._there[worker]
        actor.asked.append(is_stopping)
        if actor.process is not None:

            def report() -> None:
                actor.asked.remove(is_stopping)
                self._report(worker, actor, is_stopping)

            self._of_process(worker, actor, 0.0 if is_stopping else REPORT_SECONDS, report)

    def _report(self, worker: int, actor: _Actor, is_stopping: bool) -> None:
        if is_stopping:
            for _, example, _ in actor.coming:
                del actor.given[example.path]
                self._say(worker, actor, example, None)
            actor.coming.clear()
        seconds = self.now - actor.began if actor.began >= 0 else 0.0
        assert actor.process is not None
        report = replace(
            self.report(worker), process=actor.process, steps=actor.steps, seconds=seconds, idle_seconds=seconds / 4,
            in_hand=tuple(actor.in_hand),
        )  # fmt: skip
        self._say(worker, actor, None, report)

    def hear(self, seconds: float) -> Heard | None:
        """Lets simulated time pass until somebody has something to say."""
        until = self.now + seconds
        while True:
            while self._out:
                worker, life, heard = self._out.popleft()
                if worker in self._there and self._there[worker].life == life:
                    return heard
            if not self._agenda or self._agenda[0][0] > until:
                self.now = until
                return None
            self.now, _, what = heapq.heappop(self._agenda)
            what()


def in_seconds(sample: Sequence[Example], seconds: float = 1.0) -> dict[str, float]:
    """The same for all."""
    return dict.fromkeys((example.path for example in sample), seconds)
