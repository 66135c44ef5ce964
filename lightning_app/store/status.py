"""Where a study stands, read from its folder while a run may be writing to it."""

import contextlib
import glob
import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from lightning_app.data.worker_state import WorkerState
from lightning_app.errors import BadInputError
from lightning_app.files import OutsideError, json_as, read_regular
from lightning_app.store.files import WORKERS, left_without_store
from lightning_app.store.lock import is_held
from lightning_app.store.study_log import STORE, read_study

RECENT = 50
"""The time left is that of so many rows, the last ones: harder examples take longer, and they come last."""

LOGGED_ERROR = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ (?:ERROR|CRITICAL) +(.*)")

State = Literal["running", "stopped", "complete"]


@dataclass(frozen=True)
class Status:
    """Where a study stands.

    Args:
        folder: Its folder.
        state: `running` while a process holds the folder, else whether anything is left.
        examples: In its sample.
        done: Of them, those that need no more training.
        left: The others.
        outcomes: Rows of the sample by outcome.
        beyond_the_sample: Rows that are not in the sample.
        max_steps_per_example: Its limit.
        steps: Taken by all rows of the sample.
        steps_per_second: Of the last 50 rows; None without any.
        examples_per_hour: Of the same rows.
        seconds_left: For what is left, at their pace; None where it can't be told.
        last_error: The last error in its logs, with its time, or None.
        workers: A line each, while several train.
    """

    folder: str
    state: State
    examples: int
    done: int
    left: int
    outcomes: dict[str, int]
    beyond_the_sample: int
    max_steps_per_example: int
    steps: int
    steps_per_second: float | None
    examples_per_hour: float | None
    seconds_left: float | None
    last_error: str | None
    workers: tuple[WorkerState, ...]


def status_of(folder: Path) -> Status:
    """Reads where a study stands.

    Raises:
        BadInputError: If the folder holds no study.
    """
    is_running = is_held(folder)  # first: a run that ends while its log is read has not been stopped
    try:
        study = read_study(folder)
    except (OSError, ValueError) as error:
        raise BadInputError(f"{folder} holds a study that can't be read: {error}") from None
    if study is None:
        if is_running:
            raise BadInputError(
                f"{folder}: a run has begun there, but not to train yet: it reads, asks the model, or starts workers"
            )
        raise BadInputError(_no_study(folder))
    lines, left = study.sample, study.left
    recent = [(line.steps, line.seconds) for line in lines if line.seconds is not None][-RECENT:]
    seconds = sum(spent for _, spent in recent)
    state: State = "running" if is_running else "stopped" if left else "complete"
    workers = read_workers(folder) if state == "running" else ()
    # Each row's seconds are those of its own worker.
    seconds /= max(1, sum(worker.state == "at work" for worker in workers))
    return Status(
        folder=str(folder),
        state=state,
        examples=len(study.sampled),
        done=len(study.sampled) - left,
        left=left,
        outcomes=dict(sorted(Counter(line.outcome for line in lines).items())),
        beyond_the_sample=len(study.examples) - len(lines),
        max_steps_per_example=study.target.max_steps_per_example,
        steps=sum(line.steps for line in lines),
        steps_per_second=sum(steps for steps, _ in recent) / seconds if seconds else None,
        examples_per_hour=3600 * len(recent) / seconds if seconds else None,
        seconds_left=left * seconds / len(recent) if recent else None if left else 0.0,
        last_error=_last_error(folder),
        workers=workers,
    )


def _no_study(folder: Path) -> str:
    if (found := left_without_store(folder)) is not None:
        return f"{folder} holds {found}; report reads its table"
    if os.path.lexists(folder / STORE):
        return f"{folder}: a run was ended there before it had begun to train; rerun its command to start it"
    files = glob.glob(f"*/{STORE}", root_dir=folder)  # noqa: PTH207  Path.glob raises where the folder is none
    studies = sorted(str(folder / Path(file).parent) for file in files)
    if studies:
        return f"{folder} is not a study's folder; it holds these: {', '.join(studies)}"
    return f"{folder} holds no study (no {STORE} is there): give a folder that `run` writes, such as outputs/MODEL"


def _last_error(folder: Path) -> str | None:
    for file in sorted(folder.glob("train_single_*.log"), reverse=True):
        try:
            text = read_regular(file, links=False).decode(errors="replace")
        except (OSError, OutsideError):
            continue
        if errors := LOGGED_ERROR.findall(text):
            return "{}: {}".format(*errors[-1])
    return None


def write_workers(folder: Path, lines: Sequence[WorkerState]) -> None:
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


def read_workers(folder: Path) -> tuple[WorkerState, ...]:
    """The lines that are there; none where one process trains."""
    try:
        return json_as(tuple[WorkerState, ...], read_regular(folder / WORKERS, links=False))
    except (OSError, OutsideError):
        return ()
