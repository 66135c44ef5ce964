"""A study's folder `output_dir/model_name`: one writer, one append an example, and the exports that follow from it."""

import contextlib
import ctypes
import errno
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from lightning_app.data.environment import Content, number_of
from lightning_app.data.trajectory import Failure, Result, Trajectory
from lightning_app.errors import BadInputError, StorageError
from lightning_app.files import (
    NEW_FILE,
    OutsideError,
    flush_folder,
    json_as,
    naming,
    open_regular,
    read_regular,
    write_atomic,
)
from lightning_app.store.export import (
    Floats,
    Row,
    fingerprint_text,
    row_of,
    row_text,
    rows_of,
    step_log_name,
    step_log_text,
    table_text,
)
from lightning_app.store.files import (
    CONFIG,
    FINGERPRINT,
    OWN,
    RESULTS,
    STEP_LOGS,
    SUMMARY,
    left_without_store,
    require_no_links,
)
from lightning_app.store.lock import LOCK, WriterLock
from lightning_app.store.log import LogWriter
from lightning_app.store.predictions import PREDICTIONS, copy_predictions
from lightning_app.store.study_log import (
    FORMAT,
    STORE,
    CommandLine,
    EnvironmentLine,
    Line,
    Stored,
    StoredStudy,
    StudyLine,
    Target,
    example_line,
    line_bytes,
    losses_in,
    parse_line,
    read_study,
)

log = logging.getLogger("lightning_app")

STEP_LOG = re.compile(r"example_\d+_.*_steps\.csv", re.DOTALL)
WRITING = ".writing"
"""The name of a step log while it is being written: its own may be as long as a name can be."""


