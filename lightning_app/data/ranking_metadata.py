"""What `rank` wrote beside a ranking of its own: which models made it, how reliable it is."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lightning_app.data.model_names import name_in_pool
from lightning_app.files import json_as, read_regular


@dataclass(frozen=True)
class _Reliability:
    reliability: float | None
    ceiling: float | None


@dataclass(frozen=True)
class _Content:
    models: list[str]
    without: list[str]
    reliability: _Reliability
    sha256: list[str]


def read_ranking_metadata(file: Path, model_name: str, model_csv_name: str | None = None) -> dict[str, object] | None:
    """Reads it.

    Args:
        file: The ranking, as a table or in one line.
        model_name: The model that is studied.
        model_csv_name: Its name in the pool, where that is another.

    Returns:
        `models`, `model_is_in_it` (None where that can't be told), `reliability` and `ceiling`; None for a ranking of
        anybody else's, and where what lies beside is of another ranking than this one: `rank` was ended in between.
    """
    try:
        content = json_as(_Content, read_regular(file.with_name(f"{file.stem.removesuffix('_line')}.json")))
        if hashlib.sha256(read_regular(file)).hexdigest() not in content.sha256:
            return None
    except (OSError, ValueError):
        return None
    names = {name_in_pool(model_name)} if model_csv_name is None else {model_csv_name}
    # A pool may know the model under another name: only one that it has left out is known not to be in it.
    is_in_it = True if names & {*content.models} else False if names & {*content.without} else None
    found = content.reliability
    return {
        "models": content.models, "model_is_in_it": is_in_it, "reliability": found.reliability, "ceiling": found.ceiling
    }  # fmt: skip
