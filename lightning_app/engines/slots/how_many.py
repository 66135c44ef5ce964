"""How many slots, and how many steps at once: by a short measurement, and by what the memory holds."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_app.engines.slots.scheduler import Slot

log = logging.getLogger("lightning_app")

MAX_SLOTS = 32
"""Unless more are asked for: torch has no more streams of one priority."""
WORTH_IT = 1.05
"""Times the steps a second that twice as many slots must bring."""
STEPS_AT_ONCE = (4, 8, 16, 32)
AS_GOOD = 0.98
"""Of the best rate: then fewer steps at once are taken, since those past an example's end are lost."""
TRIAL = 8
"""Steps at once while their number is still to be chosen."""
SECONDS = 0.3
"""Of one measurement, at least."""
MIN_ROUNDS = 3


class SlotsUnavailableError(Exception):
    """Not even one slot works; its text says why."""


def pace(
    slots: Sequence[Slot],
    steps_at_once: int,
    pixels: Tensor,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Steps a second of all slots together, which never end.

    Args:
        slots: At least one.
        steps_at_once: How many each is given before its losses are read.
        pixels: Of the image that all train on.
        clock: Seconds.
    """
    for slot in slots:
        slot.load(pixels, 0, 0.0)
        slot.start(steps_at_once)

    def one_round() -> int:
        taken = 0
        for slot in slots:
            taken += len(slot.finish().losses)
            slot.start(steps_at_once)
        return taken

    one_round()  # from here on all are at work
    start, rounds, steps = clock(), 0, 0
    # Whole rounds: slots that share a device end together, so that a part of one says nothing.
    while rounds < MIN_ROUNDS or clock() - start < SECONDS:
        steps += one_round()
        rounds += 1
    rate = steps / (clock() - start)
    for slot in slots:
        slot.finish()
    return rate


class SlotMaker:
    """Makes slots one by one, for as long as that works.

    Those that fail or don't pay are kept too: no graph is destroyed while others live.

    Args:
        make: Makes one; raises what torch raises where the memory is too small or the step can't be recorded.
        check: Says what is wrong with some that run side by side, or None.
        has_room: Whether the memory holds another like those that are there.
    """

    def __init__(
        self, make: Callable[[], Slot], check: Callable[[Sequence[Slot]], str | None], has_room: Callable[[int], bool]
    ) -> None:
        self._make = make
        self._check = check
        self._has_room = has_room
        self.slots: list[Slot] = []
        self.failed: list[Slot] = []
        self._is_full = False

    def grow(self, count: int) -> bool:
        """Makes slots until there are so many, and says whether there are.

        Raises:
            SlotsUnavailableError: If there is none at the end.
        """
        while len(self.slots) < count and not self._is_full:
            if self.slots and not self._has_room(len(self.slots)):
                self._is_full = True
                log.info("Slots: the memory holds %d", len(self.slots))
                break
            try:
                slot = self._make()
            except Exception as error:  # whatever a network or torch raises: with fewer slots the study goes on
                wrong: str | None = why(error)
            else:
                wrong = self._check([slot])
                (self.failed if wrong else self.slots).append(slot)
                if not wrong:
                    continue
            if not self.slots:
                raise SlotsUnavailableError(wrong)
            self._is_full = True
            log.warning("slots: only %d, the next one failed: %s", len(self.slots), wrong)
        return len(self.slots) >= count

    def wrong_side_by_side(self, slots: Sequence[Slot]) -> str | None:
        """What is wrong with slots that run side by side, or None."""
        return self._check(slots)

    def as_many_as_pay(self, most: int, rate: Callable[[Sequence[Slot]], float]) -> list[Slot]:
        """Doubles the number of slots for as long as that brings steps.

        Args:
            most: No more than these.
            rate: Measures steps a second.

        Returns:
            The first of the slots, as many as pay.
        """
        self.grow(1)
        count, best = 1, rate(self.slots)
        while count < most:
            self.grow(min(2 * count, most))
            if len(self.slots) == count:
                break
            now = rate(self.slots)
            log.debug("slots: %d take %.0f steps/s, %d take %.0f", count, best, len(self.slots), now)
            if now < WORTH_IT * best:
                break
            count, best = len(self.slots), now
        return self.slots[:count]


def why(error: BaseException) -> str:
    """The first error of a chain in one line: a capture that fails says only that something failed before."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(str(error).split())[:300] or type(error).__name__


def few_steps_at_once(rate: Callable[[int], float]) -> int:
    """The fewest steps at once that are as good as any.

    Args:
        rate: Measures steps a second with so many at once.
    """
    rates = {count: rate(count) for count in STEPS_AT_ONCE}
    return next(count for count in STEPS_AT_ONCE if rates[count] >= AS_GOOD * max(rates.values()))


@dataclass(frozen=True)
class Filled:
    """The slots of a study.

    Args:
        slots: At least one.
        steps_at_once: How many each is given before its losses are read.
        steps_a_second: Of all together.
    """

    slots: Sequence[Slot]
    steps_at_once: int
    steps_a_second: float


def fill(maker: SlotMaker, pixels: Tensor, asked_for: int | None, examples: int, steps_at_once: int | None) -> Filled:
    """Makes the slots of a study.

    Args:
        maker: Makes them.
        pixels: Of an image to measure with.
        asked_for: How many; by default as many as pay.
        examples: That are to be trained: no more slots are made.
        steps_at_once: How many steps each is given at once; by default a few, by a measurement.

    Raises:
        SlotsUnavailableError: If not even one slot works.
    """
    trial = steps_at_once or TRIAL
    if asked_for is not None:
        maker.grow(min(asked_for, examples))
        slots = maker.slots
    else:
        slots = maker.as_many_as_pay(min(MAX_SLOTS, examples), lambda these: pace(these, trial, pixels))
    if len(slots) > 1 and (wrong := maker.wrong_side_by_side(slots)):
        log.warning("slots: only 1, since of %d that run side by side %s", len(slots), wrong)
        slots = slots[:1]
    steps_at_once = steps_at_once or few_steps_at_once(lambda count: pace(slots, count, pixels))
    return Filled(slots, steps_at_once, pace(slots, steps_at_once, pixels))
