"""A device that is made up: slots side by side whose steps take a known time, and examples of known lengths."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from lightning_app.data.example import Example
from lightning_app.data.trajectory import Failure
from lightning_app.engines.slots.scheduler import Ready, Steps


@dataclass
class Clock:
    """The host's time."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class StandIn:
    """A slot. An example's pixels are its length: its loss is 1 before that step, and 0 from there on.

    Steps past the cut go on, as a GPU's do; its distance is the number of steps whose updates moved the weights.
    """

    clock: Clock
    seconds_a_step: float = 0.001
    seconds_to_load: float = 0.0
    is_correct_at: int = 3
    loss_after: float = 0.0
    loads: list[int] = field(default_factory=list)
    steps: int = 0

    def load(self, pixels: Tensor, label: int, epsilon: float) -> None:
        self.length, self.label, self.epsilon = int(pixels.item()), label, epsilon
        self.loads.append(self.length)
        self.taken = self.moved = 0
        self._free_at = self.clock.now + self.seconds_to_load

    def start(self, steps: int) -> None:
        assert steps > 0
        self.begun = steps
        self._seconds = steps * self.seconds_a_step
        self._free_at = max(self._free_at, self.clock.now) + self._seconds

    def finish(self) -> Steps:
        self.clock.now = max(self.clock.now, self._free_at)
        numbers = range(self.taken + 1, self.taken + self.begun + 1)
        losses = [1.0 if number < self.length else self.loss_after for number in numbers]
        self.taken += self.begun
        self.steps += self.begun
        self.moved = min(self.taken, self.length)
        return Steps(losses, [number >= self.is_correct_at for number in numbers], 7, self._seconds)

    def distance(self) -> float:
        return float(self.moved)


@dataclass
class Examples:
    """Examples of known lengths, as a source; None is one that can't be read."""

    lengths: list[int | None]
    clock: Clock = field(default_factory=Clock)
    ready_at: Callable[[int], float] = lambda index: -math.inf
    index: int = 0

    def take(self, wait: bool) -> Ready | Failure | None:
        if self.index == len(self.lengths):
            return None
        if self.clock.now < self.ready_at(self.index):
            if not wait:
                return None
            self.clock.now = self.ready_at(self.index)
        index, length = self.index, self.lengths[self.index]
        self.index += 1
        example = Example(index, str(index), Path(str(index)), 1, index + 1)
        return Failure(example, "unreadable") if length is None else Ready(example, torch.tensor(float(length)))


class Shared:
    """A device that its slots share: so many steps a second in all, and no more than so many for one alone."""

    def __init__(self, limit: float, alone: float) -> None:
        self.now, self.limit, self.alone = 0.0, limit, alone
        self.left: dict[int, float] = {}

    def clock(self) -> float:
        return self.now

    def wait_for(self, slot: int) -> None:
        while slot in self.left:
            rate = min(self.alone, self.limit / len(self.left))
            seconds = min(self.left.values()) / rate
            self.now += seconds
            self.left = {s: left - seconds * rate for s, left in self.left.items() if left - seconds * rate > 1e-9}


class SharingSlot(StandIn):
    """A slot on it, whose example never ends."""

    def __init__(self, device: Shared) -> None:
        self.device = device

    def load(self, pixels: Tensor, label: int, epsilon: float) -> None:
        pass

    def start(self, steps: int) -> None:
        self.begun = steps
        self.device.left[id(self)] = float(steps)

    def finish(self) -> Steps:
        self.device.wait_for(id(self))
        return Steps([1.0] * self.begun, [False] * self.begun, 0, 0.0)
