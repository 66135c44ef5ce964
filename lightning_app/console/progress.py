"""Progress bars: of one study, of its workers, of anything else that takes long."""

import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, NoReturn

from tqdm import tqdm

# Bars of one process need a lock between its threads alone. tqdm's own is one between processes as well: a forked child
# that is killed while it holds that one stops every later bar of its parent for ever.
tqdm.set_lock(threading.RLock())


def seconds_between_bars() -> float:
    """How often a bar is drawn: all the time on a terminal; in a file it is a line now and then."""
    return 0.1 if sys.stderr.isatty() else 30.0


def progress_bar(*iterable: Any, **how: Any) -> "tqdm[Any]":
    """A bar of tqdm's on stderr, which goes when it is over unless `leave` says otherwise."""
    defaults = {"leave": False, "file": sys.stderr, "dynamic_ncols": True, "mininterval": seconds_between_bars()}
    return tqdm(*iterable, **{**defaults, **how})


class StudyBar:
    """One progress bar for a whole study.

    Shows examples done, time spent and left, steps a second and the counts by outcome.

    Args:
        total: Examples of the study.
        kept: How many of them are done already, by outcome.
    """

    def __init__(self, total: int, kept: Counter[str]) -> None:
        self._steps = 0
        self.outcomes = Counter(kept)
        self._start = time.monotonic()
        self._shown = self._start
        self._bar = progress_bar(
            total=total,
            initial=kept.total(),
            unit="example",
            leave=True,
            bar_format="{n_fmt}/{total_fmt} examples |{bar}| {elapsed}, {remaining} left{postfix}",
        )
        self._say()

    def __enter__(self) -> "StudyBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._say()
        self._bar.close()

    def steps_taken(self, count: int) -> None:
        """Counts steps; the bar moves at most once a second in the middle of an example."""
        self._steps += count
        now = time.monotonic()
        if now - self._shown > max(1.0, self._bar.mininterval):
            self._say()
            self._bar.refresh()
            self._shown = now

    def example(self, outcome: str) -> None:
        """Counts a finished example."""
        self.outcomes[outcome] += 1
        self._say()
        self._bar.update()

    def _say(self) -> None:
        rate = self._steps / max(time.monotonic() - self._start, 1e-9)
        counts = "".join(f", {count} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        self._bar.set_postfix_str(f"{rate:.0f} steps/s{counts}", refresh=False)


class WorkerBars:
    """A line a worker below the bar, on a terminal."""

    def __init__(self) -> None:
        self._bars: list[tqdm[NoReturn]] = []

    def __enter__(self) -> "WorkerBars":
        return self

    def __exit__(self, *error: object) -> None:
        for bar in reversed(self._bars):
            bar.close()

    def show(self, lines: Sequence[str]) -> None:
        """Shows how the workers are doing, in their order."""
        if not sys.stderr.isatty():
            return
        for position in range(len(self._bars) + 1, len(lines) + 1):
            self._bars.append(progress_bar(total=0, position=position, bar_format="{desc}"))
        for bar, line in zip(self._bars, lines, strict=True):
            bar.set_description_str(line)
