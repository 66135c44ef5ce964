import json
import math

import pandas as pd

from lightning_app.report.page.scripts import curves_script, study_data, study_script
from tests.report.page.making import CLASSES, HOSTILE, frame, study


def _content(data: str) -> dict[str, object]:
    script = study_script(3, "t0", data).decode("ascii")
    start = 'StepsReport.study(3,"t0",'
    assert script.startswith(start)
    assert script.endswith(");\n")
    content = json.loads(script[len(start) : -3])
    assert isinstance(content, dict)
    return content


def test_hostile_text_is_escaped_and_comes_back() -> None:
    data = study_data(study(frame(10), name="</script>&"), [None] * 10)
    assert data.isascii()
    assert not set("<>&") & set(data)
    content = _content(data)
    assert content["path"] == list(HOSTILE[:10])
    assert content["name"] == "</script>&"
    assert content["classes"] == {str(index): name for index, name in CLASSES.items()}


def test_numbers_are_unrounded_and_what_is_unknown_is_null() -> None:
    examples = frame(10)
    examples["label"] = pd.array([None, *range(9)], dtype="Int64")
    examples.loc[0, "initial_loss"] = math.nan
    examples.loc[1, "initial_loss"] = math.inf
    examples["universal_difficulty_rank"] = examples["universal_difficulty_rank"] + 0.5
    content = _content(study_data(study(examples.drop(columns="final_loss")), ["0.png", *[None] * 9]))
    assert content["label"] == [None, *range(9)]
    assert content["initial"][0] is None  # type: ignore[index]
    assert content["initial"][1:] == examples["initial_loss"].tolist()[1:]  # type: ignore[index]
    assert content["final"] == [None] * 10
    assert content["rank"] == examples["universal_difficulty_rank"].tolist()
    assert content["steps"] == [*examples["steps"].astype(int).tolist()[:9], None]
    assert content["thumbnail"] == ["0.png", *[None] * 9]
    assert set(content["classes"]) == {"0", "1", "2"}  # type: ignore[call-overload]


def test_what_was_reached_beyond_the_limit_in_force_is_censored() -> None:
    examples = frame(10).assign(outcome=["reached"] * 9 + ["diverged"])
    examples["not_reached"] = pd.array([False] * 7 + [True] * 3, dtype="boolean")
    content = _content(study_data(study(examples), [None] * 10))
    assert content["outcome"] == [*["reached"] * 7, *["censored"] * 2, "diverged"]
    assert content["steps"][7:] == [None] * 3  # type: ignore[index]


def test_curves_are_a_call() -> None:
    assert (
        curves_script(1, 2, "t0", [None, [2, [0.5, None]]]) == b'StepsReport.curves(1,2,"t0",[null,[2,[0.5,null]]]);\n'
    )
