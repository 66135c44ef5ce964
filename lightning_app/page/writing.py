"""Writes the page: whole, or not at all."""

import importlib.util
import shutil
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from tqdm import tqdm

from lightning_app.errors import BadInputError
from lightning_app.page.content import Picture, StudyOnPage, Table
from lightning_app.page.curves import curve_files
from lightning_app.page.markup import page_html
from lightning_app.page.scripts import curves_script, study_script
from lightning_app.page.thumbnails import choose, thumbnail
from lightning_app.progress import seconds_between_bars
from lightning_app.whole_files import flush_folder, naming, write_whole

PAGE = "report.html"
FOLDER = "report"
MARK = "report.js"
"""A folder `report/` without this file is somebody else's."""


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
        BadInputError: If there is a folder `report/` that isn't a page's, or plotly isn't installed.
        StorageError: If a file can't be written; the older page is as it was.
    """
    finished, writing, old = folder / FOLDER, folder / f".{FOLDER}.writing", folder / f".{FOLDER}.old"
    if finished.is_symlink() or (finished.exists() and not (finished / MARK).is_file()):
        raise BadInputError(
            f"{finished} is not the folder of a page (no {MARK} in it); move it, or choose another --output_dir"
        )
    study_files = [f"study-{number}.js" for number in range(len(studies))]
    html = page_html(_browser_text(PAGE), title, paragraphs, tables, pictures, study_files)
    try:
        with naming(writing):
            _remove(writing)
            writing.mkdir()
        _fill(writing, pictures, studies, choose(studies, all_thumbnails, seed))
        with naming(finished):
            flush_folder(writing)
            _replace_page(folder, finished, writing, old, html)
    finally:
        shutil.rmtree(writing, ignore_errors=True)


def _replace_page(folder: Path, finished: Path, writing: Path, old: Path, html: str) -> None:
    if finished.exists():
        _remove(old)
        finished.rename(old)
    # Else a killed run may have left the older folder aside; it stays until the page is whole again.
    try:
        writing.rename(finished)
        write_whole(folder / PAGE, html.encode("utf-8", "replace"))
    except BaseException:
        if finished.exists():
            finished.rename(writing)
        if old.exists():
            old.rename(finished)
        raise
    _remove(old)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _fill(
    folder: Path, pictures: Sequence[Picture], studies: Sequence[StudyOnPage], chosen: Sequence[tuple[int, int]]
) -> None:
    for name in ("examples.js", "report.js", "report.css"):
        _put(folder / name, _browser_text(name).encode())
    _copy_plotly(folder / "plotly.min.js")
    for picture in pictures:
        _put(folder / picture.name, picture.data)
    names = _put_thumbnails(folder / "thumbnails", studies, chosen)
    for number, study in enumerate(studies):
        thumbnails = [names.get((number, position)) for position in range(len(study.examples))]
        _put(folder / f"study-{number}.js", study_script(study, thumbnails))
    _put_curves(folder / "curves", studies)


def _put_thumbnails(
    folder: Path, studies: Sequence[StudyOnPage], chosen: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], str]:
    with naming(folder):
        folder.mkdir()
    names: dict[tuple[int, int], str] = {}
    made: dict[Path, str | None] = {}  # studies of the same images share them
    for number, position in tqdm(
        chosen, "thumbnails", unit="image", leave=False, file=sys.stderr, mininterval=seconds_between_bars()
    ):
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


def _put_curves(folder: Path, studies: Sequence[StudyOnPage]) -> None:
    with naming(folder):
        folder.mkdir()
    with_curves = [(number, study) for number, study in enumerate(studies) if study.losses_of is not None]
    with tqdm(
        total=sum(len(study.examples) for _, study in with_curves),
        desc="loss curves",
        unit="curve",
        leave=False,
        file=sys.stderr,
        mininterval=seconds_between_bars(),
    ) as bar:
        for number, study in with_curves:
            for file_number, curves in enumerate(curve_files(study)):
                _put(folder / f"{number}-{file_number}.js", curves_script(number, file_number, curves))
                bar.update(len(curves))


def _put(file: Path, data: bytes) -> None:
    with naming(file):
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
