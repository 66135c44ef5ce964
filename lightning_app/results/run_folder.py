"""A study's folder `output_dir/model_name`: one writer, one commit an example, put to rest at the end.

Whatever ends the process, and wherever, each file is whole but for the last row of the table, and the next run goes on.
A row's step log is in place before the row is written, and bears the row's own number; while rows are numbered anew it
may stand under a name made of its path alone instead.
"""

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from lightning_app.errors import BadInputError, StorageError
from lightning_app.outside import read_regular
from lightning_app.results.answers import GLOB, copy_answers
from lightning_app.results.fingerprint import Fingerprint
from lightning_app.results.lock import LOCK, WriterLock
from lightning_app.results.records import (
    Row,
    path_of,
    read_step_log,
    row_of,
    row_text,
    step_log_text,
    steps_of,
    table_text,
)
from lightning_app.results.resuming import in_number_order
from lightning_app.results.study_files import (
    CONFIG,
    ELSEWHERE,
    FINGERPRINT,
    OWN,
    RESULTS,
    STEP_LOGS,
    WRITING,
    name_at_rest,
    name_on_the_move,
    read_elsewhere,
    read_study,
    require_no_links,
    step_log_of,
)
from lightning_app.training.trajectory import Failure, Trajectory
from lightning_app.whole_files import flush_folder, naming, write_whole

log = logging.getLogger("lightning_app")

STEP_LOG = re.compile(r"(example_\d+_.*_steps|moving_[0-9a-f]{64})\.csv", re.DOTALL)


@dataclass(frozen=True)
class Found:
    """A study that is there.

    Args:
        fingerprint: What it is.
        rows: Its whole rows, in the order of the table.
        torn: What a power cut left of the last row, mostly nothing.
        logged: Paths of the rows whose step log is there.
    """

    fingerprint: Fingerprint
    rows: list[Row]
    torn: bytes
    logged: frozenset[str]


