import hashlib
import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.colors import to_hex
from PIL import Image

from lightning_app.analysis.load import Metadata, StepLogs, Study
from lightning_app.analysis.plots import (
    BLUE,
    ORANGE,
    as_file,
    correlation_over_thresholds,
    loss_curves,
    steps_vs_difficulty,
    survival,
)
from lightning_app.analysis.summary import summarize
from lightning_app.store.export import step_log_name, step_log_text


def study(limit: int = 200) -> Study:
    frame = pd.DataFrame(
        {
            "example_index": np.arange(6.0),
            "path": [f"{k}.png" for k in range(6)],
            "total_steps_to_epsilon": [3.0, 40, -1, -1, -1, 12],
            "universal_difficulty_rank": [5.0, 9, 20, 21, 30, 31],
            "outcome": ["reached", "reached", "censored", "diverged", "error", "reached"],
            "steps_run": [3.0, 40, 200, 7, np.nan, 12],
        }
    )
    for name in ("ln2", "1e-1", "1e-2"):
        frame[f"steps_to_{name}"] = frame["total_steps_to_epsilon"]
    return Study("tiny", Path("tiny"), frame, 0.01, limit)


def many(n: int = 6000) -> Study:
    chance = np.random.default_rng(0)
    rank = np.arange(1.0, n + 1)
    steps = np.where(chance.random(n) < rank / n, -1, chance.integers(1, 100, n)).astype(float)
    frame = pd.DataFrame(
        {"example_index": rank - 1, "path": [f"{k:g}.png" for k in rank], "total_steps_to_epsilon": steps,
         "universal_difficulty_rank": rank, "outcome": np.where(steps < 0, "censored", "reached")}
    )  # fmt: skip
    return Study("many", Path("many"), frame, 0.01, 100)


def test_the_picture_shows_what_was_reached_and_not_reached_at_the_limit() -> None:
    summary = summarize(study())
    figure = steps_vs_difficulty(study(), summary)
    (axes,) = figure.axes
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
    assert figure.get_suptitle() == f"tiny\nSpearman {summary.at_epsilon.correlation}"
    assert "n = 5, 95 % interval" in figure.get_suptitle()


def test_where_limits_differ_the_picture_ends_at_the_smallest() -> None:
    assert summarize(study(1000)).limit == 200
    earlier = study()
    earlier.frame["steps_run"] = earlier.frame["steps_run"].replace({200: 20})
    (axes,) = steps_vs_difficulty(earlier, summarize(earlier)).axes
    reached, missed = (c for c in axes.collections if isinstance(c, PathCollection))
    assert np.asarray(reached.get_offsets()).tolist() == [[3, 5], [12, 31]]
    assert np.asarray(missed.get_offsets()).tolist() == [[20, 9], [20, 20], [20, 21]]


def test_the_legend_counts_and_hides_no_point() -> None:
    figure = steps_vs_difficulty(study(), summarize(study()))
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["reached (3)", "not reached in 200 steps (2)"]
    figure.draw_without_rendering()
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())


def test_too_many_points_are_counted_in_hexagons_and_the_others_by_rank() -> None:
    figure = steps_vs_difficulty(many(), summarize(many()))
    axes = figure.axes[0]
    (cells,) = (c for c in axes.collections if isinstance(c, PolyCollection))
    reached = int((many().frame["outcome"] == "reached").sum())
    assert np.asarray(cells.get_array()).sum() == reached
    (beside,) = axes.child_axes
    shares = [bar.get_width() for bar in beside.patches]  # type: ignore[attr-defined]
    assert len(shares) == 20
    assert shares[0] < 0.1
    assert shares[-1] > 0.9


