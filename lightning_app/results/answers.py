"""Keeps what a model said of each image, so that it is asked once."""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
from pathlib import Path

from lightning_app.csv_text import csv_text
from lightning_app.errors import BadInputError
from lightning_app.outside import OutsideError, read_regular
from lightning_app.whole_files import naming, write_whole

GLOB = "answers-*.csv"
COLUMNS = ("path", "label", "correct", "predicted")

CLASS = re.compile(r"\d{1,9}")

Answer = tuple[bool, int]
"""Whether the model got an image right, and the class that it predicted."""


def copy_answers(source: Path, target: Path) -> None:
    """Takes along what a model was asked; a file that can't be one is left behind.

    Raises:
        StorageError: If it can't be written.
    """
    for file in sorted(source.glob(GLOB)):
        with contextlib.suppress(OutsideError):
            data = read_regular(file, links=False)
            write_whole(target / file.name, data)


class Answers:
    """A growing file `answers-KEY.csv` with columns path, label, correct, predicted.

    Args:
        folder: The study's folder; it is made with the first answer.
        identity: All that an answer depends on beside path and label; another identity is another file.

    Raises:
        BadInputError: If what has the file's name is something else.
        StorageError: If what a power cut left can't be put right.
    """

    def __init__(self, folder: Path, identity: dict[str, object]) -> None:
        key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]
        self.file = folder / GLOB.replace("*", key)
        self._known: dict[tuple[str, str], Answer] = {}
        if os.path.lexists(self.file):
            self._read()

    def get(self, path: str, label: int) -> Answer | None:
        """What the model said of the image, or None if it wasn't asked."""
        return self._known.get((path, str(label)))

    def put(self, path: str, label: int, answer: Answer) -> None:
        """Adds an answer and writes it down.

        Raises:
            StorageError: If it can't be written.
        """
        self._known[path, str(label)] = correct, predicted = answer
        header = [] if self.file.exists() else [COLUMNS]
        with naming(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as stream:
                stream.write(csv_text([*header, (path, label, int(correct), predicted)]).encode())

    def _read(self) -> None:
        try:
            data = read_regular(self.file, links=False)
        except (OSError, OutsideError) as error:
            raise BadInputError(f"--output_dir: {self.file} can't be read: {error}") from None
        text = data.decode("utf-8", errors="replace")
        # A line cut short by a power cut is no answer.
        with contextlib.suppress(csv.Error):
            for cells in csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")):
                if len(cells) == len(COLUMNS) and cells[2] in ("0", "1") and CLASS.fullmatch(cells[3]):
                    self._known[cells[0], cells[1]] = cells[2] == "1", int(cells[3])
        answers = ((*key, int(correct), predicted) for key, (correct, predicted) in self._known.items())
        whole = csv_text([COLUMNS, *answers]).encode()
        if whole != data:  # so that the next answer starts on a line of its own
            write_whole(self.file, whole)
