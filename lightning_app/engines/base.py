"""What every engine is: examples in, finished trajectories out, in any order."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import StopRule
from lightning_app.data.trajectory import Result


def never() -> bool:
    """It is never time to stop."""
    return False


def unseen(steps: int) -> None:
    """Shows nothing of steps that were taken."""


class Engine(Protocol):
    """Trains examples, each from the pretrained weights, alone.

    The trajectories are those of the plain loop (`plain_loop.py`); an engine decides nothing about them but when they
    are computed.
    """

    @property
    def max_in_flight(self) -> int:
        """How many examples it takes before the first has ended."""
        ...

    @property
    def devices(self) -> int:
        """How many devices train."""
        ...

    @property
    def steps_a_second(self) -> float | None:
        """Of all examples that are trained at once, where it was measured when the engine was made."""
        ...

    def summary_line(self) -> str | None:
        """What is to be said of the last training, once it is over."""
        ...

    def train(
        self,
        examples: Iterable[Example | None],
        rule: StopRule,
        should_stop: Callable[[], bool] = never,
        on_steps: Callable[[int], None] = unseen,
    ) -> Iterator[Result]:
        """Trains examples.

        Args:
            examples: Taken one by one, when they are needed. None says that there is none for now, but there may be
                later; it comes only while an example that was taken has not ended, so that nobody waits in vain.
            rule: When an example is done.
            should_stop: Asked before every example but the first: whether to begin no more. Those in hand are
                trained to their end.
            on_steps: Called with a number of steps that were taken, for a progress bar.

        Yields:
            One result an example that was begun, in the order of their ends. An image that can't be read is a
            `Failure`; the rest goes on.
        """
        ...
