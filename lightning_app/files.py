"""Files: whole or not at all when written; regular, of a possible size and an expected form when read."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import yaml

from lightning_app.errors import StorageError

MAX_BYTES = 2**30
MAX_YAML_BYTES = 2**18
MAX_DEPTH = 32
MAX_YAML_VALUES = 50_000
"""With every alias written out."""
MAX_DIGITS = 18

LONG_NUMBER = re.compile(rf"[-+]?[0-9][0-9_:]{{{MAX_DIGITS},}}")
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

Form = TypeVar("Form")

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class OutsideError(ValueError):
    """What came from elsewhere can't be used; its text says why, in one line, without the file's name."""


def read_regular(file: Path | str, links: bool = True, limit: int = MAX_BYTES) -> bytes:
    """Reads a regular file, and never waits for one that is something else.

    Args:
        file: Which.
        links: Whether it may be a link, as files that the user names may; those inside of a results folder may not.
        limit: The most bytes it may have.

    Raises:
        OSError: If it isn't there or can't be read.
        OutsideError: If it is no regular file, or too large.
    """
    with open_regular(file, links) as (descriptor, size):
        if size <= limit:
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                return stream.read(size)  # and no more: somebody may be appending to it
        raise OutsideError(f"it has more than the {limit:,} bytes that such a file can have")


@contextlib.contextmanager
def open_regular(file: Path | str, links: bool = True) -> Iterator[tuple[int, int]]:
    """Opens a regular file for reading, and never waits for one that is something else.

    Args:
        file: Which.
        links: Whether it may be a link.

    Yields:
        A descriptor, and the file's size in bytes.

    Raises:
        OSError: If it isn't there or can't be read.
        OutsideError: If it is no regular file.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(file, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not links:
            raise OutsideError("it is a link, not a regular file") from None
        if error.errno == errno.ENXIO:
            raise OutsideError("it is a socket, not a regular file") from None
        raise
    try:
        there = os.fstat(descriptor)
        if not stat.S_ISREG(there.st_mode):
            raise OutsideError(f"it is {_kind(there.st_mode)}, not a regular file")
        yield descriptor, there.st_size
    finally:
        os.close(descriptor)


def require_regular(file: Path) -> None:
    """Refuses what a library would wait for: it opens the file itself.

    Raises:
        OSError: If it isn't there.
        OutsideError: If it is no regular file.
    """
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OutsideError(f"it is {_kind(mode)}, not a regular file")


def _kind(mode: int) -> str:
    return next((words for is_kind, words in KINDS if is_kind(mode)), "something else")


def refuse_links(folder: Path, names: Iterable[str]) -> None:
    """Refuses a folder in which one of these names, or anything below it, is neither a file nor a folder.

    To write to a link writes to what it leads to, and a pipe waits for a reader.

    Args:
        folder: The one to be written to.
        names: Of files and folders in it; they need not be there.

    Raises:
        OutsideError: Naming the link, or the pipe.
    """
    for name in names:
        try:
            for odd in _odd(str(folder / name)):
                raise OutsideError(f"{odd} is {_kind(os.lstat(odd).st_mode)}, no file or folder of its own")
        except OSError as error:
            raise OutsideError(f"{error.filename} can't be looked at: {error.strerror}") from None


def _odd(place: str) -> Iterator[str]:
    try:
        mode = os.lstat(place).st_mode
    except FileNotFoundError:  # perhaps just now: a run may be writing there
        return
    if stat.S_ISDIR(mode):
        yield from _odd_below(place)
    elif not stat.S_ISREG(mode):
        yield place


def _odd_below(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _odd_below(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                yield entry.path


def json_as(form: type[Form], text: str | bytes) -> Form:
    """Reads JSON.

    Args:
        form: What it should be: any type that msgspec converts to, such as a dataclass or `dict[str, int]`. Keys that a
            dataclass doesn't have are passed over.
        text: UTF-8.

    Raises:
        OutsideError: If it is no JSON, nested too deeply, has numbers of more than 18 digits, or has another form.
    """
    try:
        text = text.decode() if isinstance(text, bytes) else text
        content = json.loads(text, parse_int=_short_int)
    except OutsideError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else f"it is not JSON: {error}"
        raise OutsideError(reason) from None
    _require_shallow(content)
    return _as(form, content, SURROGATE.search(text) is not None)


def yaml_as(form: type[Form], text: str | bytes) -> Form:
    """Reads YAML of the safe kind; see `json_as`, and `require_small_yaml` for what is refused besides."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise OutsideError(f"it is not UTF-8 text: byte {error.start} can't be read") from None
    try:
        require_small_yaml(text)
        content = yaml.safe_load(text)
    except OutsideError:
        raise
    except Exception as error:  # for odd YAML also ValueError, TypeError, AttributeError, OverflowError, ...
        raise OutsideError(f"it is not YAML: {' '.join(str(error).split())}") from None
    return _as(form, content, may_be_no_text=True)


def require_small_yaml(text: str) -> None:
    """Refuses YAML that would grow when it is read, before anything of it is.

    Raises:
        OutsideError: If it is too large or nested too deeply, has a number of more than 18 digits, or its aliases,
            written out, are too many or lead back to themselves.
        yaml.YAMLError: If it is no YAML.
    """
    if len(text) > MAX_YAML_BYTES:
        raise OutsideError(f"it has more than the {MAX_YAML_BYTES:,} characters that such a file can have")
    values = 0  # of the whole, aliases written out
    sizes: dict[str, int] = {}  # of what has an anchor
    begun: list[tuple[str | None, int]] = []  # the collections that are open: their anchor, and the values before them
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in {anchor for anchor, _ in begun}:
                raise OutsideError(f"its alias *{event.anchor} leads back to itself")
            if event.anchor not in sizes:
                raise yaml.YAMLError(f"its alias *{event.anchor} leads to nothing")
            values += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, values))
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            if anchor is not None:
                sizes[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
            if event.style is None and LONG_NUMBER.fullmatch(event.value):
                raise OutsideError(f"its number {event.value[:MAX_DIGITS]}... has more than {MAX_DIGITS} digits")
        if len(begun) > MAX_DEPTH:
            raise OutsideError("it is nested too deeply")
        if values > MAX_YAML_VALUES:
            raise OutsideError(f"it has more than {MAX_YAML_VALUES:,} values, its aliases written out")


def _short_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS + 1:
        raise OutsideError(f"its number {digits[:MAX_DIGITS]}... has more than {MAX_DIGITS} digits")
    return int(digits)


def _require_shallow(content: object) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise OutsideError("it is nested too deeply")


def _as(form: type[Form], content: object, may_be_no_text: bool) -> Form:
    try:
        found = msgspec.convert(content, form)
        if may_be_no_text:
            json.dumps(content, ensure_ascii=False, default=str).encode()
    except msgspec.ValidationError as error:
        raise OutsideError(f"it has another form: {error}") from None
    except UnicodeEncodeError:
        raise OutsideError("it holds half of a surrogate pair, which is no text") from None
    except (ValueError, TypeError, RecursionError) as error:
        raise OutsideError(f"it can't be read: {error}") from None
    return found


NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A link in its place is not followed, a pipe not waited for: the folder may be from somebody else."""


def flat(content: object, key: str = "") -> Iterator[tuple[str, object]]:
    """The values of an object of JSON or YAML; a key inside a key is joined to it by a dot.

    Args:
        content: Also one that is no object, or an empty one: it is its own value.
        key: Under which it stands.
    """
    if not (isinstance(content, dict) and (content or not key)):
        yield key, content
        return
    for name, inner in content.items():
        yield from flat(inner, f"{key}.{name}" if key else str(name))


def file_name(text: str) -> str:
    """A name of anything as that of a file: with unusual characters as `_`."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)


def write_atomic(file: Path, data: bytes | Iterable[bytes], aside: str | None = None, flush: bool = True) -> None:
    """Writes a file aside and renames it.

    Args:
        file: Which.
        data: Its content, or pieces of it.
        aside: Its name until then, in the same folder; by default one of its own.
        flush: Whether it waits until the file is on the disk.

    Raises:
        StorageError: If it can't be written; what was there is as it was.
    """
    aside_file = file.with_name(aside or f".{file.name}.writing")
    with naming(file):
        try:
            with os.fdopen(os.open(aside_file, NEW_FILE, 0o666), "wb") as stream:
                stream.writelines([data] if isinstance(data, bytes) else data)
                if flush:
                    stream.flush()
                    os.fsync(stream.fileno())
            aside_file.replace(file)
        except BaseException:  # also what the making of its content raises
            with contextlib.suppress(OSError):
                aside_file.unlink()  # a half-written file would hold the space that others need
            raise
        if flush:
            flush_folder(file.parent)


@contextlib.contextmanager
def naming(file: Path) -> Iterator[None]:
    """Names the file that a failed write was for."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{file} can't be written: {error.strerror or error}") from error


def flush_folder(folder: Path) -> None:
    """Puts a folder's list of names on the disk, so that a rename outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems can't
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


Value = str | int | float | None
"""A cell; None is an empty one."""


def csv_text(rows: Iterable[Iterable[Value]]) -> str:
    """Rows as CSV lines: floats as `repr`, None as an empty cell, quotes only where they are needed."""
    return "".join(_csv_line([repr(float(cell)) if isinstance(cell, float) else cell for cell in row]) for row in rows)


def _csv_line(cells: Sequence[Value]) -> str:
    # Python's csv quotes a carriage return in a cell only where its own line ends hold one.
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(cells)
    return line.getvalue().removesuffix("\r\n") + "\n"


def file_sha256(file: Path) -> str:
    """A file's digest."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
