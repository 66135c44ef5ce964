"""What a step and an outcome are: pure functions of the losses, called by every engine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lightning_app.data.example import Example

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


@dataclass(frozen=True)
class Trajectory:
    """One example's training, finished.

    Args:
        example: What was trained on.
        outcome: How it ended.
        losses: Loss of each step from before its update, shape (steps_run,).
        predicted_before: The class the pretrained model predicts.
        steps_to_correct: First step at which the label's logit is above every other, or -1.
        weight_distance: Euclidean distance of all parameters from the pretrained ones after the last update; NaN when
            diverged.
        seconds: Wall time.
        environment: Where it was trained, if that is another environment than the study's.
    """

    example: Example
    outcome: Outcome
    losses: Sequence[float]
    predicted_before: int
    steps_to_correct: int
    weight_distance: float
    seconds: float
    environment: Mapping[str, object] | None = None

    @property
    def total_steps_to_epsilon(self) -> int:
        """The count of the study: steps to reach epsilon, or -1."""
        return len(self.losses) if self.outcome == "reached" else NEVER


@dataclass(frozen=True)
class Failure:
    """An example that could not be trained; its outcome is `error`.

    Args:
        example: Which.
        reason: Why, for the log.
    """

    example: Example
    reason: str
    outcome: Outcome = "error"
