from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from PIL import Image

from lightning_app.analysis.closing import close
from lightning_app.analysis.plots import BLUE, ORANGE, draw_steps_vs_difficulty, steps_vs_difficulty


def results() -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "total_steps_to_epsilon": [3, 40, -1, -1, -1, 12],
            "universal_difficulty_rank": [5, 9, 20, 21, 30, 31],
            "outcome": ["reached", "reached", "censored", "diverged", "error", "reached"],
            "steps_run": [3, 40, 200, 7, np.nan, 12],
        }
    )
    for name in ("ln2", "1e-1", "1e-2"):
        frame[f"steps_to_{name}"] = frame["total_steps_to_epsilon"]
    return frame


def test_the_picture_shows_what_was_reached_and_not_reached_at_the_limit() -> None:
    closing = close(results(), 0.01, 200)
    (axes,) = draw_steps_vs_difficulty(results(), closing, "tiny").axes
    reached, missed = (c for c in axes.collections if isinstance(c, PathCollection))
    assert np.asarray(reached.get_offsets()).tolist() == [[3, 5], [40, 9], [12, 31]]
    assert np.asarray(missed.get_offsets()).tolist() == [[200, 20], [200, 21]]  # an error has no place
    assert len(np.asarray(missed.get_facecolor())) == 0  # open
    assert len(np.asarray(missed.get_paths()[0].vertices)) == 3 + 1  # triangles, closed
    colours = np.asarray(reached.get_facecolor())[0], np.asarray(missed.get_edgecolor())[0]
    assert [to_hex(colour).upper() for colour in colours] == [BLUE, ORANGE]
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] < 1
    assert axes.get_xlim()[1] > 200
    assert axes.get_xlabel() == "Total SGD steps to a loss of 0.01"
    assert axes.get_ylabel() == "Universal difficulty rank (1 = easiest)"
    assert axes.get_title() == f"tiny\nSpearman {closing.at_epsilon.correlation}"
    assert "n = 5, 95 % interval" in axes.get_title()


def test_where_limits_differ_the_picture_ends_at_the_smallest() -> None:
    closing = close(results(), 0.01, 1000)
    assert closing.limit == 200
    frame = results().replace({"steps_run": {200: 20}})
    (axes,) = draw_steps_vs_difficulty(frame, close(frame, 0.01, 200), "tiny").axes
    reached, missed = (c for c in axes.collections if isinstance(c, PathCollection))
    assert np.asarray(reached.get_offsets()).tolist() == [[3, 5], [12, 31]]
    assert np.asarray(missed.get_offsets()).tolist() == [[20, 9], [20, 20], [20, 21]]


def test_the_legend_counts_and_hides_no_point() -> None:
    figure = draw_steps_vs_difficulty(results(), close(results(), 0.01, 200), "tiny")
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["reached (3)", "not reached in 200 steps (2)"]
    figure.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())


@pytest.mark.filterwarnings("error")
def test_a_study_in_which_none_is_reached_is_drawn_without_a_complaint() -> None:
    frame = results().query("outcome == 'censored'").replace({"steps_run": {200: 100_000}})
    (axes,) = draw_steps_vs_difficulty(frame, close(frame, 0.01, 100_000), "a" * 130).axes
    assert axes.get_xlim() == (0.9, 125_000)
    assert max(len(line) for line in axes.get_title().splitlines()) <= 60


def test_a_study_without_examples_to_show_is_drawn_too() -> None:
    errors = results().query("outcome == 'error'")
    Path("picture.png").write_bytes(steps_vs_difficulty(errors, close(errors, 0.01, 200), "tiny"))
    assert Image.open("picture.png").size == (1200, 900)
