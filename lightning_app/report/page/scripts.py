"""The page's data as script files: a page opened from disk may load scripts, but not fetch anything."""

import json
import math
from collections.abc import Sequence

import pandas as pd

from lightning_app.report.page.content import StudyOnPage
from lightning_app.report.page.curves import CURVES_A_FILE, Curve, kept_steps

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})

Number = int | float | None


def study_data(study: StudyOnPage, thumbnails: Sequence[str | None]) -> str:
    """A study and its examples, as JavaScript.

    Args:
        study: Which.
        thumbnails: For each example the name of its thumbnail, or None.
    """
    frame = study.examples
    label, before = _numbers(frame, "label"), _numbers(frame, "predicted_before")
    used = {int(index) for index in (*label, *before) if index is not None}
    missed = frame["not_reached"].astype(bool)
    # Cut at the smallest limit of some studies, an example may have reached epsilon later than what is counted here.
    outcome = frame["outcome"].astype(str).mask(missed & (frame["outcome"] == "reached"), "censored")
    return _literal(
        {
            "name": study.name,
            "epsilon": study.epsilon if math.isfinite(study.epsilon) else None,
            "limit": study.limit,
            "thresholds": list(study.thresholds),
            "curveSteps": None if study.losses_of is None else kept_steps(study.limit),
            "curvesAFile": CURVES_A_FILE,
            "classes": {index: name for index, name in study.class_names.items() if index in used},
            "index": _numbers(frame, "example_index"),
            "path": frame["path"].astype(str).tolist(),
            "outcome": outcome.tolist(),
            "steps": [
                None if is_missed else steps
                for is_missed, steps in zip(missed.tolist(), _numbers(frame, "steps"), strict=True)
            ],
            "rank": _numbers(frame, "universal_difficulty_rank"),
            "label": label,
            "before": before,
            "initial": _numbers(frame, "initial_loss"),
            "final": _numbers(frame, "final_loss"),
            "thumbnail": list(thumbnails),
        }
    )


def study_script(number: int, token: str, data: str) -> bytes:
    """A script that hands a study to the page.

    Args:
        number: The study's place on the page.
        token: That of the page.
        data: The study, from `study_data`.
    """
    return _call("study", _literal(number), _literal(token), data)


def curves_script(study_number: int, file_number: int, token: str, curves: Sequence[Curve | None]) -> bytes:
    """A script that hands some curves of a study to the page.

    Args:
        study_number: The study's place on the page.
        file_number: The file's place among those of the study.
        token: That of the page.
        curves: Those of consecutive examples.
    """
    return _call("curves", *(_literal(each) for each in (study_number, file_number, token, list(curves))))


def _call(function: str, *literals: str) -> bytes:
    return f"StepsReport.{function}({','.join(literals)});\n".encode("ascii")


def _literal(value: object) -> str:
    # ASCII alone, so that U+2028 and broken surrogates are escaped too; an infinite loss is JavaScript's Infinity.
    return json.dumps(value, separators=(",", ":")).translate(_ESCAPES)


def _numbers(frame: pd.DataFrame, column: str) -> list[Number]:
    if column not in frame:
        return [None] * len(frame)
    return [
        _number(value) for value in frame[column].astype("Float64").to_numpy(dtype=float, na_value=math.nan).tolist()
    ]


def _number(value: float) -> Number:
    if math.isnan(value):
        return None
    return int(value) if value.is_integer() else value
