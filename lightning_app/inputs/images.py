"""Finds the ranking's images on this machine."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lightning_app.errors import BadInputError
from lightning_app.inputs.ranking import RankedPath

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"))


@dataclass(frozen=True)
class Images:
    """Where the ranking's images are.

    Args:
        files: The file of each path that has one.
        missing: The paths that have none, easiest first.
    """

    files: dict[str, Path]
    missing: tuple[str, ...]


def images_below(root_dir: Path) -> list[RankedPath]:
    """Every image file below a folder, sorted by path.

    Raises:
        BadInputError: If there is none.
    """
    files: list[str] = []
    seen: set[str] = set()
    for folder, inside, names in os.walk(root_dir, followlinks=True, onerror=_refuse):
        inside.sort()
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back
            inside.clear()
            continue
        seen.add(real)
        files += [f"{folder}/{name}" for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    files = sorted(file for file in files if os.path.isfile(file))
    if not files:
        raise BadInputError(f"--root_dir {root_dir} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return [RankedPath(file, place, place + 1) for place, file in enumerate(files)]


def _refuse(error: OSError) -> NoReturn:
    raise BadInputError(f"--root_dir: {error.filename} can't be read: {error.strerror}") from None


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
    files: dict[str, Path] = {}
    missing: list[str] = []
    owner: dict[tuple[int, int], str] = {}
    for entry in paths:
        tails = [entry.path] if root_dir is None else _tails(root, entry.path, top)
        found = next(((file, image) for file in tails if (image := _regular_file(file)) is not None), None)
        if found is None:
            missing.append(entry.path)
            continue
        file, image = found
        twin = owner.setdefault(image, entry.path)
        if twin != entry.path:
            raise BadInputError(f"{twin!r} and {entry.path!r} are one image, {file}: each may be there once")
        files[entry.path] = Path(file)
    if not files:
        raise BadInputError(_none_found(paths[0].path, len(paths), root_dir))
    return Images(files, tuple(missing))


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
