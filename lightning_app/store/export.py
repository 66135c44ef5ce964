"""What a study's log is written out as, for people and other programs: pure functions."""

import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from lightning_app.data.stop_rule import NEVER, THRESHOLDS
from lightning_app.files import Value, csv_text
from lightning_app.store.study_log import FORMAT, ExampleLine, StoredStudy

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

Floats = npt.NDArray[np.float64]
Losses = Sequence[float] | Floats
Row = dict[str, Value]
"""One line of the results: a value for every column; None is an empty cell."""

TEXT_COLUMNS = ("path", "outcome")
COUNTS = ("example_index", "total_steps_to_epsilon", "label", "predicted_before", "steps_run", "steps_to_correct",
          *(f"steps_to_{name}" for name in THRESHOLDS))  # fmt: skip

MAX_NAME_BYTES = 255


def row_of(line: ExampleLine, losses: Floats | None, index: int, epsilon: float) -> Row:
    """An example's row.

    Args:
        line: The example.
        losses: Of its steps, shape (steps,); an `error` has none, and no numbers.
        index: Its place in the difficulty-sorted sample.
        epsilon: Thresholds below it are left empty: the run did not look that far.
    """
    row: Row = dict.fromkeys(COLUMNS)
    row.update(
        example_index=index,
        path=line.path,
        total_steps_to_epsilon=line.steps if line.outcome == "reached" else NEVER,
        universal_difficulty_rank=line.rank,
        outcome=line.outcome,
    )
    if losses is None:
        return row
    assert line.weight_distance is not None
    row.update(
        final_loss=float(losses[-1]),
        label=line.label,
        predicted_before=line.predicted_before,
        initial_loss=float(losses[0]),
        steps_run=line.steps,
        steps_to_correct=line.steps_to_correct,
        total_loss_sum=math.fsum(losses.tolist()),
        weight_distance=float(line.weight_distance),
        seconds=line.seconds,
    )
    looked_for = {name: threshold for name, threshold in THRESHOLDS.items() if threshold >= epsilon}
    for name, step in zip(looked_for, first_steps(losses, list(looked_for.values())), strict=True):
        row[f"steps_to_{name}"] = step
    return row


def first_steps(losses: Floats, thresholds: Sequence[float]) -> list[int]:
    """The first step (from 1) at or below each threshold, or -1.

    Args:
        losses: Of the steps, shape (steps,); NaN is above every threshold.
        thresholds: In any order.
    """
    if not thresholds:
        return []
    lowest = np.minimum.accumulate(np.where(np.isnan(losses), math.inf, losses))  # falls, so that one search finds all
    places = np.searchsorted(-lowest, [-threshold for threshold in thresholds]).tolist()
    return [place + 1 if place < len(losses) else NEVER for place in places]


def rows_of(study: StoredStudy) -> Iterator[tuple[Row, Floats | None]]:
    """The rows of all examples that are there, by `example_index`, with their losses; an `error` has none.

    Raises:
        OSError: If the log can't be read.
        OutsideError: If it isn't as it was written, naming the line.
    """
    places = study.places()
    for line, losses in study.with_losses(sorted(study.examples, key=places.__getitem__)):
        yield row_of(line, losses, places[line.path], study.epsilon), losses


def row_text(row: Row) -> str:
    """A row as one CSV record."""
    return csv_text([[row[column] for column in COLUMNS]])


def table_text(rows: Iterable[Row]) -> str:
    """The whole table, header and rows."""
    return csv_text([COLUMNS]) + "".join(map(row_text, rows))


def step_log_text(losses: Iterable[float]) -> str:
    """A step log: step (from 1) and loss."""
    return "step,loss\n" + "".join([f"{step},{loss!r}\n" for step, loss in enumerate(losses, start=1)])


def step_log_name(index: Value, path: Value) -> str:
    """The step log's file name: the path with separators and control characters as `_`.

    A name over 255 bytes keeps the path's end, behind a hash of the whole.

    Args:
        index: The example's.
        path: The example's.
    """
    safe = "".join("_" if c in "/\\:" or unicodedata.category(c) == "Cc" else c for c in str(path))
    prefix, suffix = f"example_{index}_", "_steps.csv"
    room = MAX_NAME_BYTES - len(prefix) - len(suffix)
    encoded = safe.encode()
    if len(encoded) > room:
        mark = hashlib.sha256(str(path).encode()).hexdigest()[:12] + "_"
        safe = mark + encoded[len(mark) - room :].decode(errors="ignore")
    return prefix + safe + suffix


def fingerprint_text(study: StoredStudy) -> str:
    """`run.json`: the identity, and where the examples were trained."""
    target = study.target
    content = {
        "format": FORMAT,
        "identity": study.identity,
        "environments": study.environments_in_use,
        "target": {
            "examples": len(target.examples),
            "max_steps_per_example": target.max_steps_per_example,
            "shard": None if target.shard is None else msgspec.structs.asdict(target.shard),
        },
        "trained_for": study.trained_for,
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