class StudyFolder:
    """Where one study's results go.

    Nothing is written before `locked`.

    Args:
        folder: The study's folder, there or not.

    Raises:
        BadInputError: If it can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: WriterLock | None = None
        self._log: LogWriter | None = None
        self._study: StoredStudy | None = None
        self._is_shown = True
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
            asked = (file.name for file in self.folder.glob(PREDICTIONS))
            require_no_links(self.folder, (*OWN, WRITING, *asked), "--output_dir: ")
            yield
        finally:
            if self._log is not None:
                self._log.close()
                self._log = None
            self._lock.release()
            self._lock = None
            with contextlib.suppress(OSError):  # the first that is not empty ends it
                for path in made:
                    path.rmdir()

    @property
    def study(self) -> StoredStudy:
        """What is on the disk of the study that was begun."""
        assert self._study is not None
        return self._study

    def find(self) -> StoredStudy | None:
        """The study that is there, or None.

        Raises:
            BadInputError: If what is there is no study that this version could have left.
        """
        try:
            study = read_study(self.folder)
        except (OSError, ValueError) as error:
            raise BadInputError(
                f"--output_dir: {self.folder} holds a study that can't be read: {error}. --overwrite moves it aside and"
                " starts anew"
            ) from None
        if study is None and (found := left_without_store(self.folder)) is not None:
            raise BadInputError(
                f"--output_dir: {self.folder} holds {found}, which can't be resumed (report reads its table)."
                " --output_dir puts this study elsewhere, --overwrite moves that one aside"
            )
        return study

    def move_aside(self) -> Path | None:
        """Moves a study that is there to another name; what the model was asked is taken along.

        Returns:
            Where it went, or None if there was none.

        Raises:
            BadInputError: If it can't be moved.
        """
        if not any(os.path.lexists(self.folder / name) for name in (STORE, RESULTS, FINGERPRINT)):
            return None
        aside = _aside(self.folder)
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
            copy_predictions(aside, self.folder)
            return aside
        except OSError as error:
            raise BadInputError(f"--output_dir: {self.folder} can't be moved aside: {error.strerror}") from None

    def _move_content_aside(self) -> Path:
        """Moves what is in the folder into a new folder in it; what was moved aside before stays where it is."""
        aside = _aside(self.folder / "study")
        entries = [e for e in self.folder.iterdir() if e.name != LOCK and not e.name.startswith("study.old-")]
        moved: list[Path] = []
        try:
            aside.mkdir()
            for entry in sorted(entries, key=lambda entry: (entry.name == STORE, entry.name)):  # the study itself last
                entry.rename(aside / entry.name)
                moved.append(entry)
            copy_predictions(aside, self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                for entry in reversed(moved):
                    (aside / entry.name).rename(entry)
                aside.rmdir()
            raise BadInputError(
                f"--output_dir: {self.folder} can't be moved aside, nor can what is in it: {error.strerror}"
            ) from None
        return aside

    def begin(
        self,
        existing: StoredStudy | None,
        identity: Content,
        environment: Content,
        target: Target,
        command: CommandLine,
        coming: Collection[str] = (),
    ) -> None:
        """Writes down what the study is, as far as that is new, and shows what is there of it.

        Args:
            existing: The study that is there, as `find` gave it.
            identity: What its numbers depend on.
            environment: Where its next examples are trained.
            target: What it is to become.
            command: What was asked for.
            coming: Paths of examples that are left out of the table until they are trained again.

        Raises:
            StorageError: If it can't be written.
        """
        self._require_lock()
        self._study = study = existing or StoredStudy(self.folder / STORE, torn=self._bytes_of_no_study())
        if study.torn:
            where = "in the middle of a line" if existing else "before its study had begun"
            log.warning("%s ended %s: %s bytes are cut off, and what they were of is trained again",
                        study.file, where, f"{study.torn:,}")  # fmt: skip
        is_killed = existing is not None and bool(existing.examples) and not is_final(study)
        self._log = LogWriter(study.file, study.size, study.torn)
        study.torn = 0
        lines: list[Line] = []
        if existing is None:
            lines.append(StudyLine(FORMAT, identity))
        if number_of(environment, study.environments) is None:
            lines.append(EnvironmentLine(len(study.environments) + 1, environment))
        if target != study.target:
            lines.append(target)
        if line_bytes(command) != line_bytes(study.command):
            lines.append(command)
        self._append(lines)
        self._environment = environment
        if study.left or is_killed or lines or coming:
            self._take_away_the_summary()
        if not (is_killed or lines or coming):
            return
        self.replace(CONFIG, command.config.encode())
        self.replace(FINGERPRINT, fingerprint_text(study).encode())
        rows = self._put_step_logs(is_quick=True) if is_killed else [row for row, _ in rows_of(study)]
        self.replace(RESULTS, table_text(row for row in rows if row["path"] not in coming).encode())

    def _bytes_of_no_study(self) -> int:
        """Of a log that a kill left before it said what the study is to become; mostly none."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / STORE).lstat().st_size if read_study(self.folder) is None else 0
        return 0

    def install(self, lines: Iterable[bytes]) -> None:
        """Puts a whole log in place, all or nothing; one that is there already must be the same.

        Args:
            lines: Of the log.

        Raises:
            BadInputError: If another study is there.
            StorageError: If it can't be written.
        """
        self._require_lock()
        file = self.folder / STORE
        if self.find() is None:
            write_atomic(file, lines)
        elif not _holds(file, lines):
            raise BadInputError(
                f"--output_dir: {self.folder} holds a study already; --overwrite moves it aside, another"
                " --output_dir puts the merged one elsewhere"
            )
        self._study = self.find()

    def _append(self, lines: list[Line]) -> None:
        """Puts lines on the disk, and takes them as a reader would."""
        assert self._log is not None
        texts = [line_bytes(line) for line in lines]
        for text in texts:
            parse_line(text)  # what can't be read back would be lost
        if texts:
            self._require_lock()
            self._log.append(b"".join(texts))
        for line, text in zip(lines, texts, strict=True):
            self.study.take(line, len(text))

    def commit(self, result: Result) -> Stored:
        """Puts one finished example on the disk, and then where people look.

        Args:
            result: The example.

        Returns:
            What is stored of it. Where training an example again has failed, that is what was there.

        Raises:
            StorageError: If it can't be written; the study is as it was before.
        """
        path, study = result.example.path, self.study
        if isinstance(result, Failure) and path in study.examples:
            there = study.examples[path]
            if there.line.outcome != "error" or there.line.reason == result.reason:
                return there
        environment = self._environment
        if isinstance(result, Trajectory) and result.environment is not None:
            environment = dict(result.environment)
        lines: list[Line] = []
        number = number_of(environment, study.environments)
        if number is None:
            number = len(study.environments) + 1
            lines.append(EnvironmentLine(number, environment))
        line = example_line(result, number)
        losses = losses_in(line, study.epsilon) if line.steps else None
        self._append([*lines, line])
        self._show(row_of(line, losses, result.example.index, study.epsilon), losses)
        return study.examples[path]

    def _show(self, row: Row, losses: Floats | None) -> None:
        """Adds to table and step logs while the study runs. They follow from the log: it goes on without them."""
        try:
            if losses is not None:
                (self.folder / STEP_LOGS).mkdir(exist_ok=True)
                file = self.folder / STEP_LOGS / step_log_name(row["example_index"], row["path"])
                _write(file, NEW_FILE, step_log_text(losses.tolist()))
            _write(self.folder / RESULTS, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, row_text(row))
        except OSError as error:
            if self._is_shown:
                log.warning("%s can't be written (%s): the study goes on, its table and step logs are made anew at the"
                            " end", error.filename or self.folder, error.strerror)  # fmt: skip
            self._is_shown = False

    def export(self) -> list[Row]:
        """Makes all exports equal to the log but for picture and summary, which are for the caller to make.

        The summary is taken away first: where it is, everything is as it says. What is right already stays as it is.

        Returns:
            The rows.

        Raises:
            StorageError: If one can't be written.
        """
        self._require_lock()
        self._take_away_the_summary()
        rows = self._put_step_logs()
        self.replace(RESULTS, table_text(rows).encode())
        self.replace(CONFIG, self.study.command.config.encode())
        self.replace(FINGERPRINT, fingerprint_text(self.study).encode())
        with naming(self.folder):
            _flush_file_system(self.folder)
        return rows

    def _take_away_the_summary(self) -> None:
        """From now on the exports are not those of the log."""
        with naming(self.folder / SUMMARY):
            (self.folder / SUMMARY).unlink(missing_ok=True)
            flush_folder(self.folder)

    def _put_step_logs(self, is_quick: bool = False) -> list[Row]:
        """Makes the step logs those of the log, unflushed; quickly by their last lines, else by every byte."""
        logs = self.folder / STEP_LOGS
        rows: list[Row] = []
        owned: dict[str, list[str]] = {}  # by what stands behind the number; paths may differ by more than that
        with naming(logs):
            logs.mkdir(exist_ok=True)
            names = frozenset(os.listdir(logs))
        try:
            for row, losses in rows_of(self.study):
                rows.append(row)
                if losses is not None:
                    name = step_log_name(row["example_index"], row["path"])
                    owned.setdefault(name.split("_", 2)[2], []).append(name)
                    last = f"\n{len(losses)},{losses[-1].item()!r}\n".encode()
                    if is_quick and name in names and _ends_with(logs / name, last):
                        continue
                    data = step_log_text(losses.tolist()).encode()
                    if name not in names or _content(logs / name) != data:
                        write_atomic(logs / name, data, aside=WRITING, flush=False)
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"{self.folder} can't be read: {error}") from error
        with naming(logs):
            (logs / WRITING).unlink(missing_ok=True)
            if not is_quick:
                there = {name for name in names if STEP_LOG.fullmatch(name)}
                self._tidy(there.difference(*owned.values()), owned)
        return rows

    def _tidy(self, stale: Collection[str], owned: Mapping[str, Sequence[str]]) -> None:
        """Takes away step logs of numbers that are no more, and sets aside what the log doesn't have."""
        logs = self.folder / STEP_LOGS
        unknown: list[str] = []
        for name in sorted(stale):
            alike = owned.get(name.split("_", 2)[2], [])
            data = _content(logs / name)
            if data is not None and any((_content(logs / other) or b"").startswith(data) for other in alike):
                (logs / name).unlink()
            else:
                unknown.append(name)
        if unknown:
            aside = _aside(logs)
            aside.mkdir()
            for name in unknown:
                (logs / name).replace(aside / name)
            log.warning("%d step logs are not of this study as it is; they are now in %s", len(unknown), aside)

    def discard(self) -> None:
        """Takes back a study that ended before its first example, so that the folder is free for the next."""
        if self._study is not None and not self._study.examples:
            for name in (FINGERPRINT, CONFIG, RESULTS, STORE):
                (self.folder / name).unlink(missing_ok=True)

    def replace(self, name: str, data: bytes) -> None:
        """Writes a file whole or not at all: aside, flushed to the disk, renamed.

        Raises:
            StorageError: If it can't be written.
        """
        self._require_lock()
        write_atomic(self.folder / name, data, aside=WRITING)

    def _require_lock(self) -> None:
        """Keeps a run whose folder was taken away from writing into the next one's."""
        if self._lock is not None and not self._lock.is_in_place():
            raise StorageError(f"{self.folder} can't be written: it was moved or removed, or another run has it")

    def _make(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInputError(f"--output_dir: {self.folder} can't be written: {error.strerror}") from None


class _Timing(msgspec.Struct):
    store_bytes: int


class _Summary(msgspec.Struct):
    timing: _Timing


def is_final(study: StoredStudy) -> bool:
    """Whether all exports are those of the log as it is."""
    with contextlib.suppress(OSError, ValueError):
        summary = json_as(_Summary, read_regular(study.file.with_name(SUMMARY), links=False))
        return summary.timing.store_bytes == study.size and not study.torn
    return False


def is_complete(folder: Path) -> bool:
    """Whether a study is there, final, with nothing left to train."""
    try:
        study = read_study(folder)
    except (OSError, ValueError):
        return False
    return study is not None and not study.left and is_final(study)


def _content(file: Path) -> bytes | None:
    """A step log as it is there; None where that is none."""
    with contextlib.suppress(OutsideError):
        return read_regular(file, links=False)
    return None


def _holds(file: Path, lines: Iterable[bytes]) -> bool:
    with file.open("rb") as stream:
        return all(stream.read(len(line)) == line for line in lines) and not stream.read(1)


def _ends_with(file: Path, end: bytes) -> bool:
    with contextlib.suppress(OutsideError), open_regular(file, links=False) as (descriptor, size):
        return os.pread(descriptor, len(end), max(0, size - len(end))) == end
    return False


def _write(file: Path, flags: int, text: str) -> None:
    descriptor = os.open(file, flags | os.O_CLOEXEC, 0o666)
    try:
        if os.write(descriptor, data := text.encode()) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
    finally:
        os.close(descriptor)


def _flush_file_system(folder: Path) -> None:
    """Puts all that was written on the disk at once: a flush a file would take minutes for thousands."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except AttributeError:  # not Linux
        os.sync()
    finally:
        os.close(descriptor)


def _aside(folder: Path) -> Path:
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    aside = folder.with_name(f"{folder.name}.old-{stamp}")
    number = 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}.old-{stamp}-{number}")
    return aside
