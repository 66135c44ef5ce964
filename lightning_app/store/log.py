"""A log of JSON lines: one writer appends to it, nothing in it is ever changed, and reading it blocks nobody."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from lightning_app.errors import StorageError
from lightning_app.files import OutsideError, flush_folder, naming, open_regular

MAX_LINE_BYTES = 2**28
"""The losses of 50 million steps."""


def whole_lines(file: Path) -> Iterator[bytes]:
    """The lines of a log that are whole, each with its end.

    A last line that a kill or a power cut left behind is passed over: it has no end, or zeros where text should be.

    Raises:
        OSError: If it isn't there or can't be read.
        OutsideError: If it is no regular file, or has a line that can be none.
    """
    with open_regular(file, links=False) as (descriptor, size), os.fdopen(descriptor, "rb", closefd=False) as stream:
        while size > 0:
            line = stream.readline(MAX_LINE_BYTES)
            size -= len(line)
            if len(line) == MAX_LINE_BYTES:
                raise OutsideError(f"it has a line of more than the {MAX_LINE_BYTES:,} bytes that one can have")
            if not line.endswith(b"\n") or (size <= 0 and b"\0" in line):
                return
            yield line


class LogWriter:
    """Appends to a log, from now until `close`.

    Args:
        file: The log, there or not.
        size: Bytes of its whole lines.
        torn: Bytes that stand behind them, which are cut off.
        flush: Whether each append waits until it is on the disk.

    Raises:
        StorageError: If it can't be written, or isn't as it was read.
    """

    def __init__(self, file: Path, size: int, torn: int = 0, flush: bool = True) -> None:
        self.file = file
        self.size = size
        self._flush = flush
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with naming(file):
            self._descriptor = os.open(file, flags, 0o666)
            # Where no lock holds, another run may have begun while this one read, and asked its model.
            if os.fstat(self._descriptor).st_size != size + torn:
                raise StorageError(f"{file} can't be written: another process has written to it")
            if torn:
                os.ftruncate(self._descriptor, size)
            if size == 0:
                flush_folder(file.parent)

    def append(self, lines: bytes) -> None:
        """Appends whole lines by one write; one that fails is taken back.

        Raises:
            StorageError: If they can't be written, or somebody else has.
        """
        with naming(self.file):
            self._require_in_place()
            left = lines
            try:
                while left:  # once, but on a full disk
                    left = left[os.write(self._descriptor, left) :]
                if self._flush:
                    os.fsync(self._descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, self.size)
                raise
        self.size += len(lines)

    def _require_in_place(self) -> None:
        there = os.fstat(self._descriptor)
        try:
            is_in_place = os.path.samestat(there, self.file.lstat())
        except FileNotFoundError:
            is_in_place = False
        if not is_in_place:
            raise StorageError(f"{self.file} can't be written: it was moved or removed")
        if there.st_size != self.size:
            raise StorageError(f"{self.file} can't be written: another process has written to it")

    def close(self) -> None:
        """Writes no more."""
        os.close(self._descriptor)
