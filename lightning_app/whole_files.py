"""Files that are there whole or not at all, whatever ends the process."""

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lightning_app.errors import StorageError

NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""A link in its place is not followed, a pipe not waited for: the folder may be from somebody else."""


def file_name(text: str) -> str:
    """A name of anything as that of a file: with unusual characters as `_`."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text)


def write_whole(file: Path, data: bytes | Iterable[bytes], aside: str | None = None, flush: bool = True) -> None:
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
