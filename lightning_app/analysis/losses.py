"""Where the loss of each step is read from: a study's log, or the step logs that lie beside anybody's table."""

import os
import re
from pathlib import Path
from typing import Protocol

import numpy as np

from lightning_app.analysis.statistics import Floats
from lightning_app.files import read_regular
from lightning_app.store.export import step_log_name
from lightning_app.store.files import RESULTS, STEP_LOGS
from lightning_app.store.study_log import StoredStudy

THEIR_LOG = re.compile(r"(example_\d+_).*_steps\.csv", re.DOTALL)


class LossSource(Protocol):
    """The losses of a study's examples."""

    def has(self, index: int, path: str) -> bool:
        """Whether those of a trained example are there.

        Args:
            index: Its `example_index`.
            path: Its path.
        """

    def of(self, index: int, path: str) -> Floats:
        """Those of an example, shape (steps,).

        Args:
            index: Its `example_index`.
            path: Its path.

        Raises:
            OSError: If they aren't there.
            ValueError: If what is there is something else.
        """


class StoredLosses:
    """Those of a study of ours; see `LossSource`."""

    def __init__(self, study: StoredStudy) -> None:
        self._study = study

    def has(self, index: int, path: str) -> bool:
        """Every trained example has them."""
        return True

    def of(self, index: int, path: str) -> Floats:
        """Read from the log."""
        line = self._study.examples[path].line
        if line.outcome == "error":
            raise FileNotFoundError(f"{path!r} is an error and has no losses: {line.reason}")
        return self._study.losses_of(path)


class StepLogs:
    """A folder of step logs; see `LossSource`.

    Args:
        folder: With a CSV an example.
        by_number: Whether the files may have names of their maker's own behind `example_N_`.
    """

    def __init__(self, folder: Path, by_number: bool) -> None:
        self._folder = folder
        names = sorted(os.listdir(folder))
        self._names = {name: name for name in names}
        if by_number:
            numbered = [(found[1], name) for name in names if (found := THEIR_LOG.fullmatch(name))]
            begins = [begin for begin, _ in numbered]
            self._names |= {begin: name for begin, name in numbered if begins.count(begin) == 1}

    def has(self, index: int, path: str) -> bool:
        """Whether there is such a file."""
        return self._name(index, path) is not None

    def of(self, index: int, path: str) -> Floats:
        """Read from its file."""
        name = self._name(index, path)
        if name is None:
            raise FileNotFoundError(f"{path!r} has no step log in {self._folder}")
        return read_step_log(read_regular(self._folder / name, links=False))

    def _name(self, index: int, path: str) -> str | None:
        return self._names.get(step_log_name(index, path)) or self._names.get(f"example_{index}_")


def step_logs_beside(table: Path) -> StepLogs | None:
    """The step logs beside a table, if there are any.

    By their number alone only beside a table of the seed's name: beside any other they may be another study's.
    """
    try:
        return StepLogs(table.parent / STEP_LOGS, table.name == RESULTS)
    except OSError:
        return None


def read_step_log(data: bytes) -> Floats:
    """The losses of a step log: a CSV of step (from 1) and loss.

    Raises:
        ValueError: If it isn't one, or its steps are not 1, 2, 3, ...
    """
    header, *lines = data.split(b"\n")
    if header.rstrip() != b"step,loss":
        raise ValueError("line 1 is not the header of a step log")
    while lines and not lines[-1].strip():
        lines.pop()
    if lines and not (lines[0].startswith(b"1,") and lines[-1].startswith(b"%d," % len(lines))):
        raise ValueError("its steps are not 1, 2, 3, ...")
    return np.array([float(line[line.index(b",") + 1 :]) for line in lines])
