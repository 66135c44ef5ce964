"""When an example is done, and how it ended: pure functions of the losses, called by every engine."""

import math
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["reached", "censored", "diverged", "error"]

NEVER = -1
"""A count of steps that was never reached."""

THRESHOLDS: dict[str, float] = {"ln2": math.log(2), **{f"1e-{n}": float(f"1e-{n}") for n in range(1, 7)}}
"""The ladder of loss thresholds, recorded in one pass. Below ln 2 the label has the largest share."""


@dataclass(frozen=True)
class StopRule:
    """When an example is done.

    Args:
        epsilon: Loss to reach; compared in float64.
        max_steps: Steps after which the example is given up.
    """

    epsilon: float
    max_steps: int

    def outcome_at(self, step: int, loss: float) -> Outcome | None:
        """Decides after a step.

        Args:
            step: From 1.
            loss: That step's loss, from before its update: a float32 widened to float64.

        Returns:
            The first that holds of diverged (loss not finite), reached (loss <= epsilon), censored (the last step), or
            None: go on.
        """
        if not math.isfinite(loss):
            return "diverged"
        if loss <= self.epsilon:
            return "reached"
        return "censored" if step >= self.max_steps else None
