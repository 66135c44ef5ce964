"""Ends a study between two examples when a signal asks for it."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

log = logging.getLogger("lightning_app")


@dataclass
class StopSignal:
    """The first SIGINT or SIGTERM that came, if any."""

    came: signal.Signals | None = None


@contextmanager
def stop_signals() -> Iterator[StopSignal]:
    """Notes the first SIGINT or SIGTERM so that the example in hand can end; a second one ends the process at once."""
    stop = StopSignal()

    def note(number: int, frame: FrameType | None) -> None:
        if stop.came is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.came = signal.Signals(number)
        log.warning("%s: stopping after the example in hand (again: at once)", stop.came.name)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
