"""What a study that is there holds of what is asked for, and what is left to train: pure functions of rows."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from lightning_app.inputs.example import Example
from lightning_app.results.records import Row, index_of, path_of, rank_of, steps_of


@dataclass(frozen=True)
class Stock:
    """A sample against the rows that are there.

    Args:
        examples: The sample, easiest first, with the numbers that it has beside the rows below.
        rows: The rows that stay, with their new numbers, in the order of the table.
        done: Paths of the sample that need no training.
        again: Paths of the sample whose rows stay until they are trained again, with more steps.
        beyond: Paths of the rows that are not in the sample.
        dropped: Paths of the sample whose rows don't stay: an `error`, or a row without its step log.
    """

    examples: list[Example]
    rows: list[Row]
    done: frozenset[str]
    again: frozenset[str]
    beyond: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def left(self) -> list[Example]:
        """What is to be trained, easiest first."""
        return [example for example in self.examples if example.path not in self.done]


def take_stock(sample: Sequence[Example], rows: Sequence[Row], logged: Collection[str], max_steps: int) -> Stock:
    """Compares a sample with the rows that are there.

    Args:
        sample: Easiest first.
        rows: Of the table.
        logged: Paths whose step log is there.
        max_steps: Steps after which an example is given up now; no row has taken more.
    """
    sampled = {example.path for example in sample}
    kept = [
        row for row in rows if path_of(row) not in sampled or (row["outcome"] != "error" and path_of(row) in logged)
    ]
    again = {path_of(row) for row in kept if gave_up_earlier(row, max_steps)} & sampled
    staying = {path_of(row) for row in kept}
    places = _places(sample, kept)
    return Stock(
        examples=[replace(example, index=places[example.path]) for example in sample],
        rows=[{**row, "example_index": places[path_of(row)]} for row in kept],
        done=frozenset(staying & sampled - again),
        again=frozenset(again),
        beyond=tuple(path_of(row) for row in kept if path_of(row) not in sampled),
        dropped=tuple(path_of(row) for row in rows if path_of(row) not in staying),
    )


def gave_up_earlier(row: Row, max_steps: int) -> bool:
    """Whether a row was censored at fewer steps than are allowed now."""
    return row["outcome"] == "censored" and steps_of(row) < max_steps


def numbered(rows: Iterable[Row]) -> list[Row]:
    """Rows with the numbers that they have beside one another, in that order."""
    places = _places((), rows := list(rows))
    return in_number_order({**row, "example_index": places[path_of(row)]} for row in rows)


def in_number_order(rows: Iterable[Row]) -> list[Row]:
    """Rows by `example_index`, as they stand in a study at rest."""
    return sorted(rows, key=index_of)


def _places(sample: Iterable[Example], rows: Iterable[Row]) -> dict[str, int]:
    """The number of every example, sampled or there already: its place by difficulty (ties by path)."""
    ranks = {path_of(row): rank_of(row) for row in rows} | {example.path: example.rank for example in sample}
    return {path: place for place, path in enumerate(sorted(ranks, key=lambda path: (ranks[path], path)))}
