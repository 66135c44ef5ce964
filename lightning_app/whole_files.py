"""Files that are there whole or not at all, whatever ends the process."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from lightning_app.errors import StorageError

WRITING = ".writing"
"""The name of a file, beside the one that it is to become, while it is being written."""


def write_whole(file: Path, data: bytes) -> None:
    """Writes a file aside, flushes it to the disk and renames it.

    Raises:
        StorageError: If it can't be written; what was there is as it was.
    """
    aside = file.with_name(WRITING)
    with naming(file):
        try:
            with aside.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(file)
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()  # a half-written file would hold the space that others need
            raise
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
