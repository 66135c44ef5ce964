"""What a study's folder says of itself beside its table."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_app.inputs.ranking_facts import ranking_facts
from lightning_app.outside import OutsideError, json_as, read_regular, yaml_as
from lightning_app.results.fingerprint import Fingerprint
from lightning_app.results.records import Row
from lightning_app.results.resuming import gave_up_earlier
from lightning_app.results.study_files import CONFIG, SUMMARY

Content = dict[str, object]


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
        in_its_ranking: Whether the model itself is one of those that made its ranking.
        reliability: Of the ranking.
        ceiling: About the largest correlation that anything can have with it.
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
    in_its_ranking: bool | None = None
    reliability: float = math.nan
    ceiling: float = math.nan
    environments: tuple[str, ...] = ()


def facts_of(folder: Path, fingerprint: Fingerprint, rows: Sequence[Row]) -> Facts:
    """Gathers what a study's folder says of itself.

    Args:
        folder: The study's.
        fingerprint: Its `run.json`.
        rows: Of its sample, in the order of their numbers.
    """
    settings = _mapping(folder / CONFIG, yaml_as)
    model_name, root_dir, ranking_csv = (settings.get(name) for name in ("model_name", "root_dir", "examples_csv"))
    ranking = _mapping(folder / SUMMARY, json_as).get("ranking")
    if ranking is None and isinstance(ranking_csv, str):  # a first run has no summary yet
        ranking = ranking_facts(Path(ranking_csv), str(model_name))
    ranking = ranking if isinstance(ranking, dict) else {}
    goal, optimizer = fingerprint.goal, fingerprint.identity.get("optimizer")
    left = goal.examples - sum(not gave_up_earlier(row, goal.max_steps_per_example) for row in rows)
    in_it, lr = ranking.get("model_is_in_it"), optimizer.get("lr") if isinstance(optimizer, dict) else None
    return Facts(
        model_name=str(model_name or ""),
        select=str(fingerprint.identity.get("select", "")),
        lr=lr if isinstance(lr, int | float) else None,
        root_dir=Path(root_dir) if isinstance(root_dir, str) else None,
        examples=goal.examples,
        left=max(0, left),
        easiest_part=len(rows) < goal.examples and [row["example_index"] for row in rows] == list(range(len(rows))),
        in_its_ranking=in_it if isinstance(in_it, bool) else None,
        reliability=_number(ranking.get("reliability")),
        ceiling=_number(ranking.get("ceiling")),
        environments=_differences([stretch.environment for stretch in fingerprint.stretches]),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _differences(environments: Sequence[dict[str, object]]) -> tuple[str, ...]:
    keys = dict.fromkeys(key for environment in environments for key in environment)
    values = {key: dict.fromkeys(str(environment.get(key)) for environment in environments) for key in keys}
    return tuple(f"{key} {' and '.join(found)}" for key, found in values.items() if len(found) > 1)


def _mapping(file: Path, read_as: Callable[[type[Content], bytes], Content]) -> Content:
    """A file that only adds to what is known: where it can't be read, nothing."""
    try:
        return read_as(dict[str, object], read_regular(file, links=False))
    except (OSError, OutsideError):
        return {}
