"""What a run shows on the screen and writes to its log."""

import contextlib
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from tqdm import tqdm

from lightning_app.errors import StorageError, printable
from lightning_app.store.workers import WorkerLine, forget_workers, write_workers

if TYPE_CHECKING:
    from lightning_app.data.images import ImagesBelow
    from lightning_app.data.labels import Labels

LOGGER = log = logging.getLogger("lightning_app")
# Bars of one process need a lock between its threads alone. tqdm's own is one between processes as well: a forked child
# that is killed while it holds that one stops every later bar of its parent for ever.
tqdm.set_lock(threading.RLock())

FILE_ONLY = {"file_only": True}
"""`extra=FILE_ONLY` keeps a record off the screen."""


def say_left_out(what: str, names: Sequence[str], level: int = logging.WARNING) -> None:
    """Says what is left out, with an example; the log file names it all."""
    if names:
        log.log(level, "%s %s%s", f"{len(names):,}", what, f", for example {names[0]!r}" if names[0] else "")
        for name in filter(None, names):
            log.info("left out: %r", name, extra=FILE_ONLY)


def say_remarks(labels: "Labels") -> None:
    """Says what the user should know of how images were labelled."""
    for remark in labels.remarks:
        log.warning("%s", remark)


def say_what_else_is_there(below: "ImagesBelow") -> None:
    """Says what of a folder of images was left out."""
    say_left_out("folders or files can't be read and are left out", below.unreadable)
    say_left_out("paths are of an image or folder that has another path already, and are left out", below.twins)
    say_left_out("hidden folders or folders of file managers are left out", below.foreign, logging.INFO)
    if below.others:
        log.info("Other files are left out, no images that are opened here: %s", below.others_in_words)


def seconds_between_bars() -> float:
    """How often a bar is drawn: all the time on a terminal; in a file it is a line now and then."""
    return 0.1 if sys.stderr.isatty() else 30.0


def progress_bar(*iterable: Any, **how: Any) -> "tqdm[Any]":
    """A bar of tqdm's on stderr, which goes when it is over unless `leave` says otherwise."""
    defaults = {"leave": False, "file": sys.stderr, "dynamic_ncols": True, "mininterval": seconds_between_bars()}
    return tqdm(*iterable, **{**defaults, **how})


class _Screen(logging.Handler):
    """Writes records above the progress bar, warnings marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "file_only", False) or record.levelno < logging.INFO:
            return
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(printable(mark + record.getMessage(), "\n"), file=sys.stderr)


class StudyLog:
    """Sends the package's records to the screen, and to the study's log file once there is one.

    What is said before the file exists is kept and stands in it too. Python's own warnings go to the file alone.
    """

    def __init__(self) -> None:
        self._early = _Early()
        self._handlers: list[logging.Handler] = [_Screen(), self._early]

    def __enter__(self) -> "StudyLog":
        LOGGER.setLevel(logging.DEBUG)
        LOGGER.propagate = False
        for handler in self._handlers:
            LOGGER.addHandler(handler)
        logging.captureWarnings(True)
        self._warnings = logging.getLogger("py.warnings")
        self._warnings.propagate = False
        self._warnings.addHandler(self._early)
        return self

    def to_file(self, file: Path) -> None:
        """Opens the log file and writes down what was said so far.

        Raises:
            StorageError: If it can't be opened.
        """
        try:
            handler = _LogFile(file, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{file} can't be written: {error.strerror}") from None
        handler.setFormatter(_Printable("%(asctime)s %(levelname)-7s %(message)s"))
        for record in self._early.records:
            handler.handle(record)
        for logger in (LOGGER, self._warnings):
            logger.removeHandler(self._early)
            logger.addHandler(handler)
        self._handlers = [self._handlers[0], handler]

    def __exit__(self, *error: object) -> None:
        for handler in self._handlers:
            LOGGER.removeHandler(handler)
            self._warnings.removeHandler(handler)
            handler.close()
        logging.captureWarnings(False)


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), "\n")


class _LogFile(logging.FileHandler):
    """The study's log; on a full disk it stays short, and the results matter more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Without a traceback on the screen for every line."""

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):
            super().close()


class _Early(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


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


class WorkerLines:
    """A line a worker below the bar, on a terminal; and the same in the study's folder, where `status` finds it.

    Args:
        folder: Of the study.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: list[tqdm[NoReturn]] = []
        self._shown = 0.0

    def __enter__(self) -> "WorkerLines":
        return self

    def __exit__(self, *error: object) -> None:
        for line in reversed(self._lines):
            line.close()
        forget_workers(self._folder)

    def show(self, workers: Sequence[WorkerLine]) -> None:
        """Shows how the workers are doing, at most once a second."""
        now = time.monotonic()
        if now - self._shown < 1.0:
            return
        self._shown = now
        write_workers(self._folder, workers)
        if not sys.stderr.isatty():
            return
        for worker in workers[len(self._lines) :]:
            self._lines.append(progress_bar(total=0, position=worker.worker, bar_format="{desc}"))
        for line, worker in zip(self._lines, workers, strict=True):
            line.set_description_str(worker.in_words())