@pytest.mark.filterwarnings("error")
def test_a_study_in_which_none_is_reached_is_drawn_without_a_complaint() -> None:
    none = study(100_000)
    frame = none.frame.query("outcome == 'censored'").replace({"steps_run": {200: 100_000}})
    none = replace(none, frame=frame, name="a" * 130)
    figure = steps_vs_difficulty(none, summarize(none))
    assert figure.axes[0].get_xlim() == (0.9, 125_000)
    assert max(len(line) for line in figure.get_suptitle().splitlines()) <= 60


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [[], [4], [0], [2], [0, 4], [0, 1, 2, 3, 4, 5]])
def test_studies_with_little_in_them_are_drawn_too(rows: list[int]) -> None:
    some = replace(study(), frame=study().frame.iloc[rows].reset_index(drop=True))
    summary = summarize(some)
    pictures = [steps_vs_difficulty(some, summary), survival(some, summary), loss_curves(some, summary),
                correlation_over_thresholds([some], [summary])]  # fmt: skip
    for figure in pictures:
        if figure is not None:
            assert Image.open(io.BytesIO(as_file(figure))).size == (1200, 900)
    assert pictures[2] is None  # no step logs


def test_curves_are_those_of_the_step_logs_coloured_by_difficulty(tmp_path: Path) -> None:
    (tmp_path / "step_logs").mkdir()
    for index, losses in {0: [2.0, 0.5, 0.009], 3: [3.0, float("inf")], 5: [1.0, 0.1]}.items():
        (tmp_path / "step_logs" / step_log_name(index, f"{index}.png")).write_text(step_log_text(losses))
    found = replace(study(), losses=StepLogs(tmp_path / "step_logs", by_number=False))
    figure = loss_curves(found, summarize(found))
    assert figure is not None
    axes = figure.axes[0]
    (lines,) = (c for c in axes.collections if isinstance(c, LineCollection))
    curves = [np.asarray(path.vertices) for path in lines.get_paths()]
    assert curves[0].tolist() == [[1, 2.0], [2, 0.5], [3, 0.009]]
    assert curves[2].tolist() == [[1, 1.0], [2, 0.1]]
    assert np.asarray(lines.get_array()).tolist() == [5, 21, 31]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    thresholds = [line.get_ydata()[0] for line in axes.lines]  # type: ignore[index]
    assert thresholds == pytest.approx([np.log(2), 0.1, 0.01])


def test_correlations_over_thresholds_with_the_rankings_ceiling() -> None:
    one, other = study(), replace(study(), name="other", metadata=Metadata(ceiling=0.8))
    figure = correlation_over_thresholds([one, other], [summarize(one), summarize(other)])
    assert figure is not None
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ln 2", "0.1", "0.01"]
    rho = summarize(one).at_epsilon.correlation.value
    assert len(axes.containers) == 2
    first = axes.containers[0].lines[0]  # type: ignore[attr-defined]
    assert first.get_ydata()[-1] == pytest.approx(rho)
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["tiny", "other", "about the most this ranking allows"]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_study_gives_the_same_file(kind: str) -> None:
    first, again = (as_file(steps_vs_difficulty(study(), summarize(study())), kind) for _ in range(2))
    assert first == again
    assert re.match(rb"\x89PNG|<\?xml|%PDF", first)


@pytest.mark.parametrize("name", [r"x$\frac{$", "$$", "_hidden", "a_b^c$"])
def test_a_name_is_no_formula_and_has_its_place_in_the_legend(name: str) -> None:
    named = replace(study(), name=name)
    figure = correlation_over_thresholds([named], [summarize(named)])
    assert figure is not None
    (legend,) = figure.legends
    assert [text.get_text().strip().replace("\\$", "$") for text in legend.get_texts()] == [name]
    as_file(figure)
    as_file(steps_vs_difficulty(named, summarize(named)))


def test_many_points_of_one_rank_are_drawn() -> None:
    one_rank = many()
    one_rank.frame["universal_difficulty_rank"] = 7.0
    assert as_file(steps_vs_difficulty(one_rank, summarize(one_rank))).startswith(b"\x89PNG")


