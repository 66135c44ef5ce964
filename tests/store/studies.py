"""Studies for tests, made by the writer itself, without any training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_app.inputs.example import Example
from lightning_app.store.resume import ResumePlan, plan_resume
from lightning_app.store.study import CommandLine, Shard, Target
from lightning_app.store.writer import StudyFolder
from lightning_app.training.trajectory import Outcome, StopRule, Trajectory

EPSILON = 0.5
ENVIRONMENT: dict[str, Any] = {"torch": "3"}
COMMAND = CommandLine("model_name: tiny\n", {"model_name": "tiny"}, {"ranked": 100})


def example(index: int, path: str = "", rank: float | None = None) -> Example:
    """An example by its number."""
    path = path or f"{index}.jpg"
    return Example(index, path, Path(path), 0, index + 1 if rank is None else rank)


def trajectory(of: Example, losses: Sequence[float], seconds: float = 2.0, epsilon: float = EPSILON) -> Trajectory:
    """Its training, ended as the losses say; they are rounded to float32, as losses are."""
    import numpy as np

    rounded = np.asarray(losses, dtype=np.float32).astype(float).tolist()
    outcome: Outcome = StopRule(epsilon, len(rounded)).outcome_at(len(rounded), rounded[-1]) or "censored"
    return Trajectory(of, outcome, rounded, 1, 2, 0.1, seconds)


def begun(
    folder: Path,
    sample: Sequence[Example],
    limit: int = 100,
    *,
    epsilon: float = EPSILON,
    environment: dict[str, Any] = ENVIRONMENT,
    command: CommandLine = COMMAND,
    identity: dict[str, Any] | None = None,
    shard: Shard | None = None,
) -> tuple[StudyFolder, ResumePlan]:
    """A study that is begun, or resumed, for this sample; nothing is locked."""
    folder.mkdir(parents=True, exist_ok=True)
    study = StudyFolder(folder)
    found = study.find()
    plan = plan_resume(sample, found, limit)
    target = Target(limit, tuple((each.rank, each.path) for each in plan.examples), shard)
    study.begin(found, {"epsilon": epsilon, **(identity or {})}, environment, target, command, plan.coming)
    return study, plan
