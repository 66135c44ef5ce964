"""Draws the sample: the same one on every machine, and a smaller one is the beginning of a larger."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from lightning_app.data.example import Example
from lightning_app.data.ranking import RankedPath
from lightning_app.settings import Select


def draw_key(path: str, seed: int) -> str:
    """The number that places a path in the draw order; it depends on nothing else."""
    return hashlib.sha256(f"{seed}\n{path}".encode()).hexdigest()


Drawn = TypeVar("Drawn", RankedPath, Example)


def in_draw_order(candidates: Iterable[Drawn], seed: int) -> list[Drawn]:
    """Sorts candidates by their draw key."""
    return sorted(candidates, key=lambda entry: draw_key(entry.path, seed))


def draw_sample(
    candidates: Iterable[RankedPath],
    seed: int,
    select: Select,
    is_correct: Callable[[RankedPath], bool | None],
    max_examples: int,
) -> list[RankedPath]:
    """Takes the first fitting candidates in draw order.

    Args:
        candidates: Ranked paths whose files exist, in any order.
        seed: Of the draw.
        select: Which of them fit.
        is_correct: Whether the model gets one right, or None where its image can't be read: that one is drawn, to
            end as an error that is seen. Called in draw order, and only until the sample is full.
        max_examples: How many to take; -1 takes all.

    Returns:
        The sample in draw order; fewer than asked for where there are no more.
    """
    sample: list[RankedPath] = []
    for candidate in in_draw_order(candidates, seed):
        if len(sample) == max_examples:
            break
        answer = is_correct(candidate)
        if answer is None or select == "all" or answer == (select == "correct"):
            sample.append(candidate)
    return sample


def in_training_order(
    sample: Iterable[RankedPath], files: Mapping[str, Path], labels: Mapping[str, int]
) -> list[Example]:
    """Sorts a sample by difficulty, easiest first (ties by path), and numbers it."""
    ordered = sorted(sample, key=lambda entry: (entry.rank, entry.path))
    return [
        Example(index, entry.path, files[entry.path], labels[entry.path], entry.rank)
        for index, entry in enumerate(ordered)
    ]