class RunFolder:
    """Where one study's results go.

    Nothing is written before `locked`.

    Args:
        folder: The study's folder, there or not.

    Raises:
        BadInputError: If it can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, Row] = {}
        self._lock: WriterLock | None = None
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            raise BadInputError(f"--output_dir: {folder} can't be written: {there} is no folder that may be written to")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and holds it for this process alone; if nothing was put into it, it goes again.

        Raises:
            BadInputError: If another process holds it, or it can't be made.
        """
        made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        self._make()
        self._lock = WriterLock(self.folder)
        try:
            require_no_links(self.folder, (*OWN, *(file.name for file in self.folder.glob(GLOB))), "--output_dir: ")
            yield
        finally:
            self._lock.release()
            self._lock = None
            with contextlib.suppress(OSError):  # the first that is not empty ends it
                for path in made:
                    path.rmdir()

    def find(self) -> Found | None:
        """The study that is there, or None.

        Raises:
            BadInputError: If what is there is no study that a run could have left.
        """
        try:
            study = read_study(self.folder)
            if study is None:
                return None
            if not (self.folder / STEP_LOGS).is_dir():
                raise ValueError(f"{STEP_LOGS}, the folder of the step logs, is not there")
            names = frozenset(os.listdir(self.folder / STEP_LOGS))
        except (OSError, ValueError) as error:
            raise BadInputError(
                f"--output_dir: {self.folder} holds a study that can't be read: {error}. Once that is mended, the same"
                " command goes on; --overwrite moves the study aside and starts anew"
            ) from None
        fingerprint, table = study
        logged = frozenset(
            path_of(row) for row in table.rows if names & {name_at_rest(row), name_on_the_move(path_of(row))}
        )
        return Found(fingerprint, table.rows, table.torn, logged)

    def move_aside(self) -> Path | None:
        """Moves a study that is there to another name; what the model was asked is taken along.

        Returns:
            Where it went, or None if there was none.

        Raises:
            BadInputError: If it can't be moved.
        """
        if not any(os.path.lexists(self.folder / name) for name in (RESULTS, FINGERPRINT)):
            return None
        aside = self._aside(self.folder)
        try:
            self.folder.rename(aside)
        except OSError:  # a mount point, or a folder above that can't be written: its content can still be moved
            return self._move_content_aside()
        try:
            self._make()
            old_lock, self._lock = self._lock, WriterLock(self.folder)
            if old_lock is not None:
                old_lock.file = aside / old_lock.file.name
                old_lock.release()
            copy_answers(aside, self.folder)
            return aside
        except OSError as error:
            raise BadInputError(f"--output_dir: {self.folder} can't be moved aside: {error.strerror}") from None

    def _move_content_aside(self) -> Path:
        """Moves what is in the folder into a new folder in it; what was moved aside before stays where it is."""
        aside = self._aside(self.folder / "study")
        entries = [e for e in self.folder.iterdir() if e.name != LOCK and not e.name.startswith("study.old-")]
        moved: list[Path] = []
        try:
            aside.mkdir()
            # What says that there is a study goes last.
            for entry in sorted(entries, key=lambda entry: (entry.name in (RESULTS, FINGERPRINT), entry.name)):
                entry.rename(aside / entry.name)
                moved.append(entry)
            copy_answers(aside, self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                for entry in reversed(moved):
                    (aside / entry.name).rename(entry)
                aside.rmdir()
            raise BadInputError(
                f"--output_dir: {self.folder} can't be moved aside, nor can what is in it: {error.strerror}"
            ) from None
        return aside

    def start(self, fingerprint: Fingerprint, config: str, found: Sequence[Row], rows: Sequence[Row]) -> None:
        """Writes what the study is, and the table that it begins with.

        Args:
            fingerprint: For `run.json`.
            config: For `config.yaml`.
            found: The rows that are there, as `find` gave them.
            rows: Those of them that stay, with their new numbers.

        Raises:
            StorageError: If it can't be written.
        """
        self.rows = {path_of(row): row for row in rows}
        self._records = {path: row_text(row).encode() for path, row in self.rows.items()}
        self.fingerprint = fingerprint
        with naming(self.folder / STEP_LOGS):
            (self.folder / STEP_LOGS).mkdir(exist_ok=True)
        self._number_anew({path_of(row): row for row in found if path_of(row) in self.rows})
        self.replace(CONFIG, config.encode())
        self.replace(FINGERPRINT, fingerprint.text().encode())
        (self.folder / ELSEWHERE).unlink(missing_ok=True)  # `find` has read it, and it is in run.json now

    def _number_anew(self, found: Mapping[str, Row]) -> None:
        """Gives rows and step logs their new numbers; a run that is killed in the middle leaves what `find` can read.

        First the logs whose names change get names made of their paths, then the rows change all at once, then the logs
        get their new names. So a log is at any moment under its row's own number, or under its path's name.
        """
        logs = self.folder / STEP_LOGS
        with naming(logs):
            names = frozenset(os.listdir(logs))
            on_the_move = [  # an `error` has no log
                path
                for path, row in self.rows.items()
                if name_on_the_move(path) in names or (found[path] != row and name_at_rest(found[path]) in names)
            ]
            for path in on_the_move:
                if name_on_the_move(path) not in names:
                    (logs / name_at_rest(found[path])).replace(logs / name_on_the_move(path))
            flush_folder(logs)
        self._replace_table()
        with naming(logs):
            for path in on_the_move:
                (logs / name_on_the_move(path)).replace(logs / name_at_rest(self.rows[path]))
            (logs / WRITING).unlink(missing_ok=True)
            owned = {name_at_rest(row) for row in self.rows.values()}
            self._tidy([name for name in os.listdir(logs) if STEP_LOG.fullmatch(name) and name not in owned])
            flush_folder(logs)

    def _tidy(self, unowned: Sequence[str]) -> None:
        """Takes away the log of the example whose row was never written; a kill leaves one, more are set aside."""
        logs = self.folder / STEP_LOGS
        if len(unowned) < 2:
            for name in unowned:
                (logs / name).unlink()
            return
        aside = self._aside(logs)
        aside.mkdir()
        for name in unowned:
            (logs / name).replace(aside / name)
        log.warning("%d step logs belong to no row of the table; they are now in %s", len(unowned), aside)

    def commit(self, result: Trajectory | Failure, epsilon: float) -> Row:
        """Puts one finished example on disk: first its whole step log, then its row.

        Args:
            result: The example; a failure has no step log.
            epsilon: Of the study.

        Returns:
            The row. Where training an example again has failed, that is the row that was there.

        Raises:
            StorageError: If it can't be written; the table is as it was before.
        """
        row = row_of(result, epsilon)
        path = path_of(row)
        if isinstance(result, Failure) and path in self.rows:
            return self.rows[path]
        limit = self.fingerprint.goal.max_steps_per_example
        if self.fingerprint.trained_for < limit:
            self._change(replace(self.fingerprint, trained_for=limit))
        if isinstance(result, Trajectory) and result.environment is not None:
            self._note_elsewhere(path, result.environment)
        if isinstance(result, Trajectory):
            self.replace(f"{STEP_LOGS}/{name_at_rest(row)}", step_log_text(result.losses).encode())
        if path in self.rows:
            if (fingerprint := self.fingerprint.without(path)) != self.fingerprint:
                self._change(fingerprint)
            del self.rows[path]
            self.rows[path] = row
            self._records[path] = row_text(row).encode()
            self._replace_table()
        else:
            self._records[path] = row_text(row).encode()
            self._append(RESULTS, self._records[path])  # without O_CREAT: a table that is gone stays gone
            self.rows[path] = row
        return row

    def _change(self, fingerprint: Fingerprint) -> None:
        self.replace(FINGERPRINT, fingerprint.text().encode())
        self.fingerprint = fingerprint

    def _note_elsewhere(self, path: str, environment: Mapping[str, object]) -> None:
        """Puts on disk where a row is from, before the row: `run.json` is too large to be written for each."""
        line = json.dumps({"path": path, "environment": environment}, ensure_ascii=False)
        self._append(ELSEWHERE, f"{line}\n".encode(), os.O_CREAT)

    def _append(self, name: str, record: bytes, flags: int = 0) -> None:
        file = self.folder / name
        self._require_lock()
        with naming(file):
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | flags, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                try:
                    while record:  # once, but on a full disk
                        record = record[os.write(descriptor, record) :]
                    os.fsync(descriptor)
                except OSError:
                    os.ftruncate(descriptor, size)
                    raise
            finally:
                os.close(descriptor)

    def losses_of(self, row: Row) -> list[float]:
        """Reads a row's step log.

        Raises:
            OSError: If it isn't there.
            ValueError: If it is no step log.
        """
        losses = read_step_log(read_regular(step_log_of(self.folder, row), links=False))
        return losses[: steps_of(row)]  # a kill may have left more, of the same training with more steps

    def step_log_size(self, row: Row) -> int:
        """Bytes of a row's step log.

        Raises:
            OSError: If it isn't there.
        """
        return step_log_of(self.folder, row).stat().st_size

    def put_step_log(self, row: Row, data: bytes) -> None:
        """Writes the step log of a row that `start` will be given; what was there before a study began is no loss.

        Raises:
            StorageError: If it can't be written.
        """
        file = self.folder / STEP_LOGS / name_at_rest(row)
        with naming(file):
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(data)

    def withdraw(self) -> None:
        """Takes back a study that ended before its first example, so that the folder is free for the next."""
        if not self.rows:
            for name in (FINGERPRINT, CONFIG, RESULTS):
                (self.folder / name).unlink(missing_ok=True)

    def rest(self) -> None:
        """Sorts the table by example_index.

        Raises:
            StorageError: If it can't be written.
        """
        self.rows = {path_of(row): row for row in in_number_order(self.rows.values())}
        self._replace_table()
        if elsewhere := read_elsewhere(self.folder):
            self._change(self.fingerprint.with_rows_of(elsewhere))
        (self.folder / ELSEWHERE).unlink(missing_ok=True)

    def replace(self, name: str, data: bytes) -> None:
        """Writes a file whole or not at all: aside, flushed to the disk, renamed.

        Raises:
            StorageError: If it can't be written.
        """
        self._require_lock()
        write_whole(self.folder / name, data, aside=WRITING)

    def _require_lock(self) -> None:
        """Keeps a run whose folder was taken away from writing into the next one's."""
        if self._lock is not None and not self._lock.is_in_place():
            raise StorageError(f"{self.folder} can't be written: it was moved or removed, or another run has it")

    def _replace_table(self) -> None:
        self.replace(RESULTS, table_text([]).encode() + b"".join(self._records[path] for path in self.rows))

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(f"--output_dir: {self.folder} can't be written: {error.strerror}") from None

    def _aside(self, folder: Path) -> Path:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        aside = folder.with_name(f"{folder.name}.old-{stamp}")
        number = 1
        while aside.exists():
            number += 1
            aside = folder.with_name(f"{folder.name}.old-{stamp}-{number}")
        return aside
