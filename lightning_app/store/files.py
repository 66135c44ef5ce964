"""The files of a study's folder `output_dir/model_name`: what lies where."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_app.data.model_names import name_in_pool
from lightning_app.errors import BadInputError
from lightning_app.files import OutsideError, file_name, json_as, read_regular, refuse_links
from lightning_app.store.lock import LOCK
from lightning_app.store.study_log import STORE

RESULTS = "single_example_results.csv"
STEP_LOGS = "step_logs"
PICTURE = "steps_vs_difficulty.png"
SUMMARY = "training_summary.json"
FINGERPRINT = "run.json"
CONFIG = "config.yaml"
TENSORBOARD = "tensorboard"
PLAN = "plan.json"
WORKERS = "workers.json"
"""There only while several workers train."""
READ = (RESULTS, STEP_LOGS)
"""What the analysis reads where there is no store."""
OWN = (STORE, *READ, FINGERPRINT, CONFIG, SUMMARY, PICTURE, TENSORBOARD, PLAN, LOCK, WORKERS, f".{STORE}.writing")
"""All that a study's commands write, but for logs and what the model was asked."""


def require_no_links(folder: Path, names: Iterable[str], where: str = "") -> None:
    """Refuses a study in which something of its own is a link: it may be somebody else's, and lead anywhere.

    Args:
        folder: The study's.
        names: Those that are to be read, or written.
        where: What named it, for the message.

    Raises:
        BadInputError: Naming the link.
    """
    try:
        refuse_links(folder, names)
    except OutsideError as error:
        raise BadInputError(f"{where}{error}: what belongs to a study must lie in its folder") from None


def folder_name(model_name: str, part: tuple[int, int] | None = None) -> str:
    """A model's folder: its name with unusual characters as `_`; for `local-dir:` the resolved folder's own name.

    Args:
        model_name: The model's.
        part: The number of a shard and how many there are: its folder lies beside that of the whole.

    Raises:
        BadInputError: If nothing but dots is left.
    """
    name = file_name(name_in_pool(model_name))
    if not name.strip("."):
        raise BadInputError(f"--model_name {model_name} gives no name for an output folder")
    return name if part is None else f"{name}_shard_{part[0]}_of_{part[1]}"


def left_without_store(folder: Path) -> str | None:
    """What an earlier version left, a study without a store, as far as it says so; None where there is none."""
    if not any(os.path.lexists(folder / name) for name in (RESULTS, FINGERPRINT)):
        return None
    if os.path.lexists(folder / STORE):
        return f"a table beside a {STORE} that holds no study"
    version = "an earlier version"
    with contextlib.suppress(OSError, OutsideError, LookupError, TypeError):
        content = json_as(dict[str, Any], read_regular(folder / FINGERPRINT, links=False))
        version = f"steps-to-epsilon {content['stretches'][-1]['environment']['steps-to-epsilon']!s:.40}"
    return f"a study of {version}, without {STORE}"


def sample_sha256(paths: Iterable[str]) -> str:
    """A digest of a sample's paths, easiest first."""
    return hashlib.sha256("\n".join(paths).encode()).hexdigest()
