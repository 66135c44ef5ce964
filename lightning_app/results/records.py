"""What one example's files hold: its row, its step log, their names. Written and read back."""

import csv
import hashlib
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from lightning_app.csv_text import Value, csv_text
from lightning_app.inputs.example import Rank
from lightning_app.training.trajectory import NEVER, THRESHOLDS, Failure, Outcome, Trajectory, first_step_at_or_below

SEED_COLUMNS = ("example_index", "path", "total_steps_to_epsilon", "final_loss", "universal_difficulty_rank")
COLUMNS = (
    *SEED_COLUMNS,
    "outcome",
    "label",
    "predicted_before",
    "initial_loss",
    "steps_run",
    "steps_to_correct",
    *(f"steps_to_{name}" for name in THRESHOLDS),
    "total_loss_sum",
    "weight_distance",
    "seconds",
)

Row = dict[str, Value]
"""One line of the results: a value for every column; None is an empty cell."""

TEXT_COLUMNS = ("path", "outcome")
COUNTS = ("example_index", "total_steps_to_epsilon", "label", "predicted_before", "steps_run", "steps_to_correct",
          *(f"steps_to_{name}" for name in THRESHOLDS))  # fmt: skip
FLOAT_COLUMNS = ("final_loss", "initial_loss", "total_loss_sum", "weight_distance", "seconds")
ALWAYS_THERE = (*(name for name in SEED_COLUMNS if name != "final_loss"), "outcome")
THERE_WHEN_TRAINED = ("final_loss", "initial_loss", "steps_run")

MAX_NAME_BYTES = 255


class UnreadableTableError(ValueError):
    """A table of results that can't be what was written; its text says where and why."""


@dataclass(frozen=True)
class Table:
    """`single_example_results.csv`, read back.

    Args:
        rows: Its whole rows.
        torn: What stands behind them: the beginning of a row that a power cut left, mostly nothing.
    """

    rows: list[Row]
    torn: bytes


def row_of(result: Trajectory | Failure, epsilon: float) -> Row:
    """An example's row.

    Args:
        result: The finished example. A failure has no numbers.
        epsilon: Thresholds below it are left empty: the run did not look that far.
    """
    example = result.example
    row: Row = dict.fromkeys(COLUMNS)
    row.update(
        example_index=example.index,
        path=example.path,
        total_steps_to_epsilon=NEVER,
        universal_difficulty_rank=example.rank,
        outcome=result.outcome,
    )
    if isinstance(result, Failure):
        return row
    row.update(
        total_steps_to_epsilon=result.total_steps_to_epsilon,
        final_loss=result.losses[-1],
        label=example.label,
        predicted_before=result.predicted_before,
        initial_loss=result.losses[0],
        steps_run=len(result.losses),
        steps_to_correct=result.steps_to_correct,
        total_loss_sum=math.fsum(result.losses),
        weight_distance=result.weight_distance,
        seconds=result.seconds,
    )
    for name, threshold in THRESHOLDS.items():
        if threshold >= epsilon:
            row[f"steps_to_{name}"] = first_step_at_or_below(result.losses, threshold)
    return row


def row_text(row: Row) -> str:
    """A row as one CSV record."""
    return csv_text([[row[column] for column in COLUMNS]])


def table_text(rows: Iterable[Row]) -> str:
    """The whole table, header and rows."""
    return csv_text([COLUMNS]) + "".join(map(row_text, rows))


MOST_DIGITS, MOST_SECONDS = 18, 1e9
"""Of a cell; more is nothing that a run has written."""


def read_table(data: bytes) -> Table:
    """Reads a table of results, also while it is being written.

    Only the last row may be torn: each is on the disk before the next begins.

    Raises:
        UnreadableTableError: If the header or any other row is not as it was written, or a path stands there twice.
    """
    records, torn = _records(data)
    header = csv_text([COLUMNS]).encode()
    if not records or records[0] != header:
        found = records[0] if records else torn
        ends = " (its lines end in CR LF; they were written with LF)" if found == header[:-1] + b"\r\n" else ""
        raise UnreadableTableError(
            f"line 1 is not the header of a table of results: it begins {found[:60].decode(errors='replace')!r}{ends}"
        )
    rows: dict[str, Row] = {}
    line = 1 + records[0].count(b"\n")
    for record in records[1:]:
        try:
            row = _row(record)
        except ValueError as error:
            if record is records[-1] and not torn:
                torn = record
                break
            raise UnreadableTableError(
                f"line {line}: {error} (without that row, its example is trained again)"
            ) from None
        path = path_of(row)
        if path in rows:
            raise UnreadableTableError(f"line {line}: {path!r} is there for the second time (take one out)")
        rows[path] = row
        line += record.count(b"\n")
    for number, text in enumerate(torn.split(b"\n")[1:], start=1):
        if _is_row(text + b"\n"):
            raise UnreadableTableError(f"line {line}: its quotes don't end, and line {line + number} is a row again")
    return Table(list(rows.values()), torn)


