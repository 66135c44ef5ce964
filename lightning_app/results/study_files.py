"""The files of a study's folder `output_dir/model_name`: what lies where, and reading it, also while a run writes."""

import contextlib
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lightning_app.errors import BadInputError
from lightning_app.inputs.model_list import name_in_pool
from lightning_app.outside import OutsideError, json_as, read_regular, refuse_links
from lightning_app.results.fingerprint import Fingerprint, read_fingerprint
from lightning_app.results.lock import LOCK
from lightning_app.results.records import (
    Row,
    Table,
    UnreadableTableError,
    index_of,
    path_of,
    read_table,
    step_log_name,
    table_text,
)
from lightning_app.results.workers import WORKERS
from lightning_app.whole_files import file_name

RESULTS = "single_example_results.csv"
STEP_LOGS = "step_logs"
PICTURE = "steps_vs_difficulty.png"
SUMMARY = "training_summary.json"
FINGERPRINT = "run.json"
CONFIG = "config.yaml"
TENSORBOARD = "tensorboard"
ELSEWHERE = "elsewhere.jsonl"
"""Where rows were made by workers of another environment, a line a row, until the study rests and `run.json` has it."""
WRITING = ".writing"
"""The name of each file while it is being written: a step log's own may be as long as a name can be."""


PLAN = "plan.json"
READ = (FINGERPRINT, RESULTS, ELSEWHERE, STEP_LOGS, CONFIG, SUMMARY)
"""What the analysis and `merge` read."""
OWN = (*READ, PICTURE, TENSORBOARD, PLAN, WRITING, LOCK, WORKERS)
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


@dataclass(frozen=True)
class _Counts:
    done: int
    sampled: int


@dataclass(frozen=True)
class _Summary:
    counts: _Counts


def is_complete(folder: Path) -> bool:
    """Whether a study is there with all of its examples."""
    try:
        counts = json_as(_Summary, read_regular(folder / SUMMARY, links=False)).counts
        return counts.done == counts.sampled
    except (OSError, ValueError):
        return False


def read_study(folder: Path) -> tuple[Fingerprint, Table] | None:
    """Reads what a study is and its table, also while a run writes to it.

    Returns:
        None where there is none, or one that was killed before it began.

    Raises:
        OSError: If a file can't be read.
        ValueError: If a file is not as it was written, naming it.
    """
    table_file, fingerprint_file = folder / RESULTS, folder / FINGERPRINT
    if not os.path.lexists(fingerprint_file):
        # A new study's table comes first: empty, it is what a run left that was killed right then.
        if os.path.lexists(table_file) and read_regular(table_file, links=False) != table_text([]).encode():
            raise ValueError(f"{RESULTS} is there, but {FINGERPRINT}, which says what its rows are, is not")
        return None
    if not os.path.lexists(table_file):
        raise ValueError(f"{FINGERPRINT} is there, but {RESULTS} is not")
    try:
        fingerprint = read_fingerprint(read_regular(fingerprint_file, links=False))
    except ValueError as error:
        raise ValueError(f"{FINGERPRINT} is not as it was written ({error})") from None
    fingerprint = fingerprint.with_rows_of(read_elsewhere(folder))
    try:
        return fingerprint, read_table(read_regular(table_file, links=False))
    except (OutsideError, UnreadableTableError) as error:
        raise ValueError(f"{RESULTS} {error}") from None


def step_log_of(folder: Path, row: Row) -> Path:
    """A row's step log; where a kill came in the middle of new numbers, it is under its path's name."""
    moving = folder / STEP_LOGS / name_on_the_move(path_of(row))
    return moving if moving.exists() else folder / STEP_LOGS / name_at_rest(row)


def sample_sha256(paths: Iterable[str]) -> str:
    """A digest of a sample's paths, easiest first."""
    return hashlib.sha256("\n".join(paths).encode()).hexdigest()


@dataclass(frozen=True)
class _Elsewhere:
    path: str
    environment: dict[str, object]


def read_elsewhere(folder: Path) -> list[tuple[dict[str, object], str]]:
    """Environments and paths of rows that were made elsewhere while the study doesn't rest; mostly none."""
    try:
        lines = read_regular(folder / ELSEWHERE, links=False).decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    made: list[tuple[dict[str, object], str]] = []
    for line in lines:
        with contextlib.suppress(OutsideError):  # a last line that was cut short: it has no row
            content = json_as(_Elsewhere, line)
            made.append((content.environment, content.path))
    return made


def name_at_rest(row: Row) -> str:
    """A step log's name, which bears the row's own number."""
    return step_log_name(index_of(row), path_of(row))


def name_on_the_move(path: str) -> str:
    """A step log's name while rows are numbered anew."""
    return f"moving_{hashlib.sha256(path.encode()).hexdigest()}.csv"
