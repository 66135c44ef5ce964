"""What signals that end a process do: `run` ends between two examples, the other commands end at once."""

import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

import lightning.pytorch as L

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C; an end that somebody asks for; a terminal that is gone; what batch systems send before they end a job."""
AGAIN = (signal.SIGINT, signal.SIGTERM)
"""Those that mean at once when they come second. A lost connection may send SIGHUP twice, once by the shell."""


def heeded() -> list[signal.Signals]:
    """The signals that this process was not started to ignore, as `nohup` and shells in the background do."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


class StopSignal(L.Callback):
    """Notes what ends the study after the examples in hand: the first signal, or the end of its time.

    A second SIGINT or SIGTERM ends the process at once. A callback too: before each training, after `on_fit_start`,
    Lightning wraps SIGTERM's handler in one of its own, which would cut the example short, so ours is put back.

    Args:
        advice: How to resume.
        deadline: By `time.monotonic()`; then it is as if SIGTERM had come.
    """

    def __init__(self, advice: str, deadline: float = math.inf) -> None:
        self.advice = advice
        self.deadline = deadline
        self.exit_now: Callable[[int], NoReturn] = os._exit
        """Ends the process at the second signal."""
        self._signals = heeded()
        self.came: signal.Signals | None = None
        self.is_over = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        if self.came is not None:
            if number not in AGAIN:
                return
            _say_from_a_handler(f"stopped at once; what is done is whole; {self.advice}")
            self.exit_now(128 + number)  # what is on disk is whole at any moment
        self.came = signal.Signals(number)
        _say_from_a_handler(
            f"{self.came.name}: stopping after what is in hand ({'again' if number in AGAIN else 'Ctrl-C'}: at once)."
            " What has begun is trained to its end, which may take a while; the bar goes on until then"
        )

    def should_stop(self) -> bool:
        """Whether to stop now, between two examples."""
        self.is_over = time.monotonic() >= self.deadline
        return self.is_over or self.came is not None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts our handler back."""
        for number in SIGNALS:
            signal.signal(number, self.note if number in self._signals else signal.SIG_IGN)


@contextmanager
def stop_between_examples(stop: StopSignal, has_workers: bool = False) -> Iterator[None]:
    """Handles signals gently for a while.

    Args:
        stop: Notes them.
        has_workers: Whether there are other processes, which are to end with this one also at a second signal.
    """
    if has_workers:
        stop.exit_now = sys.exit
    before = {number: signal.signal(number, stop.note) for number in heeded()}
    try:
        yield
    except SystemExit:
        if stop.came is None:
            raise
        raise SystemExit(128 + stop.came) from None  # Ray, while it waits, makes it 1
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def exit_at_once(advice: str = "") -> Iterator[None]:
    """Ends the process with 128 and the signal's number; Lightning's own answers are exit codes 1 and 0.

    Args:
        advice: What to say after the signal's name.
    """
    code = 0

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal code
        code = 128 + number
        _say_from_a_handler(f"stopped by {signal.Signals(number).name}{advice}")
        sys.exit(code)

    before = {number: signal.signal(number, leave) for number in heeded()}
    try:
        yield
    except SystemExit as error:
        if code and error.code != code:  # Ray, while it waits, makes it 1
            raise SystemExit(code) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_from_a_handler(line: str) -> None:
    # Not print: the signal may come while a bar is being written, and Python's streams can't be entered twice.
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"\n{line}\n".encode())
