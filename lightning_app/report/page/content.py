"""What stands on a page, given by the caller."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lightning_app.store.export import Losses


@dataclass(frozen=True)
class Table:
    """A table of statistics; its cells are text and shown as they are.

    Attributes:
        caption: Its heading.
        columns: The columns' headings.
        rows: The cells, one tuple a row.
        notes: Small print below it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture that doesn't move.

    Attributes:
        name: Its file name in `report/`, such as `survival.png`. The page shows PNGs; other forms lie beside them.
        data: The file's bytes.
        caption: The words below it, and in place of it.
    """

    name: str
    data: bytes
    caption: str


@dataclass(frozen=True)
class StudyOnPage:
    """A study, and where the rest about its examples is found.

    Attributes:
        name: Unique among the page's studies.
        examples: One row an example, none with the outcome `error`: example_index, path, outcome, steps (limit + 1
            where not reached), not_reached, universal_difficulty_rank; and, where known, label, predicted_before,
            initial_loss and final_loss.
        epsilon: The loss to reach; NaN where it isn't known.
        limit: The most steps an example was given.
        thresholds: Losses drawn as lines with an example's curve.
        losses_of: The loss of every step of the example at a position in `examples`; raises OSError or ValueError
            where there is none. None: the study has no curves.
        image_of: The image file of the example at a position, or None.
        class_names: The names of the class indexes; without one the index is shown.
    """

    name: str
    examples: pd.DataFrame
    epsilon: float
    limit: int
    thresholds: tuple[float, ...]
    losses_of: Callable[[int], Losses] | None
    image_of: Callable[[int], Path | None]
    class_names: Mapping[int, str]
