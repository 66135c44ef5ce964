import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lightning_app.analysis.closing import Closing, ThresholdLine, answer, close, load_results, words
from lightning_app.analysis.plots import steps_vs_difficulty
from lightning_app.analysis.statistics import Correlation
from lightning_app.csv_text import csv_text
from lightning_app.inputs.example import Example
from lightning_app.results.records import COLUMNS, row_of, row_text
from lightning_app.training.trajectory import Failure, Trajectory


def results(folder: Path, steps: list[int | None], limit: int, epsilon: float = 0.01) -> pd.DataFrame:
    """A table in which example i takes steps[i]: -1 never, None an error; harder ones come later."""
    text = csv_text([COLUMNS])
    for i, count in enumerate(steps):
        example = Example(i, f"NA/{i},x.jpg", Path("x"), 1, 10 * (i + 1))
        if count is None:
            text += row_text(row_of(Failure(example, "broken"), epsilon))
            continue
        losses = [0.5] * (limit if count < 0 else count - 1) + ([] if count < 0 else [0.005])
        outcome = "censored" if count < 0 else "reached"
        text += row_text(row_of(Trajectory(example, outcome, losses, 0, 1, 0.1, 0.1), epsilon))  # type: ignore[arg-type]
    (folder / "r.csv").write_text(text)
    return load_results(folder / "r.csv")


def closing(folder: Path, steps: list[int | None], limit: int = 100) -> Closing:
    return close(results(folder, steps, limit), 0.01, limit)


def test_results_read_back(tmp_path: Path) -> None:
    frame = results(tmp_path, [3, -1, None], 9)
    assert frame["path"].tolist() == ["NA/0,x.jpg", "NA/1,x.jpg", "NA/2,x.jpg"]
    assert frame["total_steps_to_epsilon"].tolist() == [3, -1, -1]
    assert frame["outcome"].tolist() == ["reached", "censored", "error"]
    assert math.isnan(frame["final_loss"][2])


def test_counts_medians_and_correlation(tmp_path: Path) -> None:
    result = closing(tmp_path, [2, 4, None, 3, 8, -1])
    assert result.counts == {"reached": 4, "censored": 1, "diverged": 0, "error": 1}
    assert [line.name for line in result.lines] == ["ln2", "1e-1", "epsilon"]
    line = result.at_epsilon
    assert (line.reached, line.median_steps, line.correlation.n) == (4, 4, 5)
    assert line.correlation.rho == pytest.approx(0.9)  # 2 4 3 8 101 against 10 20 40 50 60
    assert result.as_dict()["epsilon"] == {
        "threshold": 0.01, "n": 5, "reached": 4, "median_steps": 4.0, "spearman": line.correlation.rho,
        "spearman_low": line.correlation.low, "spearman_high": line.correlation.high,
    }  # fmt: skip


def test_a_median_among_the_not_reached_is_above_the_limit(tmp_path: Path) -> None:
    result = closing(tmp_path, [2, -1, -1])
    assert math.isinf(result.at_epsilon.median_steps)
    assert "> 100" in words(result)


def test_when_most_are_censored_it_says_what_to_change(tmp_path: Path) -> None:
    text = words(closing(tmp_path, [2, -1, -1, -1]))
    assert "Most examples (3 of 4) did not reach a loss of 0.01 in 100 steps" in text
    assert "no threshold below ln 2 was reached by half of them" in text
    for flag in ("--epsilon", "--lr", "--max_steps_per_example"):
        assert flag in text
    assert "Most examples" not in words(closing(tmp_path, [2, 3, -1, -1]))


@pytest.mark.parametrize("steps", [[None], [None, None], [2], [-1]])
def test_studies_that_say_nothing_are_told_without_a_number(tmp_path: Path, steps: list[int | None]) -> None:
    assert "undefined (n = " in words(closing(tmp_path, steps))


@pytest.mark.parametrize("steps", [[2, 40, -1, None], [None], [-1, -1], [1]])
def test_the_picture_is_drawn_and_the_same_twice(tmp_path: Path, steps: list[int | None]) -> None:
    frame = results(tmp_path, steps, 100)
    result = close(frame, 0.01, 100)
    picture = steps_vs_difficulty(frame, result, "m")
    assert picture == steps_vs_difficulty(frame, result, "m")
    with Image.open(io.BytesIO(picture)) as image:
        assert image.size == (1200, 900)
        pixels = np.asarray(image.convert("RGB"))
    orange = (pixels == [0xD5, 0x5E, 0x00]).all(axis=2).any()
    assert orange == (-1 in steps)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Correlation(100, 0.37, 0.18, 0.53), "harder images tend to take more steps to a loss of 0.01: Spearman +0.37"),
        (
            Correlation(100, -0.37, -0.53, -0.18),
            "harder images tend to take fewer steps to a loss of 0.01: Spearman -0.37",
        ),
        (Correlation(40, 0.1, -0.2, 0.4), "40 images can't tell whether harder ones take more steps to a loss of 0.01"),
        (Correlation(3, 0.5, math.nan, math.nan), "too few images to say whether harder ones take more steps (n = 3)"),
    ],
)
def test_the_answer_in_a_sentence(found: Correlation, sentence: str) -> None:
    line = ThresholdLine("epsilon", 0.01, found.n, 10.0, found)
    assert answer(Closing(0.01, 100, {}, (line,))).startswith(sentence)
