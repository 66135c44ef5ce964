"""What a command says: on the screen, and in the log file of what it works on."""

import contextlib
import logging
import sys
from collections.abc import Sequence
from logging.handlers import MemoryHandler
from pathlib import Path

from tqdm import tqdm

from lightning_app.errors import StorageError, printable

log = logging.getLogger("lightning_app")

FILE_ONLY = {"file_only": True}
"""`extra=FILE_ONLY` keeps a record off the screen."""


def log_left_out(what: str, names: Sequence[str], level: int = logging.WARNING) -> None:
    """Says what is left out, with an example; the log file names it all."""
    if names:
        log.log(level, "%s %s%s", f"{len(names):,}", what, f", for example {names[0]!r}" if names[0] else "")
        for name in filter(None, names):
            log.info("left out: %r", name, extra=FILE_ONLY)


class _Screen(logging.Handler):
    """Writes records above the progress bar, warnings marked as such."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "file_only", False):
            return
        mark = "warning: " if record.levelno >= logging.WARNING else ""
        tqdm.write(printable(mark + record.getMessage(), "\n"), file=sys.stderr)


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), "\n")


class _LogFile(logging.FileHandler):
    """On a full disk it stays short, and the results matter more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Without a traceback on the screen for every line."""

    def close(self) -> None:
        """Closes the file."""
        with contextlib.suppress(OSError):
            super().close()


class StudyLog:
    """Sends the package's records to the screen, and to a log file once there is one.

    What is said before the file exists is kept and stands in it too. Python's own warnings go to the file alone.
    """

    def __enter__(self) -> "StudyLog":
        self._screen, self._file = _Screen(logging.INFO), MemoryHandler(sys.maxsize, flushLevel=sys.maxsize)
        self._warnings = logging.getLogger("py.warnings")
        log.setLevel(logging.DEBUG)
        log.propagate = self._warnings.propagate = False
        log.addHandler(self._screen)
        for logger in (log, self._warnings):
            logger.addHandler(self._file)
        logging.captureWarnings(True)
        return self

    def to_file(self, file: Path) -> None:
        """Opens the log file and writes down what was said so far.

        Raises:
            StorageError: If it can't be opened.
        """
        try:
            opened = _LogFile(file, encoding="utf-8")
        except OSError as error:
            raise StorageError(f"{file} can't be written: {error.strerror}") from None
        opened.setFormatter(_Printable("%(asctime)s %(levelname)-7s %(message)s"))
        self._file.setTarget(opened)
        self._file.flush()
        self._file.capacity = 0  # from now on a record is written as it comes

    def __exit__(self, *error: object) -> None:
        log.removeHandler(self._screen)
        for logger in (log, self._warnings):
            logger.removeHandler(self._file)
        opened = self._file.target
        self._file.close()
        if opened is not None:
            opened.close()
        logging.captureWarnings(False)
