"""Puts a page, `report.html` with the folder `report/`, in the place of an older one: both or neither.

The new page is written aside whole; then three renames put it in place, and the last one, of the HTML, decides. What
ends a run in between is undone by looking at the disk alone, by the run itself or, if it was killed, by the next one.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from lightning_app.errors import BadInputError
from lightning_app.files import OutsideError, json_as, naming, read_regular

PAGE = "report.html"
FOLDER = "report"
LIST = "page.json"
"""Names the files of a page's folder; whatever else lies there is the user's."""
GENERATOR = '<meta name="generator" content="steps-to-epsilon report">'
WITHIN = 1024
"""So early in a page's HTML stands the line above."""
MAX_LISTED = 2**26
"""Bytes of a list; a million files take half of it."""
DEEPEST = 8
"""So many names has a path of the page's at most."""
MOVE_IT = "move it, or choose another --output_dir"


@dataclass
class _List:
    files: list[str]


def refuse_foreign(folder: Path) -> None:
    """Refuses a folder in which something has the name of a page's part, but isn't one.

    Args:
        folder: Where a page is to be.

    Raises:
        BadInputError: If so.
    """
    report, writing, old, html = _places(folder)
    page = folder / PAGE
    for place in (report, old):
        if not os.path.lexists(place):
            continue
        if place.is_symlink() or not (_listed(place) or (place == old and _is_empty(old))):
            why = "it is a link" if place.is_symlink() else f"no {LIST} in it"
            raise BadInputError(f"{place} is not the folder of a page ({why}); {MOVE_IT}")
    for place, is_ours in ((writing, writing.is_dir()), (html, html.is_file()), (page, _is_page(page))):
        if os.path.lexists(place) and (place.is_symlink() or not is_ours):
            raise BadInputError(f"{place} is not a page of this program; {MOVE_IT}")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing a page to the folder; the lock ends with the process and leaves no file.

    Args:
        folder: One that exists.

    Raises:
        BadInputError: If another process writes there.
    """
    with naming(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInputError(f"another report is being written to {folder}") from None
        except OSError:
            pass  # some network file systems can't lock a folder; one report at a time is the usual thing
        yield
    finally:
        os.close(descriptor)


def replace_page(folder: Path, fill: Callable[[Path], str]) -> None:
    """Writes a page in the place of an older one, and keeps the user's files in its folder.

    Args:
        folder: Where.
        fill: Writes all but the HTML to a folder, and gives the HTML.

    Raises:
        BadInputError: If something is in the way that isn't a page's.
        StorageError: If a file can't be written; the older page is as it was.
    """
    report, writing, old, html = _places(folder)
    with locked(folder):
        refuse_foreign(folder)
        try:
            _settle(folder)
        except (OSError, RecursionError) as error:
            raise BadInputError(
                f"{writing}, left by an earlier report, can't be cleared away: {error}; {MOVE_IT}"
            ) from None
        try:
            with naming(writing):
                writing.mkdir()
            text = fill(writing)
            with naming(report):
                _write_list(writing)
                _refuse_clashes(report, writing)
                html.write_bytes(text.encode("utf-8", "replace"))
                if report.exists():
                    report.rename(old)
                writing.rename(report)
                html.rename(folder / PAGE)
        finally:
            # The page stands, old or new; the next run clears away what is left.
            with contextlib.suppress(OSError, BadInputError):
                _settle(folder)


def _places(folder: Path) -> tuple[Path, Path, Path, Path]:
    return folder / FOLDER, folder / f".{FOLDER}.writing", folder / f".{FOLDER}.old", folder / f".{PAGE}.writing"


def _settle(folder: Path) -> None:
    """Takes a swap back that didn't come to its end, or clears away what one that did has left."""
    report, writing, old, html = _places(folder)
    if html.exists() and report.exists() and not writing.exists():  # report/ is the new one already, but the HTML isn't
        if old.exists():
            _move_users_files(report, old)
        if not _users_files(report):
            report.rename(writing)
    if old.exists() and not report.exists():
        old.rename(report)
    html.unlink(missing_ok=True)  # before the folder: a lone HTML means that report/ is the new one
    if writing.exists():
        shutil.rmtree(writing)
    if old.exists():
        _move_users_files(old, report)
        old.rename(writing)  # the name of what is deleted whole: the rest is the page's alone
        shutil.rmtree(writing)


def _write_list(folder: Path) -> None:
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    (folder / LIST).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")


def _listed(folder: Path) -> set[Path]:
    """What the list of a page's folder names; nothing where there is no list.

    Somebody else may have written it, with any names: they are compared with what lies in the folder, and never opened.
    """
    file = folder / LIST
    if not os.path.lexists(file):
        return set()
    try:
        names = json_as(_List, read_regular(file, links=False, limit=MAX_LISTED)).files
    except (OutsideError, OSError) as error:
        raise BadInputError(f"{file} can't be used: {error}; {MOVE_IT}") from None
    return {Path(name) for name in names if name.count("/") < DEEPEST} | {Path(LIST)}


def _folders_of(files: Collection[Path]) -> set[Path]:
    return {parent for file in files for parent in file.parents if parent.parts}


def _users_files(folder: Path, others: Collection[Path] = ()) -> list[Path]:
    """What in a page's folder isn't the page's: files and whole folders, relative to it.

    Args:
        folder: The page's.
        others: The files of another page; of folders that it has too, the content is looked at.
    """
    own = _listed(folder)
    shared = _folders_of({*own, *others})
    found: list[Path] = []

    def look(inside: Path) -> None:
        for entry in sorted((folder / inside).iterdir()):
            relative, is_folder = inside / entry.name, entry.is_dir() and not entry.is_symlink()
            if is_folder and relative in shared:
                look(relative)
            elif is_folder or relative not in own:
                found.append(relative)

    look(Path())
    return found


def _refuse_clashes(report: Path, writing: Path) -> None:
    if not report.exists():
        return
    new = _listed(writing)
    for file in _users_files(report, new):
        if file in new or file in _folders_of(new):
            raise BadInputError(f"{report / file} is in the page's way, but not its own; {MOVE_IT}")


def _move_users_files(source: Path, target: Path) -> None:
    for file in _users_files(source, _listed(target)):
        destination = target / file
        on_the_way = [target / parent for parent in file.parents if os.path.lexists(target / parent)]
        if os.path.lexists(destination) or any(way.is_symlink() or not way.is_dir() for way in on_the_way):
            raise BadInputError(f"{str(file)!r} in {source} can't go to {target}: something is in its way; {MOVE_IT}")
        destination.parent.mkdir(parents=True, exist_ok=True)
        (source / file).rename(destination)


def _is_empty(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return not any(folder.iterdir())
    return False


def _is_page(file: Path) -> bool:
    with contextlib.suppress(OSError, OutsideError):
        return GENERATOR.encode() in read_regular(file, links=False)[:WITHIN]
    return False
