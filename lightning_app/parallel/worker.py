"""What runs on each device: an engine, fed with examples a few at a time."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from lightning_app.inputs.example import Example
from lightning_app.parallel.messages import Introduction, Order, Report, Said
from lightning_app.training.engine import Engine
from lightning_app.training.trajectory import Failure, StopRule, Trajectory

REFUSAL = "MisconfigurationException"
"""Of Lightning, by name: a worker's process has not loaded Lightning when it loads this."""
PATIENCE = 1.0
"""Seconds that an engine waits for the next example before it is told that there is none for now. A report comes at
least as often."""


class Worker:
    """An engine in a thread of its own, and what is said between it and the driver.

    Args:
        sample: The study's examples.
        introduce: Makes the engine, in the thread that will train, and says what it is.
    """

    def __init__(self, sample: Sequence[Example], introduce: Callable[[], tuple[Engine, Introduction]]) -> None:
        self._sample = sample
        self._introduce = introduce
        self._changed = threading.Condition()
        self._coming: deque[Example] = deque()
        self._in_hand: dict[str, None] = {}
        self._results: list[Trajectory | Failure] = []
        self._steps = 0
        self._rule: StopRule | None = None
        self._is_due = False
        self._is_training = False
        self._failed: BaseException | None = None
        self._said = _Said()
        logging.getLogger("lightning_app").setLevel(logging.INFO)
        logging.getLogger("lightning_app").addHandler(self._said)
        self._reported = self._looked = time.perf_counter()
        self._idle = 0.0

    def begin(self) -> Introduction:
        """Waits for the engine; whatever its making raises is raised here."""
        introductions: list[Introduction] = []

        def work() -> None:
            try:
                engine, introduction = self._introduce()
                with self._changed:
                    introductions.append(introduction)
                    self._changed.notify_all()
                self._work(engine)
            except BaseException as error:  # a user's callback may even call sys.exit, and a thread ends in silence
                with self._changed:
                    self._failed = error
                    self._changed.notify_all()

        threading.Thread(target=work, name="engine", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: introductions or self._failed)
            if isinstance(self._failed, Exception):
                raise self._failed
            if self._failed is not None:
                raise RuntimeError(f"{type(self._failed).__name__}: {self._failed}") from self._failed
        return replace(introductions[0], said=self._said.take())

    def _work(self, engine: Engine) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._coming)
                self._is_training = True
            assert self._rule is not None
            for result in engine.train(self._feed(), self._rule, self._is_stopping, self._count):
                with self._changed:
                    self._look()
                    self._in_hand.pop(result.example.path)
                    self._results.append(result)
                    self._changed.notify_all()
            with self._changed:
                self._is_training = False
                self._in_hand.clear()  # what was decoded ahead when the end came
                self._changed.notify_all()

    def _feed(self) -> Iterator[Example | None]:
        while True:
            with self._changed:
                if not self._in_hand:  # else whoever asks has others to look after
                    self._changed.wait_for(lambda: self._coming or self._is_due, PATIENCE)
                if self._is_due or not (self._coming or self._in_hand):
                    return
                self._look()
                example = self._coming.popleft() if self._coming else None
                if example is not None:
                    self._in_hand[example.path] = None
            yield example

    def _is_stopping(self) -> bool:
        return self._is_due

    def _count(self, steps: int) -> None:
        with self._changed:
            self._steps += steps

    def _look(self) -> None:
        """Adds the time since the last look to that without an example, if there was none."""
        now = time.perf_counter()
        if not self._in_hand:
            self._idle += now - self._looked
        self._looked = now

    def exchange(self, order: Order) -> Report:
        """Takes an order, and answers as soon as an example has ended, or after a second."""
        with self._changed:
            if self._rule is None:  # the first: before it there was nothing to do
                self._reported = self._looked = time.perf_counter()
            self._coming.extend(self._sample[place] for place in order.places)
            self._rule, self._is_due = order.rule, order.is_due
            if order.is_due:
                self._coming.clear()
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._results or self._failed or (self._is_due and self._is_idle), PATIENCE)
            self._look()
            report = Report(
                results=self._results,
                steps=self._steps,
                in_hand=list(self._in_hand),
                seconds=self._looked - self._reported,
                idle_seconds=self._idle,
                is_idle=self._is_idle,
                failed=None if self._failed is None else f"{type(self._failed).__name__}: {_one_line(self._failed)}",
                is_refusal=type(self._failed).__name__ == REFUSAL,
                said=self._said.take(),
            )
            self._results, self._steps, self._idle, self._reported = [], 0, 0.0, self._looked
            return report

    @property
    def _is_idle(self) -> bool:
        return not (self._is_training or self._coming)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


class _Said(logging.Handler):
    """Keeps what is logged, to be sent to the driver."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._kept: deque[Said] = deque()

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append((record.levelno, record.getMessage()))

    def take(self) -> list[Said]:
        """What was said since the last time."""
        taken: list[Said] = []
        while self._kept:
            taken.append(self._kept.popleft())
        return taken
