"""What the processes below one do, as Linux tells it: who they are, where they listen, what is in their environment,
and which of their files others can reach."""

import contextlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from stat import S_IROTH, S_IWOTH, S_IXOTH, filemode

PROC = Path("/proc")
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
LISTENING = "0A"
OF_WORKERS = re.compile("ray|plasma|session|steps-to-epsilon", re.IGNORECASE)
"""In the names of what workers leave in a temporary folder; other programs of this user may leave others meanwhile."""


def descendants(pid: int) -> dict[int, str]:
    """Every process below one, with its command line."""
    children: dict[int, list[int]] = defaultdict(list)
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] != "Z":
            children[int(words[1])].append(int(stat.parent.name))
    found: dict[int, str] = {}
    below = list(children[pid])
    while below:
        one = below.pop()
        below += children[one]
        found[one] = _read(one, "cmdline").replace("\0", " ")
    return found


def workers(pid: int) -> list[int]:
    """The processes below one that train."""
    return [one for one, words in descendants(pid).items() if words.startswith("ray::StudyWorker")]


def environment(pid: int) -> dict[str, str]:
    """What a process was given when it was started."""
    return dict(entry.split("=", 1) for entry in _read(pid, "environ").split("\0") if "=" in entry)


def listening(pid: int) -> set[str]:
    """The addresses, in the kernel's hexadecimals, at which a process listens."""
    own = set()
    for file in (PROC / str(pid) / "fd").glob("*"):
        try:
            own.add(str(file.readlink()))
        except OSError:
            continue
    found = set()
    for table in ("net/tcp", "net/tcp6"):
        for line in _read(pid, table).splitlines()[1:]:
            words = line.split()
            if words[3] == LISTENING and f"socket:[{words[9]}]" in own:
                found.add(words[1].partition(":")[0])
    return found


def open_to_others(top: Path, since: float) -> Iterator[str]:
    """What workers of this user have left below a folder since then, and another user could read or write."""
    if not top.stat().st_mode & S_IXOTH:
        return
    for entry in os.scandir(top):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            there = entry.stat(follow_symlinks=False)
            if not OF_WORKERS.search(entry.path) or there.st_uid != os.getuid() or entry.is_symlink():
                continue
            if there.st_ctime >= since and there.st_mode & (S_IROTH | S_IWOTH):
                yield f"{entry.path} {filemode(there.st_mode)}"
            if entry.is_dir():
                yield from open_to_others(Path(entry.path), since)


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not just unburied."""
    return _read(pid, "stat").rpartition(")")[2].split()[:1] not in ([], ["Z"])


def wait_until(is_so: Callable[[], object], seconds: float = 240.0) -> bool:
    """Waits until something is so, or for so long, and says whether it is."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="replace")
    except OSError:
        return ""
