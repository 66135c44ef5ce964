"""A report, in the order of its steps: read, count, say, draw, write the page."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lightning_app.analysis.drawing import drawn
from lightning_app.analysis.load import Study, open_studies
from lightning_app.analysis.statistics import Estimate, not_reached_on_top
from lightning_app.analysis.summary import Summary, step_rankings_agree, summarize
from lightning_app.data.images import find_images
from lightning_app.data.ranking import RankedPath
from lightning_app.errors import BadInputError
from lightning_app.files import file_name, naming, write_atomic
from lightning_app.report.page import PAGE, Picture, StudyOnPage, Table, require_free, write_page
from lightning_app.report.tables import tables
from lightning_app.report.text import paragraphs, side_by_side

log = logging.getLogger("lightning_app")

PICTURES = "report_pictures"
MAX_NAME = 100
"""Of a study's in the name of a picture's file: a file system takes 255 characters in all."""


@dataclass(frozen=True)
class Report:
    """A report's numbers and words.

    Args:
        studies: As they were read.
        summaries: The statistics of each.
        agreement: Of the step rankings of every two.
    """

    studies: Sequence[Study]
    summaries: Sequence[Summary]
    agreement: Sequence[tuple[str, str, Estimate]]

    @property
    def paragraphs(self) -> list[str]:
        """It in words."""
        each = [text for pair in zip(self.studies, self.summaries, strict=True) for text in paragraphs(*pair)]
        return [side_by_side(self.studies, self.summaries, self.agreement), *each] if len(self.studies) > 1 else each

    @property
    def tables(self) -> list[Table]:
        """It in tables."""
        return tables(self.studies, self.summaries, self.agreement)

    def as_dict(self) -> dict[str, object]:
        """It for programs."""
        return {
            "words": self.paragraphs,
            "studies": {
                study.name: {
                    "place": str(study.place),
                    "model_name": study.metadata.model_name,
                    "examples_left": study.metadata.left,
                    "ranking_ceiling": study.metadata.ceiling,
                    "statistics": summary.as_dict(),
                }
                for study, summary in zip(self.studies, self.summaries, strict=True)
            },
            "step_rankings_agree": [
                {"studies": [one, other], "n": found.n, "spearman": found.as_dict()}
                for one, other, found in self.agreement
            ],
        }


def read_report(places: Sequence[Path], epsilons: Sequence[float] = ()) -> Report:
    """Reads the studies and computes their statistics.

    Args:
        places: Results folders or CSV files.
        epsilons: More thresholds, from the losses.

    Raises:
        BadInputError: If one of them can't be read or used.
    """
    studies = open_studies(places, epsilons)
    return Report(studies, [summarize(study) for study in studies], step_rankings_agree(studies))


def write_report(
    report: Report,
    folder: Path,
    on_page: Sequence[StudyOnPage],
    kinds: Sequence[str] = (),
    all_thumbnails: bool = False,
) -> Path:
    """Draws the pictures and writes the page, and the pictures as files where they are asked for.

    Args:
        report: What it says.
        folder: Where `report.html` goes, and `report_pictures/` if files are asked for.
        on_page: The studies' living part.
        kinds: `png`, `svg`, `pdf`: each picture is a file in these forms too.
        all_thumbnails: Of all examples, not of 2,000.

    Returns:
        The page.

    Raises:
        BadInputError: If the folder can't be used.
        StorageError: If a file can't be written; an older page is as it was.
    """
    require_place(folder, kinds)
    found = pictures(report, kinds)
    shown = [picture for picture in found if picture.name.endswith(".png")]
    title = f"Steps to epsilon: {', '.join(study.name for study in report.studies)}"
    write_page(folder, title, report.paragraphs, report.tables, shown, on_page, all_thumbnails)
    if kinds:
        with naming(folder / PICTURES):
            (folder / PICTURES).mkdir(exist_ok=True)
    for picture in found:
        if picture.name.endswith(tuple(kinds)):
            write_atomic(folder / PICTURES / picture.name, picture.data)
    return folder / PAGE


def require_place(folder: Path, kinds: Sequence[str] = ()) -> None:
    """Makes the page's folder, and sees that the page can be written there, and the files of the pictures if there are.

    Raises:
        BadInputError: If it can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"--output_dir: {folder} can't be written: {error.strerror}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise BadInputError(f"--output_dir: {folder} can't be written to; choose another one")
    require_free(folder)
    place = folder / PICTURES
    if kinds and os.path.lexists(place) and (place.is_symlink() or not place.is_dir()):
        raise BadInputError(
            f"{place} is a {'link' if place.is_symlink() else 'file'}; move it, or choose another --output_dir"
        )


