"""Reads any CSV that has the seed's columns, whoever wrote it."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from lightning_app.data.ranking import read_text
from lightning_app.data.stop_rule import NEVER, Outcome
from lightning_app.errors import BadInputError
from lightning_app.store.export import COLUMNS, COUNTS, TEXT_COLUMNS

EMPTY = ("", "None")
EXCELS_HEADER = ["sep=", ""]
"""Of a table whose first line tells Excel that commas separate its cells."""
MAX_COUNT = 10**12
"""Of steps and indexes."""
NEEDED = ("path", "total_steps_to_epsilon", "universal_difficulty_rank")


def read_results_csv(file: Path) -> pd.DataFrame:
    """Reads a table of results: numbers as float64, NaN for an empty cell; text as text.

    What a table lacks is made up: example_index is the row's place, the outcome follows from steps and final loss.

    Raises:
        BadInputError: Naming file, line and column.
    """
    text = read_text(file)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: dict[int, list[str]] = {}  # by line
    try:
        header = [name.strip() for name in next(reader, [])]
        if header == EXCELS_HEADER:
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
            rows[reader.line_num] = row
    except csv.Error as error:
        raise BadInputError(f"{file}, line {reader.line_num}: not CSV ({error})") from None
    if not rows:
        raise BadInputError(f"{file} has a header and no rows")
    lines = list(rows)
    cells = dict(zip(header, zip(*rows.values(), strict=True), strict=True))
    frame = pd.DataFrame({name: _column(file, name, values, lines) for name, values in cells.items()})
    if "example_index" not in frame:
        frame["example_index"] = np.arange(len(frame), dtype=np.float64)
    if "outcome" not in frame:
        frame["outcome"] = _outcomes(frame, cells.get("final_loss", ("",) * len(frame)))
    _require_results(file, frame, lines)
    return frame


def _column(file: Path, name: str, values: Sequence[str], lines: Sequence[int]) -> object:
    """Numbers where the column has them; a column that nobody here knows may have anything."""
    if name in TEXT_COLUMNS:
        return np.array(values, dtype=object)
    numbers = np.empty(len(values))
    for k, value in enumerate(values):
        try:
            numbers[k] = float(value) if value.strip() not in EMPTY else math.nan
        except ValueError:
            if name not in COLUMNS:
                return np.array(values, dtype=object)
            raise BadInputError(f"{file}, line {lines[k]}: {name} is {value[:60]!r}, expected a number") from None
    return numbers


def _outcomes(frame: pd.DataFrame, final_losses: Sequence[str]) -> list[str]:
    """What a table without outcomes says of each row: one that wrote down a loss that is not finite has diverged."""
    diverged = [text.strip() not in EMPTY and not math.isfinite(float(text)) for text in final_losses]
    return [
        "diverged" if not_finite and count < 0 else "censored" if count < 0 else "reached"
        for count, not_finite in zip(frame["total_steps_to_epsilon"], diverged, strict=True)
    ]


def _require_results(file: Path, frame: pd.DataFrame, lines: Sequence[int]) -> None:
    """Refuses what can't be a table of results."""

    def refuse(name: str, bad: npt.NDArray[np.bool_], expected: str) -> None:
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            value = frame[name].iat[k]
            found = f"{value:g}" if isinstance(value, float) else repr(str(value)[:60])
            raise BadInputError(f"{file}, line {lines[k]}: {name} is {found}, expected {expected}")

    outcome = frame["outcome"].to_numpy()
    refuse("outcome", ~np.isin(outcome, get_args(Outcome)), f"one of {', '.join(get_args(Outcome))}")
    for name in (name for name in COUNTS if name in frame):
        values = frame[name].to_numpy(dtype=np.float64)
        least = NEVER if "_to_" in name else 0
        may_be_empty = outcome == "error" if name == "total_steps_to_epsilon" else name != "example_index"
        whole = (values >= least) & (values == np.floor(values)) & (values < MAX_COUNT)
        never = ", or -1 for never reached" if least else ""
        refuse(name, ~(whole | (np.isnan(values) & may_be_empty)), f"a whole number{never}")
    refuse("universal_difficulty_rank", ~np.isfinite(frame["universal_difficulty_rank"].to_numpy()), "a number")
    refuse("path", (frame["path"].duplicated() | (frame["path"] == "")).to_numpy(), "a path that is there once")
    refuse("example_index", frame["example_index"].duplicated().to_numpy(), "a number that is there once")
    reached = frame["total_steps_to_epsilon"].to_numpy() >= 0
    refuse("outcome", (outcome != "error") & ((outcome == "reached") != reached), "what total_steps_to_epsilon says")
