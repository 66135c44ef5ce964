"""What the driver and its workers say to each other. Plain data: the driver's process needs no more of a worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lightning_app.training.trajectory import Failure, StopRule, Trajectory

Said = tuple[int, str]
"""A level of `logging`, and a text."""


@dataclass(frozen=True)
class Introduction:
    """What a worker says once, when it is ready.

    Args:
        host: Its machine.
        device: The model of its GPU; the kind itself elsewhere.
        numbers: What of the study's identity it found by itself: weights, kind of device, numerics.
        environment: Where it trains.
        at_once: How many examples its engine takes before the first has ended.
        steps_a_second: Of its engine, where that was measured.
        unseen: An image of the study that it can't see, or None.
        said: What there was to log.
    """

    host: str
    device: str
    numbers: Mapping[str, object]
    environment: Mapping[str, object]
    at_once: int
    steps_a_second: float | None
    unseen: str | None
    said: Sequence[Said] = ()


@dataclass(frozen=True)
class Order:
    """What the driver says to a worker.

    Args:
        places: Examples to train, as places in the study's sample.
        rule: When each is done.
        is_due: Begin no more; what was not begun is not the worker's any longer.
    """

    places: Sequence[int]
    rule: StopRule
    is_due: bool = False


@dataclass(frozen=True)
class Report:
    """What a worker answers, as soon as an example has ended, and at least once a second.

    Args:
        results: Examples that have ended since the last report.
        steps: Taken since then.
        in_hand: Paths of the examples that it has begun.
        seconds: Since the last report.
        idle_seconds: Of them, those without any example in hand.
        is_idle: Whether it has nothing in hand, and nothing that it might begin.
        failed: What ended its engine, or None.
        is_refusal: Whether that was Lightning, refusing its flags.
        said: What there was to log.
    """

    results: Sequence[Trajectory | Failure]
    steps: int
    in_hand: Sequence[str]
    seconds: float
    idle_seconds: float
    is_idle: bool
    failed: str | None
    is_refusal: bool
    said: Sequence[Said]


@dataclass(frozen=True)
class Lost:
    """What the driver hears of a worker whose process is gone.

    Args:
        reason: In one line.
        could_start: Whether it ever introduced itself.
    """

    reason: str
    could_start: bool


Message = Introduction | Report | Lost


class Crew(Protocol):
    """The workers' processes: started, spoken to, started anew."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def hear(self, seconds: float) -> Sequence[tuple[int, Message]]:
        """Waits so long for something to be said, and takes what there is: a worker's number and its message.

        A worker that has introduced itself, or whose report was taken, says no more until an order is sent to it.
        """
        ...

    def send(self, worker: int, order: Order) -> None:
        """Sends an order, which a report will answer."""
        ...

    def start_anew(self, worker: int) -> None:
        """Ends a worker's process, if there is one, and starts another in its place; it will introduce itself."""
        ...

    def dismiss(self, worker: int) -> None:
        """Ends a worker's process."""
        ...
