"""One writer a folder: a lock that the system takes from a process as soon as it is dead."""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import time
from pathlib import Path

from lightning_app.errors import BadInputError
from lightning_app.files import OutsideError, read_regular

log = logging.getLogger("lightning_app")

LOCK = ".lock"
PATIENCE_SECONDS = 1.0
"""A look at the lock, as `status` takes one, holds it for a moment."""


class WriterLock:
    """Holds a study's folder for this process, from now until `release`.

    Args:
        folder: There already.

    Raises:
        BadInputError: If another process holds it, or the folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / LOCK
        give_up = time.monotonic() + PATIENCE_SECONDS
        while not self._taken():
            if time.monotonic() > give_up:
                raise BadInputError(
                    f"--output_dir: another run is writing to {folder} ({_holder(self.file)}): wait for its end, stop"
                    " it, or choose another folder"
                )
            time.sleep(0.05)

    def _taken(self) -> bool:
        try:
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except FileNotFoundError:  # its last holder has just taken the empty folder away
            self.file.parent.mkdir(parents=True, exist_ok=True)
            return False
        except OSError as error:
            raise BadInputError(f"--output_dir: {self.file} can't be written: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            return False
        except OSError as error:  # some network file systems have no locks
            log.warning("%s can't be locked (%s): see that no second run writes to it", self.file, error.strerror)
        if not self.is_in_place():  # its last holder has just taken it away
            os.close(self._descriptor)
            return False
        with contextlib.suppress(OSError):  # on a full disk the lock holds without its words
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
        return True

    def is_in_place(self) -> bool:
        """Whether the lock is still that of the folder: neither has been taken away."""
        try:
            return os.path.samestat(self.file.stat(), os.fstat(self._descriptor))
        except OSError:
            return False

    def release(self) -> None:
        """Gives the folder free."""
        if self.is_in_place():
            with contextlib.suppress(OSError):  # in a folder that has turned read-only it stays, held by nobody
                self.file.unlink()
        os.close(self._descriptor)


def is_held(folder: Path) -> bool:
    """Whether a living process writes to a folder."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)


def _holder(file: Path) -> str:
    try:
        return read_regular(file, links=False, limit=1000).decode(errors="replace") or "unknown"
    except (OSError, OutsideError):
        return "unknown"
