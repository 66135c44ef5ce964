"""The workers of a study as `status` sees them, in a file that is there while several train."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning_app.files import OutsideError, json_as, read_regular

WORKERS = "workers.json"


@dataclass(frozen=True)
class WorkerLine:
    """How a worker is doing.

    Args:
        worker: Its number, from 1.
        host: Its machine.
        device: The model of its GPU; the kind itself elsewhere.
        state: `starting`, `at work`, `idle`, or `gone` when it is not to come back.
        steps_per_second: Since it was started; None before its first report.
        done: Examples that it has ended.
        lost: How often its process was lost.
        in_hand: Paths of the examples that it has begun.
    """

    worker: int
    host: str
    device: str
    state: str
    steps_per_second: float | None
    done: int
    lost: int
    in_hand: tuple[str, ...]

    def in_words(self) -> str:
        """One line."""
        rate = "" if self.steps_per_second is None else f", {self.steps_per_second:.1f} steps/s"
        lost = f", lost {self.lost} times" if self.lost else ""
        more = f" and {len(self.in_hand) - 1} more" if len(self.in_hand) > 1 else ""
        what = f"{self.in_hand[0]}{more}" if self.in_hand else self.state
        where = f" ({self.device} on {self.host})" if self.host else ""
        return f"worker {self.worker}{where}{rate}, {self.done} done{lost}: {what}"


def write_workers(folder: Path, lines: Sequence[WorkerLine]) -> None:
    """Puts the lines where `status` finds them; without them a study goes on as well."""
    aside = folder / f".{WORKERS}.writing"
    with contextlib.suppress(OSError):
        aside.write_text(json.dumps([asdict(line) for line in lines]), encoding="utf-8")
        aside.replace(folder / WORKERS)


def forget_workers(folder: Path) -> None:
    """Takes the file away."""
    for name in (WORKERS, f".{WORKERS}.writing"):
        with contextlib.suppress(OSError):
            (folder / name).unlink()


def read_workers(folder: Path) -> tuple[WorkerLine, ...]:
    """The lines that are there; none where one process trains."""
    try:
        return json_as(tuple[WorkerLine, ...], read_regular(folder / WORKERS, links=False))
    except (OSError, OutsideError):
        return ()
