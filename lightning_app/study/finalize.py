"""Puts a study to rest: table, step logs, picture, summary, all from its log. It trains nothing and needs no torch."""

import contextlib
import logging
import math

from lightning_app.analysis.drawing import drawn
from lightning_app.analysis.load import Study, frame_of
from lightning_app.analysis.summary import Summary, format_summary, summarize
from lightning_app.data.environment import VERSIONS
from lightning_app.files import json_text
from lightning_app.store.export import rows_of
from lightning_app.store.files import PICTURE, SUMMARY
from lightning_app.store.study_folder import StudyFolder, is_final
from lightning_app.store.study_log import StoredStudy

log = logging.getLogger("lightning_app")


def finalize(folder: StudyFolder) -> Summary:
    """Makes all that people read equal to the log. All but the table speak of the sample alone.

    Args:
        folder: Of the study.

    Returns:
        The statistics.

    Raises:
        StorageError: If it can't be written.
    """
    stored = folder.study
    is_done = is_final(stored)
    everything = [row for row, _ in rows_of(stored)] if is_done else folder.export()
    rows = [row for row in everything if row["path"] in stored.sampled]
    limit = stored.target.max_steps_per_example
    study = Study(folder.folder.name, folder.folder, frame_of(rows), stored.epsilon, limit)
    summary = summarize(study)
    if is_done:
        return summary
    if picture := drawn("steps_vs_difficulty", study, summary):
        folder.replace(PICTURE, picture["png"])
    else:
        with contextlib.suppress(OSError):  # one that is there is of another table
            (folder.folder / PICTURE).unlink()
    environments = stored.environments_in_use
    seconds = [row["seconds"] for row in rows]
    content = {
        "settings": stored.command.settings,
        "counts": {
            **stored.command.counts,
            "sampled": len(stored.sampled),
            "done": len(stored.sampled) - stored.left,
            "beyond_the_sample": len(everything) - len(rows),
            **summary.counts,
        },
        "statistics": summary.as_dict(),
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
    folder.replace(SUMMARY, json_text(content).encode())
    return summary


def log_summary(summary: Summary, stored: StoredStudy) -> None:
    """Prints the table of its end, and what is odd about it."""
    log.info("%s\n\nEverything is in %s", format_summary(summary), stored.file.parent)
    if summary.limit < stored.target.max_steps_per_example:
        log.warning("some rows were censored at %d steps and are still to be trained again: until then the table takes"
                    " every row as it stood at that step", summary.limit)  # fmt: skip
    if len(stored.environments_in_use) > 1:
        log.warning("the rows were made in %d environments; the summary names them",
                    len(stored.environments_in_use))  # fmt: skip
