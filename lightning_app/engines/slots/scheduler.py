"""Which example is in which slot, and where its trajectory is cut. It knows nothing of devices."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import NEVER, Outcome, StopRule
from lightning_app.data.trajectory import Failure, Result, Trajectory


@dataclass(frozen=True)
class Steps:
    """Some steps that a slot has taken.

    Args:
        losses: Of each, from before its update.
        are_correct: Of each, whether the label's logit was above every other.
        predicted: The class that the first of them predicted.
        seconds: How long they took on the device.
    """

    losses: Sequence[float]
    are_correct: Sequence[bool]
    predicted: int
    seconds: float


class Slot(Protocol):
    """A place where one example is trained at a time."""

    def load(self, pixels: Tensor, label: int, epsilon: float) -> None:
        """Takes the next example: the pretrained weights, this image (3, H, W) and class index."""
        ...

    def start(self, steps: int) -> None:
        """Begins so many steps. Those after the first loss <= epsilon must leave the weights alone."""
        ...

    def finish(self) -> Steps:
        """Waits for the steps that were begun."""
        ...

    def distance(self) -> float:
        """Euclidean distance of the weights from the pretrained ones."""
        ...


@dataclass(frozen=True)
class Ready:
    """An example whose image is decoded.

    Args:
        example: Which.
        pixels: What the model sees, shape (3, H, W).
    """

    example: Example
    pixels: Tensor


class Source(Protocol):
    """Where decoded examples come from."""

    def take(self, wait: bool) -> Ready | Failure | None:
        """The next example; None if there is none, or none yet and `wait` is false."""
        ...


@dataclass
class Usage:
    """How the slots spent their time, in seconds of slots.

    Args:
        there: All time of all slots, from the first example's begin to the last one's end.
        stepping: Of it, in steps that count.
        past_the_cut: In steps after an example's last one, before its losses were read.
    """

    there: float = 0.0
    stepping: float = 0.0
    past_the_cut: float = 0.0

    @property
    def busy(self) -> float:
        """Share of the time spent in steps that count."""
        return self.stepping / self.there if self.there else math.nan


@dataclass
class _InHand:
    """An example in a slot, and its trajectory so far."""

    slot: Slot
    ready: Ready
    began: float
    losses: list[float] = field(default_factory=list)
    outcome: Outcome | None = None
    predicted_before: int = NEVER
    steps_to_correct: int = NEVER
    past_the_cut: int = 0

    def load(self, rule: StopRule) -> None:
        self.slot.load(self.ready.pixels, self.ready.example.label, rule.epsilon)

    def start(self, most: int, rule: StopRule) -> None:
        self.slot.start(min(most, rule.max_steps - len(self.losses)))

    def take(self, steps: Steps, rule: StopRule) -> int:
        """Adds steps up to the one that ends the example, and says how many."""
        if not self.losses:
            self.predicted_before = steps.predicted
        for taken, (loss, is_correct) in enumerate(zip(steps.losses, steps.are_correct, strict=True), start=1):
            self.losses.append(loss)
            if is_correct and self.steps_to_correct == NEVER:
                self.steps_to_correct = len(self.losses)
            self.outcome = rule.outcome_at(len(self.losses), loss)
            if self.outcome is not None:
                self.past_the_cut = len(steps.losses) - taken
                return taken
        return len(steps.losses)

    def distance(self, most: int, rule: StopRule) -> float:
        """How far the weights have come, nan where they have diverged.

        A step past the cut has gradients of exactly 0, unless its forward pass overflows: then 0 x inf is nan. That is
        seen here, and the steps that count are taken again without any more.
        """
        if self.outcome == "diverged":
            return math.nan
        distance = self.slot.distance()
        if math.isfinite(distance) or not self.past_the_cut:
            return distance
        self.load(rule)
        for taken in range(0, len(self.losses), most):
            self.slot.start(min(most, len(self.losses) - taken))
            self.slot.finish()
        return self.slot.distance()


class Scheduler:
    """Keeps slots at work: a slot whose example has ended gets the next one at once.

    Each slot is given some steps, and while they run the others are looked after, oldest first. So the device always
    has work, its losses are read once for several steps, and the steps that a slot takes past the end of its example
    are few and are cut off.

    Args:
        slots: At least one.
        steps_at_once: How many a slot is given before its losses are read.
        clock: Seconds.
    """

    def __init__(
        self, slots: Sequence[Slot], steps_at_once: int, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.slots = slots
        self.steps_at_once = steps_at_once
        self.usage = Usage()
        self._clock = clock
        self._shared = 0.0  # seconds, each divided by the number of examples in hand at that time
        self._looked = 0.0

    def train(self, source: Source, rule: StopRule, on_steps: Callable[[int], None]) -> Iterator[Result]:
        """Trains what the source has.

        Args:
            source: Decoded examples.
            rule: When one is done.
            on_steps: Called with a number of steps that count.

        Yields:
            One result an example, in the order of their ends.
        """
        free, in_hand = deque(self.slots), deque[_InHand]()
        self.usage = Usage()
        start = self._looked = self._clock()
        while True:
            began = self._share(len(in_hand))
            while free and (taken := source.take(wait=not in_hand)) is not None:
                if isinstance(taken, Failure):
                    yield taken
                else:
                    in_hand.append(self._begin(free.popleft(), taken, rule, began))
                began = self._share(len(in_hand))
            if not in_hand:
                break
            hand = in_hand.popleft()
            steps = hand.slot.finish()
            counted = hand.take(steps, rule)
            self.usage.stepping += steps.seconds * counted / len(steps.losses)
            self.usage.past_the_cut += steps.seconds * (1 - counted / len(steps.losses))
            on_steps(counted)
            if hand.outcome is None:
                hand.start(self.steps_at_once, rule)
                in_hand.append(hand)
            else:
                trajectory = self._end(hand, hand.outcome, rule, len(in_hand) + 1)
                free.append(hand.slot)
                self.usage.there = len(self.slots) * (self._clock() - start)
                yield trajectory

    def _begin(self, slot: Slot, ready: Ready, rule: StopRule, began: float) -> _InHand:
        hand = _InHand(slot, ready, began)
        hand.load(rule)
        hand.start(self.steps_at_once, rule)
        return hand

    def _end(self, hand: _InHand, outcome: Outcome, rule: StopRule, in_hand: int) -> Trajectory:
        distance = hand.distance(self.steps_at_once, rule)
        return Trajectory(
            example=hand.ready.example,
            outcome=outcome,
            losses=hand.losses,
            predicted_before=hand.predicted_before,
            steps_to_correct=hand.steps_to_correct,
            weight_distance=distance,
            seconds=self._share(in_hand) - hand.began,
        )

    def _share(self, in_hand: int) -> float:
        """The time so far, divided among the examples in hand, so that all their times add up to the study's."""
        now = self._clock()
        self._shared += (now - self._looked) / max(1, in_hand)
        self._looked = now
        return self._shared