def test_no_step_at_all_is_drawn_at_the_left_end() -> None:
    first_step = study()
    first_step.frame.loc[0, "total_steps_to_epsilon"] = 0
    (axes,) = steps_vs_difficulty(first_step, summarize(first_step)).axes
    reached, _ = (c for c in axes.collections if isinstance(c, PathCollection))
    assert np.asarray(reached.get_offsets()).tolist()[0] == [1, 5]


UNDECODABLE = b"font.size: \xff\xfe"
HOSTILE = (
    b"text.usetex: True\nfont.family: Nowhere\nfont.size: 31\nfigure.dpi: 20\nsavefig.dpi: 20\nsavefig.bbox: tight\n"
    b"axes.grid: True\naxes.facecolor: black\nsavefig.facecolor: red\nlines.linewidth: 9\nimage.lut: 3\n"
    b"figure.constrained_layout.h_pad: 2\naxes.formatter.use_locale: True\nsvg.fonttype: none\npdf.compression: 0\n"
    b"axes.prop_cycle: cycler('color', ['red'])\nbackend: nowhere\nno colon\nnobody.knows: it\nfigure.dpi: many\n"
)


def digests(*kinds: str) -> dict[str, str]:
    """Of every picture in some forms."""
    one, more = study(), many()
    figures = {
        "few": steps_vs_difficulty(one, summarize(one)),
        "many": steps_vs_difficulty(more, summarize(more)),
        "survival": survival(more, summarize(more)),
        "thresholds": correlation_over_thresholds([one], [summarize(one)]),
    }
    if Path("step_logs").is_dir():
        figures["curves"] = loss_curves(
            replace(one, losses=StepLogs(Path("step_logs"), by_number=False)), summarize(one)
        )
    return {
        f"{name}.{kind}": hashlib.sha256(as_file(figure, kind)).hexdigest()
        for name, figure in figures.items()
        if figure is not None
        for kind in kinds
    }


def write_logs() -> None:
    Path("step_logs").mkdir()
    for index in (0, 3, 5):
        Path("step_logs", step_log_name(index, f"{index}.png")).write_text(step_log_text([2.0, 0.5, 0.009]))


def test_a_users_settings_change_no_byte_of_a_picture() -> None:
    write_logs()
    before = digests("png", "svg", "pdf")
    assert len(before) == 15
    settings = {
        "text.usetex": True, "font.family": "Nowhere", "font.size": 31, "figure.dpi": 20, "savefig.bbox": "tight",
        "axes.grid": True, "lines.linewidth": 9, "svg.fonttype": "none", "savefig.facecolor": "red", "pdf.fonttype": 42,
    }  # fmt: skip
    with mpl.rc_context(settings):  # type: ignore[arg-type]
        assert digests("png", "svg", "pdf") == before
        assert mpl.rcParams["font.size"] == 31  # theirs again


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("matplotlibrc", None),
        ("named", HOSTILE),
        ("home/.config/matplotlib/matplotlibrc", UNDECODABLE),
        ("config/stylelib/x.mplstyle", UNDECODABLE),
    ],
)
def test_nor_what_matplotlib_finds_when_it_is_loaded(where: str, what: bytes | None) -> None:
    """In a process that loads it as torchmetrics does, with a file that is bad, can't be decoded, or is a pipe."""
    file = Path(where).absolute()
    file.parent.mkdir(parents=True, exist_ok=True)
    if what is None:
        os.mkfifo(file)
    else:
        file.write_bytes(what)
    surroundings = {
        "HOME": str(Path("home").absolute()), "MPLBACKEND": "module://nowhere", "LC_ALL": "xx_YY",
        "PYTHONPATH": str(Path(__file__).parents[2]), **({"MATPLOTLIBRC": str(file)} if where == "named" else {}),
        **({"MPLCONFIGDIR": str(Path("config").absolute())} if where.startswith("config") else {}),
    }  # fmt: skip
    code = (
        "from lightning_app.console.process import settle_process; settle_process(); import matplotlib.pyplot;"
        " from tests.analysis.test_plots import digests; print(digests('png'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **surroundings}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{digests('png')}\n"
    assert done.stderr == ""
