"""The page's data as script files: a page opened from disk may load scripts, but not fetch anything."""

import json
import math
from collections.abc import Sequence

import pandas as pd

from lightning_app.page.content import StudyOnPage
from lightning_app.page.curves import CURVES_A_FILE, Curve, kept_steps

_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})

Number = int | float | None


def study_script(study: StudyOnPage, thumbnails: Sequence[str | None]) -> bytes:
    """A script that hands a study and its examples to the page.

    Args:
        study: Which.
        thumbnails: For each example the name of its thumbnail, or None.
    """
    frame = study.examples
    label, before = _numbers(frame, "label"), _numbers(frame, "predicted_before")
    used = {int(index) for index in (*label, *before) if index is not None}
    return _call(
        "study",
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
            "outcome": frame["outcome"].astype(str).tolist(),
            "steps": [
                None if missed else steps
                for missed, steps in zip(frame["not_reached"].tolist(), _numbers(frame, "steps"), strict=True)
            ],
            "rank": _numbers(frame, "universal_difficulty_rank"),
            "label": label,
            "before": before,
            "initial": _numbers(frame, "initial_loss"),
            "final": _numbers(frame, "final_loss"),
            "thumbnail": list(thumbnails),
        },
    )


def curves_script(study_number: int, file_number: int, curves: Sequence[Curve | None]) -> bytes:
    """A script that hands some curves of a study to the page.

    Args:
        study_number: The study's place on the page.
        file_number: The file's place among those of the study.
        curves: Those of consecutive examples.
    """
    return _call("curves", study_number, file_number, list(curves))


def _call(function: str, *arguments: object) -> bytes:
    # ASCII alone, so that U+2028 and broken surrogates are escaped too; an infinite loss is JavaScript's Infinity.
    texts = (json.dumps(argument, separators=(",", ":")).translate(_ESCAPES) for argument in arguments)
    return f"StepsReport.{function}({','.join(texts)});\n".encode("ascii")


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
