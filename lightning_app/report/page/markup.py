"""The page's HTML: a frame with the words, the tables and the pictures; the rest is built in the browser."""

import re
from collections.abc import Sequence
from html import escape
from string import Template
from urllib.parse import quote

from lightning_app.report.page.content import Picture, Table

_NUMBER = re.compile(r"\W*(\d|$)")
"""How a cell begins that is aligned as a number; an empty one and a dash are too."""


def page_html(
    frame: str,
    title: str,
    paragraphs: Sequence[str],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    studies: int,
    token: str,
) -> str:
    """Fills the frame.

    Args:
        frame: `browser/report.html`.
        title: The heading.
        paragraphs: The words below it.
        tables: The statistics.
        pictures: Those that don't move; the PNGs are shown.
        studies: How many studies the page has.
        token: Stands in every data script of the page too.
    """
    return Template(frame).substitute(
        token=token,
        title=escape(title),
        paragraphs="\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs),
        tables=_section("Statistics", "tables", [_table(table) for table in tables]),
        pictures=_section("Pictures", "pictures", [_picture(each) for each in pictures if each.name.endswith(".png")]),
        studies="\n".join(f'<script defer src="report/study-{number}.js"></script>' for number in range(studies)),
    )


def _section(heading: str, name: str, parts: Sequence[str]) -> str:
    if not parts:
        return ""
    lines = [f"<section><h2>{heading}</h2>", f'<div class="{name}">', *parts, "</div></section>"]
    return "\n".join(lines)


def _table(table: Table) -> str:
    numeric = [all(_NUMBER.match(row[i]) for row in table.rows) for i in range(len(table.columns))]
    kinds = [' class="number"' if is_numeric and i else "" for i, is_numeric in enumerate(numeric)]
    heads = "".join(
        f'<th scope="col"{kind}>{escape(column)}</th>' for kind, column in zip(kinds, table.columns, strict=True)
    )
    rows = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds[1:], row[1:], strict=True))
        + "</tr>"
        for row in table.rows
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    caption = escape(table.caption)
    return (
        f'<div class="box"><div class="sideways" role="region" aria-label="{caption}" tabindex="0"><table>'
        f"<caption>{caption}</caption><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>{notes}</div>"
    )


def _picture(picture: Picture) -> str:
    caption = escape(picture.caption)
    return (
        f'<figure class="box"><img src="report/{escape(quote(picture.name))}" alt="{caption}" loading="lazy">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
