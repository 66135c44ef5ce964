"""The page of a study: `report.html`, one file that has everything inside and opens from disk without a network."""

import contextlib
import fcntl
import importlib.util
import json
import logging
import math
import os
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

import pandas as pd

from lightning_app.console.progress import progress_bar
from lightning_app.errors import BadInputError
from lightning_app.files import OutsideError, naming, open_regular, write_atomic
from lightning_app.report.curves import kept_steps, thinned
from lightning_app.report.thumbnails import choose, thumbnail
from lightning_app.store.export import Losses

log = logging.getLogger("lightning_app")

PAGE = "report.html"
WRITING = f".{PAGE}.writing"
GENERATOR = b'<meta name="generator" content="steps-to-epsilon report">'
WITHIN = 1024
"""So early in a page stands the line above, of earlier versions too."""

_NUMBER = re.compile(r"\W*(\d|$)")
"""How a cell begins that is aligned as a number; an empty one and a dash are too."""
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


@dataclass(frozen=True)
class Table:
    """A table of statistics; its cells are text and shown as they are.

    Attributes:
        caption: Its heading.
        columns: The columns' headings.
        rows: The cells, one tuple a row.
        notes: Small print below it.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Picture:
    """A picture that doesn't move.

    Attributes:
        name: That of a file of it, such as `survival.png`; a page shows PNGs.
        data: The file's bytes.
        caption: The words below it, and in place of it.
    """

    name: str
    data: bytes
    caption: str


@dataclass(frozen=True)
class StudyOnPage:
    """A study, and where the rest about its examples is found.

    Attributes:
        name: Unique among the page's studies.
        examples: One row an example, none with the outcome `error`: example_index, path, outcome, steps (limit + 1
            where not reached), not_reached, universal_difficulty_rank; and, where known, label, predicted_before,
            initial_loss and final_loss.
        epsilon: The loss to reach; NaN where it isn't known.
        limit: The most steps an example was given.
        thresholds: Losses drawn as lines with an example's curve.
        losses_of: The loss of every step of the example at a position in `examples`; raises OSError or ValueError
            where there is none. None: the study has no curves.
        image_of: The image file of the example at a position, or None.
        class_names: The names of the class indexes; without one the index is shown.
    """

    name: str
    examples: pd.DataFrame
    epsilon: float
    limit: int
    thresholds: tuple[float, ...]
    losses_of: Callable[[int], Losses] | None
    image_of: Callable[[int], Path | None]
    class_names: Mapping[int, str]


def require_free(folder: Path) -> None:
    """Refuses a folder to which no page can be written, before any work is done for it.

    Args:
        folder: Where a page is to be; it need not exist.

    Raises:
        BadInputError: If there is a `report.html` that isn't a page of ours, such as a link to one.
    """
    page, aside = folder / PAGE, folder / WRITING
    for place, is_ours in ((page, _is_page(page)), (aside, aside.is_file() and not aside.is_symlink())):
        if os.path.lexists(place) and not is_ours:
            raise BadInputError(f"{place} is not a page of this program; move it, or choose another --output_dir")


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keeps a second `report` from writing into the same file aside; the lock is the folder's, and leaves nothing."""
    with naming(folder / PAGE):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise BadInputError(f"{folder / PAGE}: another process is writing it; wait for its end") from None
    except OSError:  # a disk without locks
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def write_page(
    folder: Path,
    title: str,
    paragraphs: Sequence[str],
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    studies: Sequence[StudyOnPage],
    all_thumbnails: bool,
    seed: int = 0,
) -> None:
    """Writes `report.html`, whole or not at all, in the place of an older one.

    Args:
        folder: Where.
        title: The heading.
        paragraphs: The words below it.
        tables: The statistics.
        pictures: Those that don't move, as PNG.
        studies: The living part.
        all_thumbnails: Whether every example gets a thumbnail, rather than a choice of them.
        seed: Of that choice.

    Raises:
        BadInputError: If `require_free` refuses the folder, another process writes there, or plotly isn't installed.
        StorageError: If it can't be written; the older page is as it was.
    """
    require_free(folder)
    scripts = [_plotly(), _browser_text("report.js")]
    head, end = _browser_text(PAGE).split("$data\n")
    beginning = Template(head).substitute(
        # Only these two run, whatever else a page may have come to hold.
        scripts=" ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts),
        style=_browser_text("report.css"),
        title=escape(title),
        paragraphs="\n".join(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs),
        tables=_section("Statistics", "tables", [_table(table) for table in tables]),
        pictures=_section("Pictures", "pictures", [_picture(picture) for picture in pictures]),
    )

    def parts() -> Iterator[str]:
        yield beginning
        numbers: dict[tuple[int, int], int] = {}
        chosen = choose([study.examples for study in studies], all_thumbnails, seed)
        yield from _block("thumbnails", _thumbnail_lines(studies, chosen, numbers))
        found = [
            _study_data(study, [numbers.get((number, position)) for position in range(len(study.examples))])
            for number, study in enumerate(studies)
        ]
        yield from _block("studies", [f"[{','.join(found)}]"])
        for number, study in enumerate(studies):
            if study.losses_of is not None:
                yield from _block(f"curves-{number}", _curve_lines(study, study.losses_of))
        yield from (f"<script>{script}</script>\n" for script in scripts)
        yield end

    with _alone_in(folder):
        write_atomic(folder / PAGE, (part.encode("utf-8", "replace") for part in parts()), aside=WRITING)
    if os.path.lexists(folder / "report" / "page.json"):
        log.warning("%s is of an earlier version's page; %s doesn't need it", folder / "report", PAGE)


