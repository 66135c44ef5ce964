"""What a model said of each image, so that it is asked once: a log of its own."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

import msgspec

from lightning_app.errors import BadInputError
from lightning_app.files import OutsideError, json_as, naming, read_regular, write_atomic
from lightning_app.store.log import LogWriter, whole_lines
from lightning_app.store.study_log import Count

PREDICTIONS = "predictions-*.jsonl"

Answer = tuple[bool, int]
"""Whether the model got an image right, and the class that it predicted."""


class _Prediction(msgspec.Struct):
    path: str
    label: Count
    correct: bool
    predicted: Count


def copy_predictions(source: Path, target: Path) -> None:
    """Takes along what a model was asked; a file that can't be one is left behind.

    Raises:
        StorageError: If it can't be written.
    """
    for file in sorted(source.glob(PREDICTIONS)):
        with contextlib.suppress(OutsideError):
            data = read_regular(file, links=False)
            write_atomic(target / file.name, data)


class PredictionCache:
    """A growing file `predictions-KEY.jsonl`: a line an image, with path, label, correct and predicted.

    Args:
        folder: The study's folder; it is made with the first answer.
        identity: All that an answer depends on beside path and label; another identity is another file.

    Raises:
        BadInputError: If what has the file's name is something else.
    """

    def __init__(self, folder: Path, identity: dict[str, object]) -> None:
        key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]
        self.file = folder / PREDICTIONS.replace("*", key)
        self._known: dict[tuple[str, int], Answer] = {}
        self._size = self._torn = 0
        self._log: LogWriter | None = None
        if os.path.lexists(self.file):
            self._read()

    def get(self, path: str, label: int) -> Answer | None:
        """What the model said of the image, or None if it wasn't asked."""
        return self._known.get((path, label))

    def put(self, path: str, label: int, answer: Answer) -> None:
        """Adds an answer and writes it down; a power cut may take the last ones, which are asked again.

        Raises:
            StorageError: If it can't be written.
        """
        self._known[path, label] = answer
        if self._log is None:
            with naming(self.file):
                self.file.parent.mkdir(parents=True, exist_ok=True)
            self._log = LogWriter(self.file, self._size, self._torn, flush=False)
        self._log.append(msgspec.json.encode(_Prediction(path, label, *answer)) + b"\n")

    def close(self) -> None:
        """Writes no more."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _read(self) -> None:
        lines = 0
        try:
            for line in whole_lines(self.file):
                lines += 1
                found = json_as(_Prediction, line)
                self._known[found.path, found.label] = found.correct, found.predicted
                self._size += len(line)
            self._torn = self.file.lstat().st_size - self._size
        except (OSError, OutsideError) as error:
            where = f", line {lines}" if lines else ""
            raise BadInputError(
                f"--output_dir: {self.file}{where} can't be read: {error}. Without that file the model is asked again"
            ) from None
