"""The errors that a user can mend, and what every command ends with."""

import difflib
from collections.abc import Sequence

DONE = 0
FAILED = 1
BAD_INPUT = 2
DONE_WITH_ERRORS = 3


class BadInputError(ValueError):
    """Something the user gave can't be used.

    Its text is the single line that the command prints before it ends with exit code 2: which flag or file, what was
    found, what would be right.
    """


class StorageError(OSError):
    """A result can't be put on disk: no space, no permission, a folder that is gone. The command ends with exit code 1.

    Its text names the file. What was on disk before is whole.
    """


class WorkersError(RuntimeError):
    """No worker can train. The command ends with exit code 1; what is done is whole; rerun the command to resume."""


def printable(text: str, keep: str = "") -> str:
    r"""Text without what a terminal would obey: names of files may hold anything, and appear as `\x1b` and the like.

    Args:
        text: For a screen or a log.
        keep: Control characters that stay, such as line feeds between the lines of a table.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """Prints what a command was asked for."""
    print(printable(text, "\n"))


def is_text(text: str) -> bool:
    """Whether all that a command writes can hold it: names of files may be any bytes but NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """A hint that offers the names most like a wrong one; empty where none is like it."""
    offers = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    return f"; near names: {', '.join(offers)}" if offers else ""
