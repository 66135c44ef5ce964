"""Finds the ranking's images on this machine."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from lightning_app.console.log import log_left_out
from lightning_app.data.image import suffixes
from lightning_app.data.ranking import RankedPath
from lightning_app.errors import BadInputError

log = logging.getLogger("lightning_app")

FOREIGN = frozenset(
    (
        *("__macosx", "@eadir", "lost+found", "$recycle.bin", "system volume information", "__pycache__"),
        *("@recycle", "#recycle", "@recently-snapshot", "#snapshot", "@tmp", "@sharebin", "@sharesnap"),
        *("network trash folder", "temporary items"),
    )
)
"""Folders that systems, file managers and network disks put among the user's, in small letters; what is in them are
copies. Hidden ones, whose names begin with a dot, are foreign too."""


def is_foreign(folder: str) -> bool:
    """Whether a folder of this name is none of the user's, and holds no examples."""
    return folder.startswith(".") or folder.lower() in FOREIGN


@dataclass(frozen=True)
class Images:
    """Where the ranking's images are.

    Args:
        files: The file of each path that has one.
        missing: The paths that have none, easiest first.
        foreign: The paths that have one in a foreign folder; they are left out.
    """

    files: dict[str, Path]
    missing: tuple[str, ...]
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImagesBelow:
    """The images below a folder, and what else is there.

    Args:
        paths: Of the images, sorted.
        foreign: Hidden folders, and those of file managers; they are not looked into.
        unreadable: Folders, and files with an image's suffix, that can't be read, with the reason.
        twins: Paths of a file or folder that has another path already, with that one.
        others: How many files have no image's suffix, by theirs.
    """

    paths: tuple[str, ...]
    foreign: tuple[str, ...]
    unreadable: tuple[str, ...]
    twins: tuple[str, ...]
    others: Counter[str]

    @property
    def ranked(self) -> list[RankedPath]:
        """The images in the form of a ranking."""
        return [RankedPath(path, place, place + 1) for place, path in enumerate(self.paths)]

    def log_left_out(self) -> None:
        """Says what of the folder was left out."""
        log_left_out("folders or files can't be read and are left out", self.unreadable)
        log_left_out("paths are of an image or folder that has another path already, and are left out", self.twins)
        log_left_out("hidden folders or folders of file managers are left out", self.foreign, logging.INFO)
        if self.others:
            log.info("Other files are left out, no images that are opened here: %s", self.format_others())

    def format_others(self) -> str:
        """Such as `3 .heic, 1 without a suffix`."""
        return ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in self.others.most_common())


def images_below(root_dir: Path) -> ImagesBelow:
    """Finds every image file below a folder.

    Raises:
        BadInputError: If there is none, or the folder itself can't be read.
    """
    files: list[str] = []
    foreign: list[str] = []
    unreadable: list[str] = []
    twins: list[str] = []
    others: Counter[str] = Counter()
    seen: dict[str, str] = {}
    taken = suffixes()

    def cannot_be_read(error: OSError) -> None:
        if error.filename == str(root_dir):
            raise BadInputError(f"--root_dir: {root_dir} can't be read: {error.strerror}") from None
        unreadable.append(f"{error.filename} ({error.strerror})")

    for folder, inside, names in os.walk(root_dir, followlinks=True, onerror=cannot_be_read):
        real = os.path.realpath(folder)
        if real in seen:  # by a link, which may lead back
            twins.append(f"{folder} ({seen[real]})")
            inside.clear()
            continue
        seen[real] = folder
        foreign += [f"{folder}/{name}" for name in inside if is_foreign(name)]
        # Links last: what they lead to has a name of its own, and its class is that one.
        inside[:] = sorted((n for n in inside if not is_foreign(n)), key=lambda n: (os.path.islink(f"{folder}/{n}"), n))
        for name in names:
            suffix = os.path.splitext(name)[1].lower()
            if suffix in taken:
                files.append(f"{folder}/{name}")
            else:
                others[suffix] += 1
    own: dict[tuple[int, int], str] = {}
    for file in sorted(files, key=lambda file: (os.path.islink(file), file)):  # a link's folder isn't its image's class
        image = _regular_file(file)
        if image is None:
            unreadable.append(f"{file} (no regular file, or out of reach)")
        elif own.setdefault(image, file) != file:
            twins.append(f"{file} ({own[image]})")
    below = ImagesBelow(tuple(sorted(own.values())), tuple(sorted(foreign)), tuple(unreadable), tuple(twins), others)
    if not own:
        reasons = {
            "can't be read": unreadable and unreadable[0],
            "a folder that is hidden or a file manager's": foreign and foreign[0],
            "other files": below.format_others(),
        }
        why = "".join(f"; {words}: {what}" for words, what in reasons.items() if what)
        raise BadInputError(f"--root_dir {root_dir} holds no image ({', '.join(sorted(taken))}){why}")
    return below


