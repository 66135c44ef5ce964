"""Writes the page: whole, or not at all."""

import hashlib
import importlib.util
import shutil
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from lightning_app.console.progress import progress_bar
from lightning_app.errors import BadInputError
from lightning_app.files import naming
from lightning_app.report.page import swap
from lightning_app.report.page.content import Picture, StudyOnPage, Table
from lightning_app.report.page.curves import curve_files
from lightning_app.report.page.markup import page_html
from lightning_app.report.page.scripts import curves_script, study_data, study_script
from lightning_app.report.page.thumbnails import choose, thumbnail

PAGE = swap.PAGE


def require_free(folder: Path) -> None:
    """Refuses a folder to which no page can be written, before any work is done for it.

    Args:
        folder: Where a page is to be; it need not exist.

    Raises:
        BadInputError: If there is a `report.html` or a folder `report/` that isn't a page's, or another process writes
            a page there.
    """
    if folder.is_dir():
        with swap.locked(folder):
            swap.refuse_foreign(folder)


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
    """Writes `report.html` and the folder `report/` beside it; an older page is replaced at the end.

    Args:
        folder: Where.
        title: The heading.
        paragraphs: The words below it.
        tables: The statistics.
        pictures: Those that don't move.
        studies: The living part.
        all_thumbnails: Whether every example gets a thumbnail, rather than a choice of them.
        seed: Of that choice.

    Raises:
        BadInputError: If `require_free` refuses the folder, a user's file in `report/` is in the way, or plotly isn't
            installed.
        StorageError: If a file can't be written; the older page is as it was.
    """
    html_with = partial(page_html, _browser_text(PAGE), title, paragraphs, tables, pictures, len(studies))

    def fill(writing: Path) -> str:
        _put_the_same(writing, pictures)
        names = _put_thumbnails(writing / "thumbnails", studies, choose(studies, all_thumbnails, seed))
        data = [
            study_data(study, [names.get((number, position)) for position in range(len(study.examples))])
            for number, study in enumerate(studies)
        ]
        # Of the content, so that a page written again is the same to the byte.
        token = hashlib.sha256("\0".join([html_with(""), *data]).encode("utf-8", "replace")).hexdigest()[:16]
        for number, each in enumerate(data):
            _put(writing / f"study-{number}.js", study_script(number, token, each))
        _put_curves(writing / "curves", studies, token)
        return html_with(token)

    swap.replace_page(folder, fill)


def _put_the_same(folder: Path, pictures: Sequence[Picture]) -> None:
    for name in ("examples.js", "report.js", "report.css"):
        _put(folder / name, _browser_text(name).encode())
    _copy_plotly(folder / "plotly.min.js")
    for picture in pictures:
        _put(folder / picture.name, picture.data)


def _put_thumbnails(
    folder: Path, studies: Sequence[StudyOnPage], chosen: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    names: dict[tuple[int, int], str] = {}
    made: dict[Path, str | None] = {}  # studies of the same images share them
    for number, position in progress_bar(chosen, "thumbnails", unit="image"):
        image_file = studies[number].image_of(position)
        if image_file is None:
            continue
        if image_file not in made:
            small = thumbnail(image_file)
            made[image_file] = None if small is None else f"{len(made)}.{small[1]}"
            if small is not None:
                _put(folder / f"{made[image_file]}", small[0])
        name = made[image_file]
        if name is not None:
            names[number, position] = name
    return names


def _put_curves(folder: Path, studies: Sequence[StudyOnPage], token: str) -> None:
    with_curves = [(number, study) for number, study in enumerate(studies) if study.losses_of is not None]
    total = sum(len(study.examples) for _, study in with_curves)
    with progress_bar(total=total, desc="loss curves", unit="curve") as bar:
        for number, study in with_curves:
            for file_number, curves in enumerate(curve_files(study)):
                _put(folder / f"{number}-{file_number}.js", curves_script(number, file_number, token, curves))
                bar.update(len(curves))


def _put(file: Path, data: bytes) -> None:
    with naming(file):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)


def _browser_text(name: str) -> str:
    return (resources.files(__package__) / "browser" / name).read_text(encoding="utf-8")


def _copy_plotly(file: Path) -> None:
    package = importlib.util.find_spec("plotly")  # found, not imported, which takes seconds
    for place in package.submodule_search_locations or [] if package else []:
        script = Path(place) / "package_data" / "plotly.min.js"
        if script.is_file():
            with naming(file):
                shutil.copyfile(script, file)
            return
    raise BadInputError(
        "the page needs plotly.js of the Python package plotly, which isn't installed: pip install plotly"
    )
