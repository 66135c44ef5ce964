"""What a study's folder says of itself beside its table."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from lightning_app.results.fingerprint import Fingerprint
from lightning_app.results.records import Row
from lightning_app.results.resuming import gave_up_earlier
from lightning_app.results.run_folder import CONFIG, SUMMARY


@dataclass(frozen=True)
class Facts:
    """What a study's folder says beside its table; what it doesn't say is None or empty.

    Args:
        model_name: As it was given.
        select: Which examples were drawn.
        lr: Learning rate.
        root_dir: Where its images were.
        examples: In its sample.
        left: Of them, those still to be trained.
        easiest_part: Whether those that are done are the easiest ones.
        ranking_models: The models by which its ranking was made.
        in_its_ranking: Whether the model itself is one of them.
        ceiling: About the largest correlation that anything can have with its ranking.
        environments: What differs between those that the rows were made in, such as `torch 2.11.0 and 2.15.0`; mostly
            nothing.
    """

    model_name: str = ""
    select: str = ""
    lr: float | None = None
    root_dir: Path | None = None
    examples: int | None = None
    left: int = 0
    easiest_part: bool = False
    ranking_models: tuple[str, ...] = ()
    in_its_ranking: bool | None = None
    ceiling: float = math.nan
    environments: tuple[str, ...] = ()


def facts_of(folder: Path, fingerprint: Fingerprint, rows: Sequence[Row]) -> Facts:
    """Gathers what a study's folder says of itself.

    Args:
        folder: The study's.
        fingerprint: Its `run.json`.
        rows: Of its sample, in the order of their numbers.
    """
    settings, summary = _mapping(folder / CONFIG, yaml.safe_load), _mapping(folder / SUMMARY, json.loads)
    ranking = summary.get("ranking")
    ranking = ranking if isinstance(ranking, dict) else {}
    goal, optimizer = fingerprint.goal, fingerprint.identity.get("optimizer")
    left = goal.examples - sum(not gave_up_earlier(row, goal.max_steps_per_example) for row in rows)
    root_dir, ceiling = settings.get("root_dir"), ranking.get("ceiling")
    return Facts(
        model_name=str(settings.get("model_name", "")),
        select=str(fingerprint.identity.get("select", "")),
        lr=optimizer.get("lr") if isinstance(optimizer, dict) else None,
        root_dir=Path(str(root_dir)) if root_dir else None,
        examples=goal.examples,
        left=max(0, left),
        easiest_part=len(rows) < goal.examples and [row["example_index"] for row in rows] == list(range(len(rows))),
        ranking_models=tuple(ranking.get("models", ())),
        in_its_ranking=ranking.get("model_is_in_it"),
        ceiling=ceiling if isinstance(ceiling, float) else math.nan,
        environments=_differences([stretch.environment for stretch in fingerprint.stretches]),
    )


def _differences(environments: Sequence[dict[str, object]]) -> tuple[str, ...]:
    keys = dict.fromkeys(key for environment in environments for key in environment)
    values = {key: dict.fromkeys(str(environment.get(key)) for environment in environments) for key in keys}
    return tuple(f"{key} {' and '.join(found)}" for key, found in values.items() if len(found) > 1)


def _mapping(file: Path, load: Callable[[str], object]) -> dict[str, object]:
    """A file that only adds to what is known: where it can't be read, nothing."""
    try:
        content = load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