def _records(data: bytes) -> tuple[list[bytes], bytes]:
    """Splits a table at line ends outside of quotes: whole records, and what follows the last."""
    records: list[bytes] = []
    begun: list[bytes] = []
    in_quotes = False
    *lines, last = data.split(b"\n")
    for line in lines:
        begun.append(line + b"\n")
        in_quotes ^= line.count(b'"') % 2 == 1
        if not in_quotes:
            records.append(b"".join(begun))
            begun = []
    return records, b"".join(begun) + last


def _is_row(record: bytes) -> bool:
    try:
        _row(record)
    except ValueError:
        return False
    return True


def _row(record: bytes) -> Row:
    try:
        cells = next(csv.reader([record.decode()[:-1]], strict=True))
    except (csv.Error, StopIteration) as error:
        raise ValueError(f"it can't be read as CSV ({error})") from None
    if len(cells) != len(COLUMNS):
        raise ValueError(f"it has {len(cells)} cells under a header of {len(COLUMNS)}")
    row: Row = {}
    for name, cell in zip(COLUMNS, cells, strict=True):
        try:
            row[name] = _value(name, cell)
        except ValueError:
            raise ValueError(f"{name} is {cell[:60]!r}") from None
    if row["outcome"] not in get_args(Outcome):
        raise ValueError(f"there is no outcome {row['outcome']!r}")
    needed = ALWAYS_THERE if row["outcome"] == "error" else (*ALWAYS_THERE, *THERE_WHEN_TRAINED)
    for name in needed:
        if row[name] is None:
            raise ValueError(f"{name} is empty")
    return row


def _value(name: str, cell: str) -> Value:
    if name in TEXT_COLUMNS:
        return cell
    if not cell:
        return None
    if name in FLOAT_COLUMNS:
        number = float(cell)
        if name == "seconds" and not 0 <= number < MOST_SECONDS:
            raise ValueError
        return number
    if name == "universal_difficulty_rank":
        number = float(cell)
        if not math.isfinite(number):
            raise ValueError
        return int(cell) if cell.isdecimal() else number
    if len(cell) > MOST_DIGITS:
        raise ValueError
    return int(cell)


def path_of(row: Row) -> str:
    """A row's path, the example's name."""
    return str(row["path"])


def index_of(row: Row) -> int:
    """A row's place in the difficulty-sorted sample."""
    index = row["example_index"]
    assert isinstance(index, int)
    return index


def rank_of(row: Row) -> Rank:
    """A row's universal difficulty."""
    rank = row["universal_difficulty_rank"]
    assert isinstance(rank, int | float)
    return rank


def steps_of(row: Row) -> int:
    """The steps that a row's training took; none for an `error`."""
    steps = row["steps_run"]
    return steps if isinstance(steps, int) else 0


def step_log_text(losses: Sequence[float]) -> str:
    """A step log: step (from 1) and loss."""
    return csv_text([("step", "loss"), *enumerate(losses, start=1)])


def step_log_lines(data: bytes) -> list[bytes]:
    """The lines of a step log below its header, step k in the k-th place.

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
    return lines


def loss_in(line: bytes) -> float:
    """The loss in a line of a step log."""
    return float(line[line.index(b",") + 1 :])


def read_step_log(data: bytes) -> list[float]:
    """The losses of a step log.

    Raises:
        ValueError: If it isn't one.
    """
    return list(map(loss_in, step_log_lines(data)))


def step_log_name(index: int, path: str) -> str:
    """The step log's file name: the path with separators and control characters as `_`.

    A name over 255 bytes keeps the path's end, behind a hash of the whole.

    Args:
        index: The example's.
        path: The example's.
    """
    safe = "".join("_" if c in "/\\:" or unicodedata.category(c) == "Cc" else c for c in path)
    prefix, suffix = f"example_{index}_", "_steps.csv"
    room = MAX_NAME_BYTES - len(prefix) - len(suffix)
    encoded = safe.encode()
    if len(encoded) > room:
        mark = hashlib.sha256(path.encode()).hexdigest()[:12] + "_"
        safe = mark + encoded[len(mark) - room :].decode(errors="ignore")
    return prefix + safe + suffix
