"""What happened to an example: its losses, and how it ended."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import NEVER, Outcome


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


Result = Trajectory | Failure
"""What comes of an example."""
