"""A crew in one process and in simulated time, whose workers train nothing and die when they are told to."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from lightning_app.inputs.example import Example
from lightning_app.parallel.messages import Introduction, Lost, Message, Order, Report
from lightning_app.training.trajectory import Failure, StopRule, Trajectory

NUMBERS = {"weights_sha256": "abc", "device_kind": "cpu", "numerics": {"cudnn_tf32": False}}
HERE = {"torch": "2.15.0", "device": "a CPU"}
TICK = 1.0
DEAD = Lost("it was killed", True)


def trained(example: Example, rule: StopRule, seconds: float = 1.0) -> Trajectory:
    """What training would give: its losses follow from the example alone."""
    losses = [1.0 / (step + example.index % 7) for step in range(1, 3 + example.index % 5)]
    return Trajectory(example, "censored", losses, 0, -1, 0.5, seconds)


class SimulatedCrew:
    """Workers that take their time, in simulated seconds.

    Args:
        sample: The study's examples.
        seconds: That each takes, by path.
        size: Workers.
        dies: Says of an example that a worker begins whether the worker dies of it; asked with the worker's number.
        at_once: How many examples each trains at once.
        introduction: Of a worker, by its number and how often it was started.
    """

    def __init__(
        self,
        sample: Sequence[Example],
        seconds: Mapping[str, float],
        size: int,
        dies: Callable[[int, str], bool] = lambda worker, path: False,
        at_once: int = 1,
        introduction: Callable[[int, int], Introduction | Lost] | None = None,
    ) -> None:
        self.size = size
        self.sample = sample
        self.seconds = seconds
        self.dies = dies
        self.at_once = at_once
        self.now = 0.0
        self.begun: list[tuple[int, str]] = []
        self.orders: list[tuple[int, Order]] = []
        self.dismissed: list[int] = []
        self.busy = [0.0] * size
        self.starts = [0] * size
        self._introduction = introduction or (lambda worker, start: introduce(at_once))
        self._tell: dict[int, Message] = {}
        self._owes: dict[int, float] = {}
        self._waiting: list[deque[Example]] = [deque() for _ in range(size)]
        self._in_hand: list[list[tuple[float, int, Example]]] = [[] for _ in range(size)]
        self._ended: list[list[Trajectory | Failure]] = [[] for _ in range(size)]
        self._is_due = [False] * size
        self._is_dead = [False] * size
        self._rules: list[StopRule] = [StopRule(0.1, 10)] * size
        self._count = itertools.count()
        for worker in range(size):
            self.start_anew(worker)

    def start_anew(self, worker: int) -> None:
        """Another process."""
        self._clear(worker)
        self._tell[worker] = self._introduction(worker, self.starts[worker])
        self.starts[worker] += 1

    def dismiss(self, worker: int) -> None:
        """No process any more."""
        self._clear(worker)
        self.dismissed.append(worker)

    def _clear(self, worker: int) -> None:
        self._waiting[worker].clear()
        self._in_hand[worker].clear()
        self._ended[worker] = []
        self._is_dead[worker] = False
        self._owes.pop(worker, None)
        self._tell.pop(worker, None)

    def send(self, worker: int, order: Order) -> None:
        """Takes an order."""
        assert worker not in self._owes, "it has not answered yet"
        assert worker not in self._tell, "it has not introduced itself yet"
        self.orders.append((worker, order))
        if self._is_dead[worker]:
            self._tell[worker] = DEAD
            return
        self._waiting[worker].extend(self.sample[place] for place in order.places)
        self._rules[worker], self._is_due[worker] = order.rule, order.is_due
        if order.is_due:
            self._waiting[worker].clear()
        self._owes[worker] = self.now + TICK
        self._begin(worker)

    def _begin(self, worker: int) -> None:
        while self._waiting[worker] and len(self._in_hand[worker]) < self.at_once:
            example = self._waiting[worker].popleft()
            self.begun.append((worker, example.path))
            if self.dies(worker, example.path):
                last = self._report(worker) if self._ended[worker] else None  # sent before it began this one
                self._clear(worker)
                self._tell[worker] = DEAD
                if last is not None:
                    self._tell[worker], self._is_dead[worker] = last, True
                return
            end = self.now + self.seconds[example.path]
            heapq.heappush(self._in_hand[worker], (end, next(self._count), example))

    def hear(self, seconds: float) -> list[tuple[int, Message]]:
        """Lets simulated time pass until somebody has something to say."""
        if not self._tell:
            ends = [hands[0][0] for hands in self._in_hand if hands]
            due = [self._owes[worker] for worker in self._owes]
            if not ends and not due:
                self.now += seconds
                return []
            self._pass(min([*ends, *due]))
        told = sorted(self._tell.items())
        self._tell.clear()
        for worker in sorted(self._owes):
            is_over = self._is_due[worker] and not self._in_hand[worker]
            if self._ended[worker] or self._owes[worker] <= self.now or is_over:
                told.append((worker, self._report(worker)))
        return told

    def _pass(self, now: float) -> None:
        for worker, hands in enumerate(self._in_hand):
            if hands:
                self.busy[worker] += now - self.now
        self.now = now
        for worker, hands in enumerate(self._in_hand):
            while hands and hands[0][0] <= now:
                example = heapq.heappop(hands)[2]
                self._ended[worker].append(trained(example, self._rules[worker]))
                self._begin(worker)

    def _report(self, worker: int) -> Report:
        self._owes.pop(worker, None)
        results, self._ended[worker] = self._ended[worker], []
        return Report(
            results=results,
            steps=sum(len(result.losses) for result in results if isinstance(result, Trajectory)),
            in_hand=[example.path for _, _, example in self._in_hand[worker]],
            seconds=1.0,
            idle_seconds=0.25,
            is_idle=not (self._in_hand[worker] or self._waiting[worker]),
            failed=None,
            is_refusal=False,
            said=[],
        )


def introduce(at_once: int = 1, **other: object) -> Introduction:
    """A worker that fits."""
    content = {
        "host": "here", "device": "cpu", "numbers": NUMBERS, "environment": HERE, "at_once": at_once,
        "steps_a_second": None, "unseen": None, **other,
    }  # fmt: skip
    return Introduction(**content)  # type: ignore[arg-type]
