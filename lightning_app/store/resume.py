"""What a study that is there holds of what is asked for, and what is left to train: pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lightning_app.data.example import Example, Rank
from lightning_app.store.study_log import StoredStudy, gave_up_earlier, places_by_difficulty


@dataclass(frozen=True)
class ResumePlan:
    """A sample against the study that is there.

    Args:
        examples: The sample, easiest first, with the numbers that it has beside the examples below.
        done: Paths of the sample that need no training.
        to_retrain: Paths of the sample whose rows stay until they are trained again, with more steps.
        errors: Paths of the sample that were an `error` and are trained again.
        out_of_sample: Paths of what is there and not in the sample.
    """

    examples: list[Example]
    done: frozenset[str]
    to_retrain: frozenset[str]
    errors: tuple[str, ...]
    out_of_sample: tuple[str, ...]

    @property
    def coming(self) -> frozenset[str]:
        """Paths of what is there and is trained again."""
        return self.to_retrain | {*self.errors}

    @property
    def left(self) -> list[Example]:
        """What is to be trained, easiest first."""
        return [example for example in self.examples if example.path not in self.done]


def plan_resume(sample: Sequence[Example], existing: StoredStudy | None, max_steps: int) -> ResumePlan:
    """Compares a sample with the study that is there.

    Args:
        sample: Easiest first.
        existing: The study that is there, or None.
        max_steps: Steps after which an example is given up now; none has taken more.
    """
    there = {} if existing is None else {path: stored.line for path, stored in existing.examples.items()}
    sampled = {example.path for example in sample}
    errors = {path for path in sampled & there.keys() if there[path].outcome == "error"}
    to_retrain = {path for path in sampled & there.keys() if gave_up_earlier(there[path], max_steps)}
    ranks: dict[str, Rank] = {path: line.rank for path, line in there.items()}
    places = places_by_difficulty(ranks | {example.path: example.rank for example in sample})
    return ResumePlan(
        examples=[replace(example, index=places[example.path]) for example in sample],
        done=frozenset((sampled & there.keys()) - errors - to_retrain),
        to_retrain=frozenset(to_retrain),
        errors=tuple(path for path in there if path in errors),
        out_of_sample=tuple(path for path in there if path not in sampled),
    )
