"""What a process needs before torch and Lightning are loaded: environment, memory, streams, a plain matplotlib."""

import contextlib
import ctypes
import errno
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, TextIO, cast

from lightning_app.errors import StorageError

LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "JSM_NAMESPACE_", "OMPI_", "PMI_", "PMIX_")
LAUNCHED = frozenset(
    (
        *("RANK", "LOCAL_RANK", "GLOBAL_RANK", "GROUP_RANK", "NODE_RANK", "ROLE_RANK"),
        *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
    )
)
"""Variables by which Slurm, torchrun, Kubernetes, LSF and MPI tell processes of their fellows."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""The numbers of glibc's malloc.h."""


def settle_process() -> None:
    """Sets up the command's own process, and every worker's."""
    # A thread that spins while it waits slows every other process on the machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Else the streams of all slots share eight queues of the GPU; it has to stand there before CUDA starts.
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")
    # A notebook's, which it hands on to what it starts: matplotlib may not find it here, and then doesn't load.
    os.environ.pop("MPLBACKEND", None)
    load_plainly()
    # Lightning would take this process for one of several that train together; each of ours trains for itself.
    for name in [name for name in os.environ if name.startswith(LAUNCHERS) or name in LAUNCHED]:
        del os.environ[name]
    keep_memory()


def keep_memory() -> bool:
    """Keeps freed memory in the process, since the next step or batch takes as much again.

    glibc gives large blocks back and has the system fill each anew with zeros: more than half of the time of a batch of
    64 images of 224 pixels. No number changes. Whoever has set anything of the allocator's knows better.

    Returns:
        Whether that was done; with another C library there is nothing to do.
    """
    if any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return False
    try:
        library = ctypes.CDLL(None)
        if not hasattr(library, "gnu_get_libc_version"):
            return False
        return bool(library.mallopt(M_MMAP_MAX, 0) and library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    except (AttributeError, OSError):
        return False


class Lasting:
    """A stream that falls silent once nobody can be written to: a closed pipe or terminal must not end a study.

    Args:
        stream: What is written to.
        is_wanted: Whether its text is what was asked for, as on stdout: that a reader has seen enough, or a disk is
            full, is then an error.
    """

    def __init__(self, stream: TextIO, is_wanted: bool = False) -> None:
        self._stream = stream
        self._is_wanted = is_wanted

    def write(self, text: str) -> int:
        """Writes, or doesn't."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flushes, or doesn't."""
        self._attempt(self._stream.flush)

    def _attempt(self, call: Callable[[], object]) -> None:
        try:
            call()
        except UnicodeError:
            raise
        except (OSError, ValueError) as error:
            if not self._is_wanted:
                return
            with contextlib.suppress(OSError, ValueError):  # or Python complains of what is left when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise StorageError(f"what is printed can't be written: {error.strerror}") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def streams_that_last() -> Iterator[None]:
    """Puts something in the place of streams that were closed at the start, and keeps stderr from ending anything.

    A file that is opened while descriptor 1 or 2 is free would get what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    before = sys.stdin, sys.stdout, sys.stderr
    errors = getattr(sys.stdout, "errors", None)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what its encoding doesn't have; stderr does so anyhow
    nowhere = [open(os.devnull, mode, encoding="utf-8") for mode in ("r", "w", "w")]  # noqa: PTH123, SIM115
    sys.stdin, sys.stdout, sys.stderr = (stream or there for stream, there in zip(before, nowhere, strict=True))
    sys.stdout, sys.stderr = cast(TextIO, Lasting(sys.stdout, is_wanted=True)), cast(TextIO, Lasting(sys.stderr))
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors=errors)
        for stream in nowhere:
            stream.close()


def load_plainly() -> None:
    """Imports matplotlib in a place without settings, if the user has any; else it is imported when it is needed."""
    if "matplotlib" in sys.modules or not any(map(os.path.lexists, _theirs())):
        return
    before = dict(os.environ)
    # Who needs it says why it can't be loaded.
    with contextlib.suppress(Exception), contextlib.ExitStack() as stack:
        empty = stack.enter_context(tempfile.TemporaryDirectory())
        if os.path.lexists("matplotlibrc"):  # of the current folder, which goes before all that can be set
            stack.enter_context(contextlib.chdir(empty))
        try:
            os.environ.update({"MATPLOTLIBRC": os.devnull, "MPLCONFIGDIR": empty})
            import matplotlib.style  # noqa: F401  which reads the user's styles
        finally:
            os.environ.clear()
            os.environ.update(before)


def _theirs() -> list[str]:
    home = os.path.expanduser("~")  # noqa: PTH111  without a home it stays as it is
    base = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
    folders = (os.environ.get("MPLCONFIGDIR"), f"{base}/matplotlib", f"{home}/.matplotlib")
    inside = [f"{folder}/{name}" for folder in folders if folder for name in ("matplotlibrc", "stylelib")]
    return ["matplotlibrc", os.environ.get("MATPLOTLIBRC", ""), *inside]
