"""What runs on each device: an engine in a thread of its own, and an actor of Ray's that feeds it.

This module is loaded before a worker's environment is set, so it loads nothing heavy.
"""

import asyncio
import logging
import os
import pickle
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from logging.handlers import BufferingHandler
from typing import TYPE_CHECKING

from lightning_app.console.process import settle_process
from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Result, Trajectory
from lightning_app.engines.base import Engine
from lightning_app.errors import BadInputError

if TYPE_CHECKING:
    from pathlib import Path

    from lightning_app.settings import MatmulPrecision
    from lightning_app.training.device import Device
    from lightning_app.training.pretrained import Pretrained
    from lightning_app.training.trainers import TrainerMaker

REPORT_SECONDS = 1.0
FOUND_BY_EACH_WORKER = ("weights_sha256", "device_kind", "numerics")
"""Of a study's identity."""
MAX_SAID = 10_000
LAST_WORDS_SECONDS = 0.5
"""How long a process whose engine has failed lives on after it has said so."""

Said = tuple[int, str]
"""A level of `logging`, and a text."""


class RefusedError(BadInputError):
    """A worker doesn't fit the study. Raised by its constructor, so that Ray doesn't restart it."""


@dataclass(frozen=True)
class Expected:
    """What a worker must find as the driver did, or its numbers would be another study's.

    Args:
        numbers: Digest of the weights, kind of device, numerics.
        matmul_precision: Of the numerics.
        environment: The driver's.
        is_another_allowed: Whether a worker may be in another environment.
        image: One of the study's images, by its absolute path.
    """

    numbers: Mapping[str, object]
    matmul_precision: "MatmulPrecision"
    environment: Mapping[str, object]
    is_another_allowed: bool
    image: "Path"


@dataclass(frozen=True)
class Task:
    """All that a worker has to know of a study. It travels to each machine once.

    Args:
        make_engine: Makes the engine, for the worker's own device.
        make_trainer: Builds a Trainer, by which Lightning chooses that device.
        pretrained: The model.
        expected: What the worker must find.
    """

    make_engine: "Callable[[Device], Engine]"
    make_trainer: "TrainerMaker"
    pretrained: "Pretrained"
    expected: Expected


@dataclass(frozen=True)
class ReadyWorker:
    """What a worker is.

    Args:
        engine: That trains.
        device: The model of its GPU; the kind itself elsewhere.
        environment: Where it trains, if that isn't the driver's environment.
    """

    engine: Engine
    device: str
    environment: Mapping[str, object] | None = None


@dataclass
class WorkerReport:
    """How a worker is doing.

    Args:
        host: Its machine.
        device: The model of its GPU; the kind itself elsewhere.
        max_in_flight: How many examples its engine takes before the first has ended.
        steps_a_second: Of its engine, where that was measured.
        steps: That this process has taken.
        seconds: Since it was given its first example.
        idle_seconds: Of them, those without any example.
        in_hand: Paths of the examples that it has begun.
        said: What there was to log since the last report.
        failed: What ended its engine, or None. The process ends soon after.
    """

    host: str
    device: str
    max_in_flight: int
    steps_a_second: float | None = None
    steps: int = 0
    seconds: float = 0.0
    idle_seconds: float = 0.0
    in_hand: tuple[str, ...] = ()
    said: tuple[Said, ...] = ()
    failed: str | None = None


def get_ready(task: Task) -> ReadyWorker:
    """Makes the engine of this process's one device, and sees that it fits the study.

    Raises:
        BadInputError: If the device isn't there.
        RefusedError: If the weights, the numerics or the environment are others, or an image can't be seen.
    """
    from lightning_app.data.environment import differences, environment, format_differences
    from lightning_app.training.device import pin_numerics, resolve_device
    from lightning_app.training.pretrained import weights_sha256
    from lightning_app.training.trainers import quieten_lightning

    quieten_lightning()
    device = resolve_device(task.make_trainer, "a worker's own device")
    host, expected = socket.gethostname(), task.expected
    numbers = {
        "weights_sha256": weights_sha256(task.pretrained.network),
        "device_kind": device.kind,
        "numerics": pin_numerics(device.kind, expected.matmul_precision),
    }
    if differing := differences(dict(expected.numbers), numbers):
        raise RefusedError(f"{host} would train another study (here, there): {format_differences(differing)}")
    if not expected.image.is_file():
        raise RefusedError(
            f"--root_dir: {host} can't see {expected.image}: the images must lie under the same path on every machine"
        )
    here = environment(device.name, device.threads, device.instructions)
    differing = differences(dict(expected.environment), here)
    if differing and not expected.is_another_allowed:
        raise RefusedError(
            f"{host} is another environment than this one: {format_differences(differing)}. The last bits of its rows"
            " may differ: --allow_mixed_environment takes it all the same"
        )
    return ReadyWorker(task.make_engine(device), device.name, here if differing else None)


