"""Puts a study to rest: table, step logs, picture, summary, all from its log. It trains nothing and needs no torch."""

import contextlib
import logging
import math

from lightning_app.analysis.drawing import drawn
from lightning_app.analysis.load import Study, frame_of
from lightning_app.analysis.summary import Closing, close, words
from lightning_app.data.environment import VERSIONS
from lightning_app.files import json_text
from lightning_app.store.export import rows_of
from lightning_app.store.files import PICTURE, SUMMARY
from lightning_app.store.study import StoredStudy
from lightning_app.store.writer import StudyFolder, is_at_rest

log = logging.getLogger("lightning_app")


def conclude(folder: StudyFolder) -> Closing:
    """Makes all that people read equal to the log. All but the table speak of the sample alone.

    Args:
        folder: Of the study.

    Returns:
        The closing statistics.

    Raises:
        StorageError: If it can't be written.
    """
    stored = folder.study
    at_rest = is_at_rest(stored)
    everything = [row for row, _ in rows_of(stored)] if at_rest else folder.export()
    rows = [row for row in everything if row["path"] in stored.sampled]
    limit = stored.target.max_steps_per_example
    study = Study(folder.folder.name, folder.folder, frame_of(rows), stored.epsilon, limit)
    closing = close(study)
    if at_rest:
        return closing
    if picture := drawn("steps_vs_difficulty", study, closing):
        folder.replace(PICTURE, picture["png"])
    else:
        with contextlib.suppress(OSError):  # one that is there is of another table
            (folder.folder / PICTURE).unlink()
    environments = stored.environments_in_use
    seconds = [row["seconds"] for row in rows]
    summary = {
        "settings": stored.command.settings,
        "counts": {
            **stored.command.counts,
            "sampled": len(stored.sampled),
            "done": len(stored.sampled) - stored.left,
            "beyond_the_sample": len(everything) - len(rows),
            **closing.counts,
        },
        "statistics": closing.as_dict(),
        "ranking": stored.command.ranking,
        "versions": {name: environments[-1][name] for name in VERSIONS if name in environments[-1]},
        "environments": environments,
        "results": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
        "timing": {
            "store_bytes": stored.size,
            "seconds": math.fsum(spent for spent in seconds if isinstance(spent, float)),
            "steps": sum(line.steps for line in stored.sample),
            "seconds_by_example": seconds,
        },
    }
    folder.replace(SUMMARY, json_text(summary).encode())
    return closing


def say_closing(closing: Closing, stored: StoredStudy) -> None:
    """Prints the closing table, and what is odd about it."""
    log.info("%s\n\nEverything is in %s", words(closing), stored.file.parent)
    if closing.limit < stored.target.max_steps_per_example:
        log.warning("some rows were censored at %d steps and are still to be trained again: until then the table takes"
                    " every row as it stood at that step", closing.limit)  # fmt: skip
    if len(stored.environments_in_use) > 1:
        log.warning("the rows were made in %d environments; the summary names them",
                    len(stored.environments_in_use))  # fmt: skip
