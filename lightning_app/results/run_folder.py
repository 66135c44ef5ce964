"""A study's folder `output_dir/model_name`: made once, one commit an example, put to rest at the end."""

import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import cast

from lightning_app.csv_text import csv_text
from lightning_app.errors import BadInputError
from lightning_app.results import answers
from lightning_app.results.records import COLUMNS, Row, row_of, row_text, step_log_name, step_log_text
from lightning_app.training.trajectory import Failure, Trajectory

RESULTS = "single_example_results.csv"
STEP_LOGS = "step_logs"
PICTURE = "steps_vs_difficulty.png"
SUMMARY = "training_summary.json"
FINGERPRINT = "run.json"
CONFIG = "config.yaml"
TENSORBOARD = "tensorboard"


def folder_name(model_name: str) -> str:
    """A model's folder: its name with unusual characters as `_`; for `local-dir:` the resolved folder's own name.

    Raises:
        BadInputError: If nothing but dots is left.
    """
    name = model_name
    if name.startswith("local-dir:"):
        name = Path(name.removeprefix("local-dir:")).resolve().name
    name = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    if not name.strip("."):
        raise BadInputError(f"--model_name {model_name} gives no name for an output folder")
    return name


def is_complete(folder: Path) -> bool:
    """Whether a study is there with all of its examples."""
    try:
        counts = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["counts"]
        return bool(counts["done"] == counts["sampled"])
    except (OSError, ValueError, LookupError):
        return False


class RunFolder:
    """Where one study's results go.

    Nothing is written before `create`.

    Args:
        folder: The study's folder, there or not.
        overwrite: Whether a study that is there may be moved aside.

    Raises:
        BadInputError: If it holds a study and may not be overwritten, or can't be written.
    """

    def __init__(self, folder: Path, overwrite: bool) -> None:
        self.folder = folder
        if self.holds_a_study and not overwrite:
            raise BadInputError(
                f"{folder} holds a study already: --overwrite moves it aside and starts anew, --output_dir puts this"
                " one elsewhere"
            )
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise BadInputError(f"--output_dir: {folder} can't be written: {there} is no folder that may be written to")

    @property
    def holds_a_study(self) -> bool:
        """Whether a run has been here."""
        return any(os.path.lexists(self.folder / name) for name in (RESULTS, FINGERPRINT))

    def create(self) -> Path | None:
        """Makes the folder, moving aside a study that is there; what the model was asked is taken along.

        Returns:
            Where the old study went, or None.

        Raises:
            BadInputError: If the folder can't be made.
        """
        try:
            aside = self._move_aside() if self.holds_a_study else None
            (self.folder / STEP_LOGS).mkdir(parents=True, exist_ok=True)
            if aside is not None:
                for file in aside.glob(answers.GLOB):
                    shutil.copy2(file, self.folder)
            return aside
        except OSError as error:
            raise BadInputError(f"--output_dir: {self.folder} can't be written: {error.strerror}") from None

    def start(self, fingerprint: str, config: str) -> None:
        """Writes what the study is, and the empty table."""
        self.replace(CONFIG, config.encode())
        self.replace(FINGERPRINT, fingerprint.encode())
        self.replace(RESULTS, csv_text([COLUMNS]).encode())

    def commit(self, result: Trajectory | Failure, epsilon: float) -> Row:
        """Puts one finished example on disk: first its whole step log, then its row.

        Args:
            result: The example; a failure has no step log.
            epsilon: Of the study.

        Returns:
            The row.
        """
        if isinstance(result, Trajectory):
            self.replace(f"{STEP_LOGS}/{step_log_name(result.example)}", step_log_text(result.losses).encode())
        row = row_of(result, epsilon)
        with (self.folder / RESULTS).open("ab") as stream:
            stream.write(row_text(row).encode())
            stream.flush()
            os.fsync(stream.fileno())
        return row

    def withdraw(self) -> None:
        """Takes back a study that ended before its first example, so that the folder is free for the next."""
        if (self.folder / RESULTS).read_bytes() == csv_text([COLUMNS]).encode():
            for name in (RESULTS, FINGERPRINT, CONFIG):
                (self.folder / name).unlink()

    def rest(self, rows: list[Row]) -> None:
        """Sorts the table by example_index."""
        ordered = sorted(rows, key=lambda row: cast(int, row["example_index"]))
        self.replace(RESULTS, (csv_text([COLUMNS]) + "".join(map(row_text, ordered))).encode())

    def replace(self, name: str, data: bytes) -> None:
        """Writes a file whole or not at all: aside, flushed to the disk, renamed."""
        file = self.folder / name
        aside = file.with_name(".writing")
        with aside.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(file)

    def _move_aside(self) -> Path:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        aside = self.folder.with_name(f"{self.folder.name}.old-{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = self.folder.with_name(f"{self.folder.name}.old-{stamp}-{number}")
        self.folder.rename(aside)
        return aside


def json_text(content: object) -> str:
    """JSON with non-finite numbers as null."""
    return json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _finite(content: object) -> object:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and content - content != 0:
        return None
    return content
