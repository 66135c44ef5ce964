"""Studies for tests, made by the writer itself, without any training."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_app.data.example import Example
from lightning_app.data.stop_rule import Outcome, StopRule
from lightning_app.data.trajectory import Trajectory
from lightning_app.store.resume import ResumePlan, plan_resume
from lightning_app.store.study_folder import StudyFolder
from lightning_app.store.study_log import CommandLine, Shard, Target
from lightning_app.study.finalize import finalize

EPSILON = 0.5
ENVIRONMENT: dict[str, Any] = {"torch": "3"}
COMMAND = CommandLine(
    "model_name: tiny\n", {"model_name": "tiny", "seed": 0, "tensorboard_examples": 2}, {"ranked": 100}
)


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


def trained(of: Example, limit: int) -> Trajectory:
    """What training would give: every third example needs more than ten steps."""
    needed = 30 if of.rank % 3 == 0 else 4
    return trajectory(of, [0.4 if k == needed else 2.0 - k / needed for k in range(1, min(needed, limit) + 1)])


def sample_of(count: int) -> list[Example]:
    """Paths drawn in another order than that of their difficulty; some step logs' names differ by number alone."""
    paths = ["b/c", "b_c", "d", 'e,"\n', "a" * 300, "a/b", "a_b", "f", "g", "h"]
    ranks = [7, 3, 8, 1, 4, 9, 2, 10, 5, 6]
    drawn = sorted(zip(ranks[:count], paths[:count], strict=True))
    return [example(index, path, rank) for index, (rank, path) in enumerate(drawn)]


def study_of(folder: Path, sample: Sequence[Example], limit: int, shard: Shard | None = None) -> StudyFolder:
    """A whole study, or the rest of one, at rest."""
    study, plan = begun(folder, sample, limit, shard=shard)
    for one in plan.left:
        study.commit(trained(one, limit))
    finalize(study)
    return study


def exports(folder: Path) -> dict[str, bytes]:
    """All that is exported from a study, by name."""
    files = (
        "single_example_results.csv",
        "run.json",
        "config.yaml",
        "training_summary.json",
        "steps_vs_difficulty.png",
    )
    logs = {f"step_logs/{file.name}": file.read_bytes() for file in (folder / "step_logs").iterdir()}
    return logs | {name: (folder / name).read_bytes() for name in files if (folder / name).exists()}


def without_sizes(folder: Path) -> dict[str, object]:
    """What is exported, without the length of the log: one that was resumed is longer."""
    summary = json.loads((folder / "training_summary.json").read_text())
    del summary["timing"]["store_bytes"]
    return {**exports(folder), "training_summary.json": summary}
