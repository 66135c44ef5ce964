"""The unit of a study."""

from dataclasses import dataclass
from pathlib import Path

Rank = int | float
"""A place in the universal-difficulty ranking: 1 is easiest. A float only where the ranking's own table has one."""


@dataclass(frozen=True, slots=True)
class Example:
    """One image of the sample, ready to be trained on.

    Args:
        index: Place in the difficulty-sorted sample, from 0.
        path: The ranking's text, unchanged; the example's name in every output.
        image: The file on disk.
        label: Class index.
        rank: Universal difficulty.
    """

    index: int
    path: str
    image: Path
    label: int
    rank: Rank
