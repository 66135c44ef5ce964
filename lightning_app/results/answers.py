"""Keeps what a model said of each image, so that it is asked once."""

import csv
import hashlib
import io
import json
from pathlib import Path

from lightning_app.csv_text import csv_text
from lightning_app.errors import StorageError

GLOB = "answers-*.csv"


class Answers:
    """A growing file `answers-KEY.csv` with columns path, label, correct.

    Args:
        folder: The study's folder; it is made with the first answer.
        identity: All that an answer depends on beside path and label; another identity is another file.
    """

    def __init__(self, folder: Path, identity: dict[str, object]) -> None:
        key = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:12]
        self.file = folder / GLOB.replace("*", key)
        self._known: dict[tuple[str, str], bool] = {}
        if self.file.is_file():
            self._read()

    def get(self, path: str, label: int) -> bool | None:
        """Whether the model got the image right, or None if it wasn't asked."""
        return self._known.get((path, str(label)))

    def put(self, path: str, label: int, correct: bool) -> None:
        """Adds an answer and writes it down.

        Raises:
            StorageError: If it can't be written.
        """
        self._known[path, str(label)] = correct
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            header = [] if self.file.exists() else [("path", "label", "correct")]
            with self.file.open("a", encoding="utf-8", newline="") as stream:
                stream.write(csv_text([*header, (path, label, int(correct))]))
        except OSError as error:
            raise StorageError(f"{self.file} can't be written: {error.strerror}") from None

    def _read(self) -> None:
        text = self.file.read_text(encoding="utf-8", errors="replace")
        whole = text[: text.rfind("\n") + 1]  # a line cut short by a power cut is no answer
        if whole != text:
            self.file.write_text(whole, encoding="utf-8", newline="")
        for cells in csv.reader(io.StringIO(whole, newline="")):
            if len(cells) == 3 and cells[2] in ("0", "1"):
                self._known[cells[0], cells[1]] = cells[2] == "1"
