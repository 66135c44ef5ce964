"""Reads any CSV that has the seed's columns, whoever wrote it."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd

from lightning_app.errors import BadInputError
from lightning_app.results.records import COLUMNS, TEXT_COLUMNS
from lightning_app.training.trajectory import NEVER, Outcome

NEEDED = ("path", "total_steps_to_epsilon", "universal_difficulty_rank")


def read_results_csv(file: Path) -> pd.DataFrame:
    """Reads a table of results: numbers as float64, NaN for an empty cell; text as text.

    What a table lacks is made up: example_index is the row's place, the outcome follows from steps and final loss.

    Raises:
        BadInputError: Naming file, line and column.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInputError(f"{file} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BadInputError(f"{file} is not UTF-8 text: byte {error.start} can't be read") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[int] = []
    rows: list[list[str]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if missing := [name for name in NEEDED if name not in header]:
            raise BadInputError(
                f"{file}, line 1: a table of results has the columns {', '.join(NEEDED)}; missing: {', '.join(missing)}"
                f" (it begins {text[:60]!r})"
            )
        if twice := sorted({name for name in header if header.count(name) > 1}):
            raise BadInputError(f"{file}, line 1: there are two columns {twice[0]!r}")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise BadInputError(f"{file}, line {reader.line_num}: {len(row)} cells under a header of {len(header)}")
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise BadInputError(f"{file}, line {reader.line_num}: not CSV ({error})") from None
    if not rows:
        raise BadInputError(f"{file} has a header and no rows")
    cells = dict(zip(header, zip(*rows, strict=True), strict=True))
    frame = pd.DataFrame({name: _column(file, name, values, lines) for name, values in cells.items()})
    if "example_index" not in frame:
        frame["example_index"] = np.arange(len(frame), dtype=np.float64)
    if "outcome" not in frame:
        frame["outcome"] = _outcomes(frame)
    _require_results(file, frame, lines)
    return frame


def _column(file: Path, name: str, values: Sequence[str], lines: Sequence[int]) -> object:
    """Numbers where the column has them; a column that nobody here knows may have anything."""
    if name in TEXT_COLUMNS:
        return np.array(values, dtype=object)
    numbers = np.empty(len(values))
    for k, value in enumerate(values):
        try:
            numbers[k] = float(value) if value.strip() not in ("", "None") else math.nan
        except ValueError:
            if name not in COLUMNS:
                return np.array(values, dtype=object)
            raise BadInputError(f"{file}, line {lines[k]}: {name} is {value[:60]!r}, expected a number") from None
    return numbers


def _outcomes(frame: pd.DataFrame) -> list[str]:
    """What a table without outcomes says of each row: a loss that is not finite has diverged."""
    steps = frame["total_steps_to_epsilon"]
    last = frame["final_loss"] if "final_loss" in frame else pd.Series(0.0, index=frame.index)
    return [
        "error" if math.isnan(count) else "reached" if count >= 0 else "censored" if math.isfinite(loss) else "diverged"
        for count, loss in zip(steps, last, strict=True)
    ]


def _require_results(file: Path, frame: pd.DataFrame, lines: Sequence[int]) -> None:
    """Refuses what can't be a table of results.

    Raises:
        BadInputError: Naming line and column.
    """
    steps, rank = (frame[name].to_numpy(dtype=np.float64) for name in NEEDED[1:])
    outcome = frame["outcome"].to_numpy()
    fine = outcome == "error"
    index = frame["example_index"].to_numpy(dtype=np.float64)
    wrong = {
        "example_index": (~((index >= 0) & (index == np.floor(index)) & (index < 1e15)), "a whole number from 0"),
        "total_steps_to_epsilon": (~fine & ~((steps >= NEVER) & (steps == np.floor(steps)) & (steps < 1e15)),
                                   "a count of steps, or -1 for never reached"),
        "universal_difficulty_rank": (~np.isfinite(rank), "a number"),
        "outcome": (~np.isin(outcome, get_args(Outcome)), f"one of {', '.join(get_args(Outcome))}"),
        "path": (frame["path"].duplicated().to_numpy(), "a path that is there once"),
    }  # fmt: skip
    for name, (bad, expected) in wrong.items():
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            raise BadInputError(
                f"{file}, line {lines[k]}: {name} is {str(frame[name].iat[k])[:60]!r}, expected {expected}"
            )
    disagree = np.flatnonzero(~fine & ((outcome == "reached") != (steps >= 0)))
    if disagree.size:
        k = int(disagree[0])
        raise BadInputError(
            f"{file}, line {lines[k]}: outcome is {outcome[k]!r} with total_steps_to_epsilon {steps[k]:g}"
        )
