"""Turns of every engine, one after the other, and whether their numbers are the same bits."""

import statistics
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from lightning_app.bench.roofline import synchronize
from lightning_app.bench.runners import EngineResult, Train
from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule


@dataclass(frozen=True)
class Spread:
    """What repeats have measured: their median, the smallest and the largest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """The median and the ends."""
    return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class FirstDifference:
    """Where two engines first part on an example.

    Args:
        engine: That differs.
        example: The example's index.
        step: From 1.
        loss: The engine's; None if it has taken fewer steps.
        expected: The reference's; None if that has taken fewer.
        outcome: The engine's.
        expected_outcome: The reference's.
    """

    engine: str
    example: int
    step: int
    loss: float | None
    expected: float | None
    outcome: str
    expected_outcome: str


def first_differences(
    engine: str, ended: Mapping[int, EngineResult], reference: Mapping[int, EngineResult]
) -> list[FirstDifference]:
    """The examples that both have trained on and whose losses, counts or outcomes are not the same.

    Args:
        engine: The name of the engine that is compared.
        ended: Its answers.
        reference: What they should be.
    """
    found = []
    for index in sorted(ended.keys() & reference.keys()):
        ours, theirs = ended[index], reference[index]
        step = _first_difference(ours, theirs)
        if step is not None:
            found.append(
                FirstDifference(
                    engine, index, step, _loss(ours, step), _loss(theirs, step), ours.outcome, theirs.outcome
                )
            )
    return found


def _first_difference(ours: EngineResult, theirs: EngineResult) -> int | None:
    for step in range(1, max(len(ours.losses), len(theirs.losses)) + 1):
        if _bits(_loss(ours, step)) != _bits(_loss(theirs, step)):
            return step
    return None if ours.outcome == theirs.outcome else len(ours.losses)


def _loss(ended: EngineResult, step: int) -> float | None:
    return ended.losses[step - 1] if step <= len(ended.losses) else None


def _bits(loss: float | None) -> bytes | None:
    # NaN is NaN, whatever its payload; 0.0 and -0.0 are two.
    return None if loss is None else b"nan" if loss != loss else struct.pack("d", loss)


@dataclass
class Candidate:
    """One engine, and what was measured of it.

    Args:
        name: By which it was asked for.
        train: How it trains.
        slots: How many examples at once.
        examples: What it trains.
        gpu_bytes: What it has taken of a CUDA GPU; None elsewhere.
        rates: Example-steps a second of each turn, all that an example costs included.
        ended: How the examples of its first turn ended.
        differing: The first differences of its numbers from the reference's.
    """

    name: str
    train: Train
    slots: int
    examples: Sequence[Example]
    gpu_bytes: int | None = None
    rates: list[float] = field(default_factory=list)
    ended: Mapping[int, EngineResult] = field(default_factory=dict)
    differing: list[FirstDifference] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Of all examples, in a turn."""
        return sum(len(each.losses) for each in self.ended.values())

    @property
    def outcomes(self) -> dict[str, int]:
        """How its examples ended, and how many."""
        return dict(sorted(Counter(each.outcome for each in self.ended.values()).items()))

    @property
    def steps_per_second(self) -> Spread:
        """Of all turns."""
        return spread(self.rates)

    def speed_ratio(self, first: "Candidate") -> Spread:
        """Its rate to another's, turn by turn: what slows the machine for a while slows both."""
        return spread([ours / theirs for ours, theirs in zip(self.rates, first.rates, strict=True)])

    def compared(self, first: "Candidate") -> int:
        """How many examples both have trained on."""
        return len(self.ended.keys() & first.ended.keys())


def measure(
    candidates: Sequence[Candidate],
    rule: StopRule,
    repeats: int,
    device: torch.device,
    on_turn: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Lets all train in turns, so that what slows the machine for a while slows all, and compares their numbers.

    Args:
        candidates: Each gets its rates and its differences; the first one's first turn is the reference.
        rule: When an example is done.
        repeats: Turns of each.
        device: That trains.
        on_turn: Called after every turn, for a progress bar.
        clock: Seconds.
    """
    for _ in range(repeats):
        for candidate in candidates:
            synchronize(device)
            start = clock()
            ended = candidate.train(candidate.examples, rule)
            synchronize(device)
            candidate.rates.append(sum(len(each.losses) for each in ended.values()) / (clock() - start))
            candidate.ended = candidate.ended or ended
            candidate.differing = candidate.differing or first_differences(candidate.name, ended, candidates[0].ended)
            on_turn()
