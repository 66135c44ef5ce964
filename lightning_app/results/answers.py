"""Keeps what a model said of each image, so that it is asked once."""

import contextlib
import csv
import hashlib
import io
import json
from pathlib import Path

from lightning_app.csv_text import csv_text
from lightning_app.whole_files import naming, write_whole

GLOB = "answers-*.csv"
COLUMNS = ("path", "label", "correct")


class Answers:
    """A growing file `answers-KEY.csv` with columns path, label, correct.

    Args:
        folder: The study's folder; it is made with the first answer.
        identity: All that an answer depends on beside path and label; another identity is another file.

    Raises:
        StorageError: If what a power cut left can't be put right.
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
        header = [] if self.file.exists() else [COLUMNS]
        with naming(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as stream:
                stream.write(csv_text([*header, (path, label, int(correct))]).encode())

    def _read(self) -> None:
        data = self.file.read_bytes()
        text = data.decode("utf-8", errors="replace")
        # A line cut short by a power cut is no answer.
        with contextlib.suppress(csv.Error):
            for cells in csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline="")):
                if len(cells) == 3 and cells[2] in ("0", "1"):
                    self._known[cells[0], cells[1]] = cells[2] == "1"
        whole = csv_text([COLUMNS, *((*key, int(correct)) for key, correct in self._known.items())]).encode()
        if whole != data:  # so that the next answer starts on a line of its own
            write_whole(self.file, whole)
