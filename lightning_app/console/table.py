"""Tables for a terminal."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], sides: str, widths: Sequence[int] = ()) -> list[str]:
    """The lines of a table, two spaces between its columns.

    Args:
        rows: As many cells in each; the header is one of them.
        sides: To which a column keeps, `<` or `>`, in a string of one character a column.
        widths: Of the first columns, where that is not their longest cell's.
    """
    longest = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths = [*widths, *longest[len(widths) :]]
    cells = [[f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)] for row in rows]
    return ["  ".join(row).rstrip() for row in cells]
