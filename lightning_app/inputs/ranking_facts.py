"""What `rank` wrote beside a ranking of its own: which models made it, how reliable it is."""

import json
from pathlib import Path

from lightning_app.inputs.model_list import name_in_pool


def ranking_facts(file: Path, model_name: str, model_csv_name: str | None = None) -> dict[str, object] | None:
    """Reads it.

    Args:
        file: The ranking, as a table or in one line.
        model_name: The model that is studied.
        model_csv_name: Its name in the pool, where that is another.

    Returns:
        `models`, `model_is_in_it` (None where that can't be told), `reliability` and `ceiling`; None for a ranking of
        anybody else's.
    """
    try:
        content = json.loads(file.with_name(f"{file.stem.removesuffix('_line')}.json").read_text(encoding="utf-8"))
        models, without, found = content["models"], content["without"], content["reliability"]
        reliability, ceiling = found["reliability"], found["ceiling"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not (isinstance(models, list) and isinstance(without, list)):
        return None
    names = {name_in_pool(model_name)} if model_csv_name is None else {model_csv_name}
    # A pool may know the model under another name: only one that it has left out is known not to be in it.
    is_in_it = True if names & {*map(str, models)} else False if names & {*map(str, without)} else None
    return {"models": models, "model_is_in_it": is_in_it, "reliability": reliability, "ceiling": ceiling}
