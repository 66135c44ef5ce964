"""What a study's folder says of itself beside its table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_app.store.study import Content, StoredStudy


@dataclass(frozen=True)
class Metadata:
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


def metadata_of(study: StoredStudy) -> Metadata:
    """Gathers what a study says of itself beside its rows."""
    settings, ranking = study.command.settings, study.command.ranking or {}
    model_name, root_dir = settings.get("model_name"), settings.get("root_dir")
    optimizer, in_it = study.identity.get("optimizer"), ranking.get("model_is_in_it")
    lr = optimizer.get("lr") if isinstance(optimizer, dict) else None
    done = [path in study.examples for _, path in study.target.examples]  # easiest first
    return Metadata(
        model_name=str(model_name or ""),
        select=str(study.identity.get("select", "")),
        lr=lr if isinstance(lr, int | float) else None,
        root_dir=Path(root_dir) if isinstance(root_dir, str) else None,
        examples=len(done),
        left=study.left,
        easiest_part=not all(done) and done == sorted(done, reverse=True),
        in_its_ranking=in_it if isinstance(in_it, bool) else None,
        reliability=_number(ranking.get("reliability")),
        ceiling=_number(ranking.get("ceiling")),
        environments=_differences(study.environments_in_use),
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _differences(environments: Sequence[Content]) -> tuple[str, ...]:
    keys = dict.fromkeys(key for environment in environments for key in environment)
    values = {key: dict.fromkeys(str(environment.get(key)) for environment in environments) for key in keys}
    return tuple(f"{key} {' and '.join(found)}" for key, found in values.items() if len(found) > 1)
