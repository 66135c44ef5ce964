"""What one example's files hold: its row, its step log, their names."""

import hashlib
import math
import unicodedata
from collections.abc import Sequence

from lightning_app.csv_text import Value, csv_text
from lightning_app.inputs.example import Example
from lightning_app.training.trajectory import NEVER, THRESHOLDS, Failure, Trajectory, first_step_at_or_below

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

MAX_NAME_BYTES = 255


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


def step_log_text(losses: Sequence[float]) -> str:
    """A step log: step (from 1) and loss."""
    return csv_text([("step", "loss"), *enumerate(losses, start=1)])


def step_log_name(example: Example) -> str:
    """The step log's file name: the path with separators and control characters as `_`.

    A name over 255 bytes keeps the path's end, behind a hash of the whole.
    """
    safe = "".join("_" if c in "/\\:" or unicodedata.category(c) == "Cc" else c for c in example.path)
    prefix, suffix = f"example_{example.index}_", "_steps.csv"
    room = MAX_NAME_BYTES - len(prefix) - len(suffix)
    encoded = safe.encode()
    if len(encoded) > room:
        mark = hashlib.sha256(example.path.encode()).hexdigest()[:12] + "_"
        safe = mark + encoded[len(mark) - room :].decode(errors="ignore")
    return prefix + safe + suffix
