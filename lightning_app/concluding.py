"""Puts a study to rest: sorted table, summary, picture. It trains nothing and needs no torch."""

import contextlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lightning_app.analysis.closing import Closing, close
from lightning_app.analysis.closing_words import words
from lightning_app.analysis.drawing import drawn
from lightning_app.analysis.reading import Study, frame_of
from lightning_app.results.fingerprint import versions
from lightning_app.results.records import steps_of
from lightning_app.results.resuming import gave_up_earlier
from lightning_app.results.run_folder import RunFolder
from lightning_app.results.study_files import PICTURE, SUMMARY
from lightning_app.whole_files import json_text

log = logging.getLogger("lightning_app")


@dataclass(frozen=True)
class Account:
    """What a study's summary says beside its rows.

    Args:
        settings: Those that a number depends on.
        counts: Of images; `sampled` is the size of the sample.
        ranking: What is known of it.
        epsilon: Loss to reach.
        max_steps: Steps after which an example was given up.
    """

    settings: Mapping[str, object]
    counts: Mapping[str, int]
    ranking: Mapping[str, object] | None
    epsilon: float
    max_steps: int


def conclude(account: Account, beyond: Collection[str], folder: RunFolder, seconds: float) -> tuple[Closing, int]:
    """Writes what is there at the end. All but the table speak of the sample alone.

    Args:
        account: Of the study.
        beyond: Paths of the rows that are not in the sample.
        folder: Of the study.
        seconds: That its training took.

    Returns:
        The closing statistics, and how many examples of the sample are left.
    """
    folder.rest()
    rows = [row for path, row in folder.rows.items() if path not in beyond]
    study = Study(folder.folder.name, folder.folder, frame_of(rows), account.epsilon, account.max_steps)
    closing = close(study)
    done = sum(not gave_up_earlier(row, account.max_steps) for row in rows)
    summary = {
        "settings": account.settings,
        "counts": {**account.counts, "done": done, "beyond_the_sample": len(beyond), **closing.counts},
        "statistics": closing.as_dict(),
        "ranking": account.ranking,
        "versions": versions(),
        "environments": [stretch.environment for stretch in folder.fingerprint.stretches],
        "results": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
        "timing": {
            "seconds": seconds,
            "steps": sum(map(steps_of, rows)),
            "seconds_by_example": [row["seconds"] for row in rows],
        },
    }
    folder.replace(SUMMARY, json_text(summary).encode())
    picture = drawn("steps_vs_difficulty", study, closing)
    if picture:
        folder.replace(PICTURE, picture["png"])
    else:
        with contextlib.suppress(OSError):  # one that is there is of another table
            (folder.folder / PICTURE).unlink()
    return closing, account.counts["sampled"] - done


def say_closing(account: Account, closing: Closing, folder: RunFolder) -> None:
    """Prints the closing table, and what is odd about it."""
    log.info("%s\n\nEverything is in %s", words(closing), folder.folder)
    if closing.limit < account.max_steps:
        log.warning("some rows were censored at %d steps and are still to be trained again: until then the table takes"
                    " every row as it stood at that step", closing.limit)  # fmt: skip
    if len(folder.fingerprint.stretches) > 1:
        log.warning("the rows were made in %d environments; the summary names them",
                    len(folder.fingerprint.stretches))  # fmt: skip
