"""How every table of ours is written."""

import csv
import io
from collections.abc import Iterable, Sequence

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
