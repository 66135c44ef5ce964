"""Reads a universal-difficulty ranking in any of its three forms, and the published one-line lists."""

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_app.data.example import Rank
from lightning_app.errors import BadInputError
from lightning_app.files import MAX_DIGITS, OutsideError, read_regular

HEADER_WORDS = frozenset(("path", "paths", "rank", "label", "image", "images", "file", "filename", "name"))
EXCELS_LINE = re.compile(r"sep=,\r?\n")
"""The first line of a table, which tells Excel that commas separate its cells."""
NOT_DRAWN = ("", "None")
"""Entries that keep their place in a ranking and never become an example."""


@dataclass(frozen=True, slots=True)
class RankedPath:
    """One path of a ranking.

    Args:
        path: The file's text, unchanged.
        place: From 0, in the order of the file: the column in a matrix that has this ranking's order.
        rank: Universal difficulty, 1 is easiest.
        label: Class index, where the ranking's table has one.
    """

    path: str
    place: int
    rank: Rank
    label: int | None = None


@dataclass(frozen=True)
class Ranking:
    """A ranking's drawable paths, easiest first.

    Args:
        file: Where it was read.
        paths: Without the empty places.
        places: How many places the file has, empty ones included.
        form: The form that was recognised, for the log.
    """

    file: Path
    paths: tuple[RankedPath, ...]
    places: int
    form: str


def read_text(file: Path, flag: str = "", hint: str = "") -> str:
    """Reads a UTF-8 text file without its byte-order mark, line ends as they are.

    Raises:
        BadInputError: If it is not there or not UTF-8, naming the flag, if any; `hint` says where to get it.
    """
    source = f"--{flag} {file}" if flag else str(file)
    try:
        return read_regular(file).decode("utf-8-sig")
    except FileNotFoundError:
        raise BadInputError(f"{f'--{flag}: ' if flag else ''}there is no {file} ({file.absolute()}){hint}") from None
    except UnicodeDecodeError as error:
        raise BadInputError(f"{source} is not UTF-8 text: byte {error.start} can't be read") from None
    except OutsideError as error:
        raise BadInputError(f"{source} can't be read: {error}") from None
    except OSError as error:
        raise BadInputError(f"{source} can't be read: {error.strerror}") from None