def _is_page(file: Path) -> bool:
    with contextlib.suppress(OSError, OutsideError), open_regular(file, links=False) as (descriptor, _):
        return GENERATOR in os.read(descriptor, WITHIN)
    return False


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
        f'<figure class="box"><img src="{_data_uri("png", picture.data)}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def _block(name: str, lines: Iterable[str]) -> Iterator[str]:
    """Data that the page's script finds by this name; the browser neither runs nor parses them."""
    yield f'<script type="text/plain" id="{name}">'
    yield from lines
    yield "</script>\n"


def _thumbnail_lines(
    studies: Sequence[StudyOnPage], chosen: Sequence[tuple[int, int]], numbers: dict[tuple[int, int], int]
) -> Iterator[str]:
    """A thumbnail a line, an empty one where an image can't be read; which line is whose goes to `numbers`."""
    made: dict[Path, int] = {}  # studies of the same images share them
    for place in progress_bar(chosen, "thumbnails", unit="image"):
        image_file = studies[place[0]].image_of(place[1])
        if image_file is None:
            continue
        if image_file not in made:
            made[image_file] = len(made)
            small = thumbnail(image_file)
            yield "\n" if small is None else f"{_data_uri(*small)}\n"
        numbers[place] = made[image_file]


def _curve_lines(study: StudyOnPage, losses_of: Callable[[int], Losses]) -> Iterator[str]:
    """The curve of an example a line, so that the page can parse one alone; null where there is none."""
    steps = kept_steps(study.limit)
    for position in progress_bar(range(len(study.examples)), "loss curves", unit="curve"):
        try:
            curve = thinned(losses_of(position)[: study.limit], steps)  # no more than is counted
        except (OSError, ValueError):
            curve = None
        yield f"{_json(curve)}\n"


def _study_data(study: StudyOnPage, thumbnails: Sequence[int | None]) -> str:
    missed = study.examples["not_reached"].astype(bool)
    outcome = study.examples["outcome"].astype(str)
    # Cut at the smallest limit of some studies, an example may have reached epsilon later than what is counted here.
    outcome = outcome.mask(missed & (outcome == "reached"), "censored")
    frame = study.examples.assign(steps=study.examples["steps"].mask(missed))
    numbers: dict[str, Sequence[float | None]] = {
        "index": _numbers(frame, "example_index"),
        "steps": _numbers(frame, "steps"),
        "rank": _numbers(frame, "universal_difficulty_rank"),
        "label": _numbers(frame, "label"),
        "before": _numbers(frame, "predicted_before"),
        "initial": _numbers(frame, "initial_loss"),
        "final": _numbers(frame, "final_loss"),
        "thumbnail": thumbnails,
    }
    used = {*numbers["label"], *numbers["before"]}
    texts = {
        "name": study.name,
        "epsilon": study.epsilon if math.isfinite(study.epsilon) else None,
        "limit": study.limit,
        "thresholds": study.thresholds,
        "curveSteps": None if study.losses_of is None else kept_steps(study.limit),
        "classes": {index: name for index, name in study.class_names.items() if index in used},
        "path": frame["path"].astype(str).tolist(),
        "outcome": outcome.tolist(),
    }
    # JSON has no word for an infinite loss, but too large a number is one.
    return f'{{"texts":{_json(texts)},"numbers":{_json(numbers).replace("Infinity", "1e999")}}}'


def _json(value: object) -> str:
    # ASCII alone, so that U+2028 and broken surrogates are escaped too.
    return json.dumps(value, separators=(",", ":")).translate(_ESCAPES)


def _numbers(frame: pd.DataFrame, column: str) -> list[float | None]:
    if column not in frame:
        return [None] * len(frame)
    values = frame[column].astype("Float64").to_numpy(dtype=float, na_value=math.nan).tolist()
    return [None if math.isnan(value) else int(value) if value.is_integer() else value for value in values]


def _browser_text(name: str) -> str:
    return (resources.files(__package__) / "browser" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    package = importlib.util.find_spec("plotly")  # found, not imported, which takes seconds
    for place in package.submodule_search_locations or [] if package else []:
        script = Path(place) / "package_data" / "plotly.min.js"
        if script.is_file():
            return script.read_text(encoding="utf-8")
    raise BadInputError(
        "the page needs plotly.js of the Python package plotly, which isn't installed: pip install plotly"
    )