def pictures(report: Report, kinds: Sequence[str]) -> list[Picture]:
    """Every picture that the report has something for, as PNG and in the other forms that are asked for."""
    found: list[Picture] = []

    def draw(name: str, prefix: str, caption: str, *of: object) -> None:
        for kind, data in drawn(name, *of, kinds=tuple(dict.fromkeys(("png", *kinds)))).items():
            found.append(Picture(f"{prefix}{name}.{kind}", data, caption))

    for number, (study, summary) in enumerate(zip(report.studies, report.summaries, strict=True), start=1):
        prefix = f"{number}_{file_name(study.name)[:MAX_NAME]}_" if len(report.studies) > 1 else ""
        draw("steps_vs_difficulty", prefix, f"{study.name}: steps and difficulty", study, summary)
        draw("loss_curves", prefix, f"{study.name}: loss curves", study, summary)
        draw("survival", prefix, f"{study.name}: the share not there yet, by difficulty", study, summary)
    draw("correlation_over_thresholds", "", "Correlation over the thresholds", report.studies, report.summaries)
    return found


def studies_on_page(report: Report, root_dir: Path | None = None) -> list[StudyOnPage]:
    """The living part of the page; the images are looked for, and nothing is read but the tables.

    Args:
        report: Its studies.
        root_dir: Where the images are; by default where each study had them.

    Raises:
        BadInputError: If they were said to be where they are not.
    """
    return [_on_page(*pair, root_dir) for pair in zip(report.studies, report.summaries, strict=True)]


def _on_page(study: Study, summary: Summary, root_dir: Path | None) -> StudyOnPage:
    has_curves = study.without_losses < study.is_trained.sum()
    if has_curves and study.without_losses:
        log.warning("%s: %d of its examples have no step log, and no loss curve", study.name, study.without_losses)
    steps, limit = study.steps_to(), study.limit_in_force
    examples = study.trained.assign(steps=not_reached_on_top(steps, limit), not_reached=steps < 0)
    places = np.flatnonzero(study.is_trained)
    paths = examples["path"].tolist()
    images = _images(study, root_dir, paths)
    return StudyOnPage(
        name=study.name,
        examples=examples,
        epsilon=study.epsilon,
        limit=limit,
        thresholds=tuple(line.threshold for line in summary.lines if line.threshold == line.threshold),
        losses_of=(lambda place: study.losses_of(int(places[place]))) if has_curves else None,
        image_of=lambda place: images.get(paths[place]),
        class_names=class_names(examples),
    )


def _images(study: Study, root_dir: Path | None, paths: Sequence[str]) -> dict[str, Path]:
    """The files of the images, for thumbnails; a study is reported without them too."""
    root = root_dir or study.metadata.root_dir
    if not paths:
        return {}
    try:
        if root is not None and not root.is_dir():
            raise BadInputError(f"there is no folder {root}")
        found = find_images([RankedPath(path, place, 0) for place, path in enumerate(paths)], root)
    except (BadInputError, OSError) as error:
        if root_dir is not None:
            raise BadInputError(
                f"--root_dir {root_dir}: {str(error).removeprefix(f'--root_dir {root_dir}: ')}"
            ) from None
        where = f"below {root}" if root is not None else "at their paths"
        log.warning("%s: no thumbnails, for no image is found %s (such as %r); --root_dir says where they are",
                    study.name, where, paths[0])  # fmt: skip
        return {}
    if found.missing:
        log.warning("%s: %d of its images are not found and have no thumbnail", study.name, len(found.missing))
    return found.files


def class_names(examples: pd.DataFrame) -> dict[int, str]:
    """Class folders by label, where each label has one class folder and each folder one label."""
    if "label" not in examples:
        return {}
    known = examples[examples["label"].notna()]
    pairs = {
        (int(label), path.replace("\\", "/").split("/")[-2])
        for label, path in zip(known["label"], known["path"], strict=True)
        if "/" in path.replace("\\", "/")
    }
    labels, folders = {label for label, _ in pairs}, {folder for _, folder in pairs}
    return dict(sorted(pairs)) if len(labels) == len(folders) == len(pairs) else {}