def split_one_line(line: str) -> list[str]:
    """Splits the published one-line form into its entries.

    The whole line may stand in one pair of quotes (a CSV cell that Python's `csv` refuses for its length), or single
    entries may.
    """
    inner = line[1:-1]
    if len(line) >= 2 and line[0] == line[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"').split(",")
    if '"' in line:
        return next(csv.reader([line]))
    return line.split(",")


def with_line_feeds(text: str) -> str:
    """Text whose lines end in carriage returns alone, as old spreadsheets write them, with line feeds instead."""
    return text if "\n" in text else text.replace("\r", "\n")


def split_lines(text: str) -> list[str]:
    """Splits text at line ends only (`str.splitlines` would also split inside unusual file names)."""
    lines = with_line_feeds(text).replace("\r\n", "\n").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    return lines


def read_names(text: str) -> list[str]:
    """Reads a headerless list: one line of comma-separated entries, or one entry a line.

    Entries come back unchanged, empty ones included. In the second form a line in quotes is read as a CSV cell.

    Raises:
        csv.Error: If a cell in quotes can't be read.
    """
    lines = split_lines(text)
    if len(lines) == 1:
        return split_one_line(lines[0])
    return [next(csv.reader([line]))[0] if line[:1] == line[-1:] == '"' and len(line) > 1 else line for line in lines]


def read_ranking(file: Path, flag: str = "examples_csv") -> Ranking:
    """Reads a ranking, easiest first.

    Args:
        file: One line of comma-separated paths as published; or one path a line; or a table with a header that has a
            column `path` and optionally `rank` (used as it is) and `label`.
        flag: The option that named the file, for messages.

    Raises:
        BadInputError: If the file can't be read, holds no path, holds one twice, or has a cell that is no number where
            one belongs.
    """
    hint = (
        "; the published ranking is the universal-learning project's imagenet_examples_ammended.csv; one path a line,"
        " easiest first, does as well"
        if flag == "examples_csv"
        else ""
    )
    text = with_line_feeds(read_text(file, flag, hint))
    skipped = EXCELS_LINE.match(text)
    text = text[skipped.end() :] if skipped else text
    try:
        # A header is short; the published line may be one quoted cell of megabytes, which csv refuses.
        header = [cell.strip() for cell in next(csv.reader(split_lines(text[:10_000])[:1]), [])]
        if "path" in header:
            rows = list(_table_rows(text, header, f"--{flag} {file}", 1 if skipped else 0))
            paths, places, form = sorted(rows, key=lambda row: row.rank), len(rows), "a table with a header"
        else:
            _refuse_other_forms(text, f"--{flag} {file}")
            names = read_names(text)
            paths, places = [RankedPath(name, i, i + 1) for i, name in enumerate(names)], len(names)
            form = "one line of paths" if len(split_lines(text)) == 1 else "one path a line"
    except csv.Error as error:
        raise BadInputError(f"--{flag} {file} can't be read as CSV: {error}") from None
    drawable = tuple(entry for entry in paths if entry.path not in NOT_DRAWN)
    if not drawable:
        raise BadInputError(f"--{flag} {file} holds no path: expected image paths, easiest first")
    _refuse_duplicates(drawable, f"--{flag} {file}")
    return Ranking(file, drawable, places, form)


def _refuse_other_forms(text: str, source: str) -> None:
    """Refuses what would pass for one path a line and isn't: its ranks would be wrong without a word."""
    lines = split_lines(text)
    if len(lines) < 2:
        return
    words = {word.strip(' "').lower() for word in re.split(r"[,;\t]", lines[0])}
    if words & HEADER_WORDS and not re.search(r"[./\\]", lines[0]):
        raise BadInputError(
            f"{source}: the header {lines[0]!r} has no column `path` (commas between columns, lower case)"
        )
    for number, line in enumerate(lines, start=1):
        entries = line.split(",")
        if len(entries) > 1 and all(re.search(r"\.\w{3,4}$", entry) for entry in entries):
            raise BadInputError(
                f"{source} line {number} holds {len(entries)} paths: give one a line, or all on one line"
            )


def _table_rows(text: str, header: Sequence[str], source: str, lines_before: int) -> Iterator[RankedPath]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    next(reader)
    column = {name: header.index(name) for name in ("path", "rank", "label") if name in header}
    place = 0
    for cells in reader:
        if not cells:
            if len(header) > 1:
                continue
            cells = [""]  # in a table of one column an empty line is an empty entry
        where = f"{source} line {lines_before + reader.line_num}"
        if len(cells) <= max(column.values()):
            raise BadInputError(f"{where}: {len(cells)} cells under a header of {len(header)}")
        path = cells[column["path"]]
        rank: Rank = place + 1
        label = None
        if path not in NOT_DRAWN:
            if "rank" in column:
                rank = _number(cells[column["rank"]], where, "rank must be a number from 1 (easiest)", least=1)
            if "label" in column:
                label = _label(cells[column["label"]], where)
        yield RankedPath(path, place, rank, label)
        place += 1


def _number(cell: str, where: str, wanted: str, least: int) -> Rank:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not least <= value < 10**MAX_DIGITS:  # what is longer could not be read back
        raise BadInputError(f"{where}: {wanted}, got {cell!r}")
    return int(value) if value.is_integer() else value


def _label(cell: str, where: str) -> int:
    value = _number(cell, where, "label must be a class index", least=0)
    if not isinstance(value, int):
        raise BadInputError(f"{where}: label must be a class index, got {cell!r}")
    return value


def _refuse_duplicates(paths: Sequence[RankedPath], source: str) -> None:
    first: dict[str, RankedPath] = {}
    for entry in paths:
        twin = first.setdefault(entry.path, entry)
        if twin is not entry:
            raise BadInputError(
                f"{source} holds {entry.path!r} twice, at places {twin.place + 1} and {entry.place + 1}:"
                " every path may stand there once"
            )
