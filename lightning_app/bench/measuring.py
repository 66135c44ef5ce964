"""Interleaved repeats: what the machine does beside them hits every way to train alike."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from lightning_app.bench.agreement import Difference, differences
from lightning_app.bench.memory import ProcessPeak
from lightning_app.bench.roofline import synchronize
from lightning_app.bench.runners import Ended, Train
from lightning_app.data.example import Example
from lightning_app.data.trajectory import StopRule

SHORT_PASSES = 3
"""Over the examples, one step each: such a pass takes so little that once would be noise."""


@dataclass(frozen=True)
class Spread:
    """What repeats have measured.

    Args:
        median: Of them.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The median and the ends."""
    return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Repeat:
    """One engine's times of one turn.

    Args:
        examples: That were trained.
        steps: All their steps.
        seconds: Of all their steps.
        short_seconds: Of one step of each.
    """

    examples: int
    steps: int
    seconds: float
    short_seconds: float

    @property
    def steps_per_second(self) -> float:
        """Example-steps a second, all that an example costs included."""
        return self.steps / self.seconds

    @property
    def ms_per_step(self) -> float:
        """What one step more costs; not finite where every example took one step."""
        further = self.steps - self.examples
        return 1000 * (self.seconds - self.short_seconds) / further if further else float("nan")

    @property
    def fixed_ms(self) -> float:
        """What an example costs beside its steps; it says something where examples are trained one at a time."""
        return 1000 * self.short_seconds / self.examples - self.ms_per_step


@dataclass
class Entrant:
    """One engine, and what was measured of it.

    Args:
        name: By which it was asked for.
        train: How it trains.
        slots: How many examples at once.
        examples: What it trains.
        gpu_bytes: What it has taken of a CUDA GPU; None elsewhere.
        repeats: Its times.
        process_bytes: The most that the process held while it trained, where the system can tell.
        differing: Where its numbers are not the reference's.
        outcomes: How its examples ended, and how many.
    """

    name: str
    train: Train
    slots: int
    examples: Sequence[Example]
    gpu_bytes: int | None = None
    repeats: list[Repeat] = field(default_factory=list)
    process_bytes: int | None = None
    differing: list[Difference] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)


def measure(
    entrants: Sequence[Entrant],
    rule: StopRule,
    repeats: int,
    device: torch.device,
    on_turn: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Lets all train in turns, several times, and compares their numbers with what the first found at first.

    Args:
        entrants: Each gets its times and its differences; the first is the reference.
        rule: When an example is done.
        repeats: Turns of each.
        device: That trains.
        on_turn: Called after every turn, for a progress bar.
        clock: Seconds.
    """
    reference: dict[int, Ended] = {}
    for _ in range(repeats):
        for entrant in entrants:
            ended, repeat = _turn(entrant, rule, device, clock)
            entrant.repeats.append(repeat)
            entrant.outcomes = dict(Counter(each.outcome for each in ended.values()))
            reference = reference or ended
            entrant.differing = entrant.differing or differences(entrant.name, ended, reference)
            on_turn()


def _turn(
    entrant: Entrant, rule: StopRule, device: torch.device, clock: Callable[[], float]
) -> tuple[dict[int, Ended], Repeat]:
    process = ProcessPeak()
    process.begin()
    synchronize(device)
    start = clock()
    ended = dict(entrant.train(entrant.examples, rule))
    synchronize(device)
    between = clock()
    entrant.train([*entrant.examples] * SHORT_PASSES, StopRule(rule.epsilon, 1))
    synchronize(device)
    end = clock()
    peak = process.bytes()
    if peak is not None:
        entrant.process_bytes = max(peak, entrant.process_bytes or 0)
    steps = sum(len(each.losses) for each in ended.values())
    return ended, Repeat(len(ended), steps, between - start, (end - between) / SHORT_PASSES)
