"""What SIGINT and SIGTERM do: `run` ends between two examples, the other commands end at once."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import lightning.pytorch as L

log = logging.getLogger("lightning_app")

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignal(L.Callback):
    """Notes the first SIGINT or SIGTERM, so that the example in hand can end; a second one ends the process at once.

    A callback too: before each training, after `on_fit_start`, Lightning wraps SIGTERM's handler in one of its own,
    which would cut the example short, so ours is put back.
    """

    def __init__(self) -> None:
        self.came: signal.Signals | None = None

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handles a signal."""
        if self.came is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.came = signal.Signals(number)
        log.warning("%s: stopping after the example in hand (again: at once)", self.came.name)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts our handler back."""
        for number in SIGNALS:
            signal.signal(number, self.note)


@contextmanager
def stop_between_examples() -> Iterator[StopSignal]:
    """Handles signals gently for a while."""
    stop = StopSignal()
    before = {number: signal.signal(number, stop.note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def exit_at_once(advice: str = "") -> Iterator[None]:
    """Ends the process with 130 or 143; Lightning's own answers to these signals are exit codes 1 and 0.

    Args:
        advice: What to say after the signal's name.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        # Not print: the signal may come while a bar is being written, and Python's streams can't be entered twice.
        os.write(2, f"\nstopped by {signal.Signals(number).name}{advice}\n".encode())
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
