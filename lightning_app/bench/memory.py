"""Peak memory: of this process, and of what is taken from a CUDA GPU."""

import gc
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

Made = TypeVar("Made")

FORGET_THE_PEAK = "5"
"""As /proc/self/clear_refs takes it."""


def taken_by(make: Callable[[], Made], free: Callable[[], int]) -> tuple[Made, int]:
    """Makes something, and says how much memory it has taken.

    Args:
        make: What is called.
        free: How much there is, in bytes.
    """
    before = free()
    made = make()
    return made, before - free()


def free_on(device: torch.device) -> int:
    """Bytes of a CUDA GPU that nobody holds: by its own count, which has the pools of CUDA graphs too."""
    return int(torch.cuda.mem_get_info(device)[0])


class ProcessPeak:
    """The most memory that this process has held at once since `begin`, where the system can tell (Linux).

    Args:
        proc: The system's folder of this process.
    """

    def __init__(self, proc: Path = Path("/proc/self")) -> None:
        self._proc = proc
        self._is_counting = False

    def begin(self) -> None:
        """Forgets what was before."""
        gc.collect()
        try:
            (self._proc / "clear_refs").write_text(FORGET_THE_PEAK)
            self._is_counting = True
        except OSError:
            self._is_counting = False

    def bytes(self) -> int | None:
        """The peak; None where the system can't tell."""
        if not self._is_counting:
            return None
        found = re.search(r"VmHWM:\s+(\d+) kB", (self._proc / "status").read_text())
        return int(found[1]) * 1024 if found else None