def has_image(folder: Path) -> bool:
    """Whether there is an image file in a folder or below it."""
    for _, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if not is_foreign(name)]
        if any(os.path.splitext(name)[1].lower() in suffixes() for name in names):
            return True
    return False


def find_images(paths: Sequence[RankedPath], root_dir: Path | None) -> Images:
    """Matches ranked paths with files.

    Args:
        paths: The drawable paths of a ranking.
        root_dir: With it, the longest tail of a path that is a regular file below it is the image; without it, the path
            as written.

    Raises:
        BadInputError: If no image is found, or two paths lead to one image.
    """
    # One listing saves a look at the disk for every tail that can't be there: 50,000 paths take well under a second.
    root = str(root_dir)
    top = frozenset(os.listdir(root)) if root_dir is not None else frozenset()
    found: list[tuple[str, str, tuple[int, int]]] = []
    missing: list[str] = []
    for entry in paths:
        tails = [entry.path] if root_dir is None else _tails(root, entry.path, top)
        place = next(((file, image) for file in tails if (image := _regular_file(file)) is not None), None)
        if place is None:
            missing.append(entry.path)
        else:
            found.append((entry.path, *place))
    folders = [_parts(os.path.dirname(file)) for _, file, _ in found]
    # Folders that all of the images lie in are the user's, hidden or not.
    shared = _shared(folders) if root_dir is None else len(_parts(root))
    files: dict[str, Path] = {}
    foreign: list[str] = []
    owner: dict[tuple[int, int], str] = {}
    for (path, file, image), folder in zip(found, folders, strict=True):
        if any(map(is_foreign, folder[shared:])):
            foreign.append(path)
            continue
        twin = owner.setdefault(image, path)
        if twin != path:
            raise BadInputError(f"{twin!r} and {path!r} are one image, {file}: each may be there once")
        files[path] = Path(file)
    if foreign and not files:
        raise BadInputError(
            f"the ranking's images lie in hidden folders or those of file managers, for example {foreign[0]!r}, and"
            " copies are no examples: move them, if they are the images"
        )
    if not files:
        raise BadInputError(_none_found(paths[0].path, len(paths), root_dir))
    return Images(files, tuple(missing), tuple(foreign))


def _shared(folders: Sequence[Sequence[str]]) -> int:
    """How many of their first parts all folders have in common."""
    return sum(1 for _ in takewhile(lambda parts: len({*parts}) == 1, zip(*folders, strict=False)))


def _regular_file(file: str) -> tuple[int, int] | None:
    """A regular file's identity on its disk, or None: links to one file are one image."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def _tails(root: str, path: str, top: frozenset[str]) -> Iterator[str]:
    """Every tail of a path that may be below the root, the longest first."""
    parts = _parts(path)
    for start, part in enumerate(parts):
        if part in top:
            yield "/".join([root, *parts[start:]])


def _parts(path: str) -> list[str]:
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    while ".." in parts:
        del parts[: parts.index("..") + 1]
    return parts


def _none_found(path: str, count: int, root_dir: Path | None) -> str:
    if root_dir is None:
        return (
            f"--examples_csv: none of its {count} images is there, for example {path!r} (looked for in {Path.cwd()});"
            " give --root_dir, the folder that holds the images"
        )
    looked_for = os.path.join(root_dir, *_parts(path)[-2:])
    return (
        f"--root_dir {root_dir}: none of the ranking's {count} images is below it, for example {path!r} (looked for as"
        f" {looked_for} and by every longer and shorter tail)"
    )
