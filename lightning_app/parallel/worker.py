"""What runs on each device: an engine, fed with examples a few at a time."""

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_app.engines import choose_engine
from lightning_app.inputs.example import Example
from lightning_app.parallel.messages import Introduction, Order, Report, Said
from lightning_app.results.fingerprint import environment
from lightning_app.settings import StudySettings
from lightning_app.training.device import pin_numerics, resolve_device
from lightning_app.training.engine import Engine
from lightning_app.training.pretrained import Pretrained, weights_sha256
from lightning_app.training.trainers import TrainerMaker, quieten_lightning
from lightning_app.training.trajectory import Failure, StopRule, Trajectory

PATIENCE = 1.0
"""Seconds that an engine waits for the next example before it is told that there is none for now. A report comes at
least as often."""


@dataclass(frozen=True)
class Task:
    """All that a worker has to know of a study. It travels to each machine once.

    Args:
        settings: Of the study.
        sample: Its examples, with images by absolute paths.
        pretrained: The model.
        flags: Those of Lightning's flags that numbers may depend on.
        trainers: Builds an example's Trainer on one device of this kind.
    """

    settings: StudySettings
    sample: Sequence[Example]
    pretrained: Pretrained
    flags: Mapping[str, object]
    trainers: TrainerMaker


class Worker:
    """An engine in a thread of its own, and what is said between it and the driver.

    Args:
        sample: The study's examples.
    """

    def __init__(self, sample: Sequence[Example]) -> None:
        self._sample = sample
        self._changed = threading.Condition()
        self._coming: deque[Example] = deque()
        self._in_hand: dict[str, None] = {}
        self._results: list[Trajectory | Failure] = []
        self._steps = 0
        self._rule: StopRule | None = None
        self._is_due = False
        self._is_training = False
        self._failed: Exception | None = None
        self._said = _Said()
        self._reported = self._looked = time.perf_counter()
        self._idle = 0.0

    def begin(self, task: Task) -> Introduction:
        """Makes the engine in the thread that will train, and says what it is.

        Raises:
            BadInputError: If the device isn't there.
            MisconfigurationException: If Lightning refuses its flags.
        """
        introductions: list[Introduction] = []

        def work() -> None:
            try:
                engine, introduction = self._introduce(task)
                with self._changed:
                    introductions.append(introduction)
                    self._changed.notify_all()
                self._work(engine)
            except Exception as error:
                with self._changed:
                    self._failed = error
                    self._changed.notify_all()

        threading.Thread(target=work, name="engine", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: introductions or self._failed)
            self._reported = self._looked = time.perf_counter()
            if self._failed is not None:
                raise self._failed
        return introductions[0]

    def _introduce(self, task: Task) -> tuple[Engine, Introduction]:
        quieten_lightning()
        log = logging.getLogger("lightning_app")
        log.setLevel(logging.INFO)
        log.addHandler(self._said)
        device = resolve_device(task.trainers, "this worker's own device")
        numerics = pin_numerics(device.kind, task.settings.matmul_precision)
        numbers = {
            "weights_sha256": weights_sha256(task.pretrained.network),
            "device_kind": device.kind,
            "numerics": numerics,
        }
        engine = choose_engine(
            task.settings, task.pretrained, device, task.flags, task.trainers, len(task.sample)
        )  # fmt: skip
        image = task.sample[0].image
        introduction = Introduction(
            host=socket.gethostname(),
            pid=os.getpid(),
            device=device.name,
            numbers=numbers,
            environment=environment(device.name, device.threads),
            at_once=engine.at_once,
            steps_a_second=engine.steps_a_second,
            unseen=None if image.is_file() else str(image),
            said=self._said.take(),
        )
        return engine, introduction

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

    def _feed(self) -> Iterator[Example]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._coming or self._is_due, PATIENCE)
                if self._is_due or not self._coming:
                    return
                self._look()
                example = self._coming.popleft()
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
                is_refusal=isinstance(self._failed, MisconfigurationException),
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
