"""Loss curves, thinned to what a small logarithmic plot can show."""

import math
from collections.abc import Sequence

import numpy as np

from lightning_app.store.export import Losses

WHOLE = 10
"""The first steps are all kept."""
MAX_POINTS = 60

ThinnedCurve = list[object]
"""The number of steps, and the losses at the grid's steps before the last one and at the last one."""


def kept_steps(limit: int) -> list[int]:
    """The steps at which the curves of a study are kept, besides their last one.

    One grid for a whole study, so that its curves are losses alone.

    Args:
        limit: The most steps an example was given.
    """
    first = range(1, min(WHOLE, limit) + 1)
    spread = np.geomspace(WHOLE, max(limit, WHOLE), MAX_POINTS - WHOLE)
    return sorted({*first, *(int(step) for step in np.rint(spread) if step <= limit)})


def thinned(losses: Losses, steps: Sequence[int]) -> ThinnedCurve | None:
    """A curve at the kept steps and at its end, with four significant digits; None where it has no steps.

    Args:
        losses: The loss of every step.
        steps: The grid, ascending.
    """
    length = len(losses)
    if length == 0:
        return None
    kept = [_rounded(losses[step - 1]) for step in steps if step < length]
    return [length, [*kept, _rounded(losses[length - 1])]]


def _rounded(loss: float) -> float | None:
    return float(f"{loss:.4g}") if math.isfinite(loss) else None