class Worker:
    """An engine that is fed by calls that wait for their example's end.

    Args:
        make: Makes the engine, in the thread that will train; what it raises is raised here.
    """

    def __init__(self, make: Callable[[], ReadyWorker]) -> None:
        self._changed = threading.Condition()
        self._coming = deque[tuple[Example, StopRule]]()
        self._in_hand: dict[str, None] = {}
        self._answers: dict[str, Future[Result | None]] = {}
        self._is_stopping = self._has_reported = False
        self._looked = 0.0
        self._said = BufferingHandler(MAX_SAID)
        logging.getLogger("lightning_app").setLevel(logging.INFO)
        logging.getLogger("lightning_app").addHandler(self._said)
        made = Future[ReadyWorker]()
        threading.Thread(target=self._work, args=(make, made), name="engine", daemon=True).start()
        engine = made.result().engine
        self._now = WorkerReport(
            socket.gethostname(), made.result().device, engine.max_in_flight, engine.steps_a_second
        )

    async def train(self, example: Example, rule: StopRule) -> Result | None:
        """Trains an example, whose image's path is absolute; None if it was not begun before a stop."""
        with self._changed:
            answer = self._answers.get(example.path)
            if answer is None:  # else Ray asks again, since the connection was lost for a while
                answer = self._answers[example.path] = Future()
                self._coming.append((example, rule))
                self._look()
                self._is_stopping = False
                self._changed.notify_all()
        return await asyncio.wrap_future(answer)

    async def report(self, is_stopping: bool) -> WorkerReport:
        """Says how it is doing, after a second; the first time at once, as it is ready then.

        So there is always a report that is owed, and fails as soon as the process is gone.

        Args:
            is_stopping: To begin no more examples until others are given; those not begun are answered at once.
        """
        if is_stopping:
            with self._changed:
                self._is_stopping = True
                for example, _ in self._coming:
                    self._answers.pop(example.path).set_result(None)
                self._coming.clear()
        if self._has_reported:
            await asyncio.sleep(REPORT_SECONDS)
        self._has_reported = True
        with self._changed:
            self._look()
            said, self._said.buffer = self._said.buffer, []
            words = tuple((record.levelno, record.getMessage()) for record in said)
            report = replace(self._now, in_hand=tuple(self._in_hand), said=words)
        if report.failed is not None:  # nothing can be trained here any more: Ray restarts the process
            asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, os._exit, 1)
        return report

    def _work(self, make: Callable[[], ReadyWorker], made: "Future[ReadyWorker]") -> None:
        try:
            made.set_result(ready := make())
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._coming)
                    rule = self._coming[0][1]
                for result in ready.engine.train(self._feed(rule), rule, lambda: self._is_stopping, self._count):
                    if isinstance(result, Trajectory) and ready.environment:
                        result = replace(result, environment=ready.environment)
                    self._answer(result.example.path, result)
                for path in tuple(self._in_hand):  # what was decoded ahead when the stop came
                    self._answer(path, None)
        except BaseException as error:  # a user's plugin or callback may even call sys.exit, and threads end in silence
            failed = f"{type(error).__name__}: {' '.join(str(error).split())}"
            if made.done():
                self._now.failed = failed
            else:
                made.set_exception(error if isinstance(error, Exception) else RuntimeError(failed))

    def _feed(self, rule: StopRule) -> Iterator[Example | None]:
        while True:
            with self._changed:
                if not self._in_hand:  # else whoever asks has others to look after
                    self._changed.wait_for(lambda: self._coming)
                if self._coming and self._coming[0][1] != rule:
                    return
                self._look()
                example = self._coming.popleft()[0] if self._coming else None
                if example is not None:
                    self._in_hand[example.path] = None
            yield example

    def _answer(self, path: str, result: Result | None) -> None:
        with self._changed:
            self._look()
            del self._in_hand[path]
            self._answers.pop(path).set_result(result)

    def _count(self, steps: int) -> None:
        self._now.steps += steps

    def _look(self) -> None:
        """Adds the time since the last look; the first is when the first example comes."""
        now = time.perf_counter()
        if self._looked:
            self._now.seconds += now - self._looked
            self._now.idle_seconds += 0.0 if self._in_hand else now - self._looked
        self._looked = now if self._looked or self._coming else 0.0


class StudyWorker(Worker):
    """The actor.

    Args:
        task: A pickled reference to the task: Ray would load a bare one, and torch with it, before this call.
    """

    def __init__(self, task: bytes) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        settle_process()
        import ray

        content = ray.get(pickle.loads(task))
        super().__init__(lambda: get_ready(content))
