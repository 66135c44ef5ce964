"""The study's picture."""

import io
import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lightning_app.analysis.closing import Closing

BLUE, ORANGE = "#0072B2", "#D55E00"  # two of Okabe and Ito's colours, told apart by every kind of colour vision


def steps_vs_difficulty(frame: pd.DataFrame, closing: Closing, model: str) -> bytes:
    """The picture as a PNG of 1200 x 900 pixels.

    Args:
        frame: The results.
        closing: Their statistics.
        model: Its name, for the title.
    """
    buffer = io.BytesIO()
    draw_steps_vs_difficulty(frame, closing, model).savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def draw_steps_vs_difficulty(frame: pd.DataFrame, closing: Closing, model: str) -> Figure:
    """Draws total SGD steps to epsilon against the universal difficulty rank, large enough to be read at half size.

    Not reached (censored or diverged) stands as open triangles at the limit; `error` rows have no place.

    Args:
        frame: The results.
        closing: Their statistics.
        model: Its name, for the title.
    """
    steps = frame["total_steps_to_epsilon"].to_numpy(dtype=np.float64)
    rank = frame["universal_difficulty_rank"].to_numpy(dtype=np.float64)
    outcome = frame["outcome"].to_numpy()
    figure = Figure(figsize=(8, 6), dpi=150, layout="constrained")
    axes = figure.subplots()
    reached = (outcome == "reached") & (steps <= closing.limit)
    missed = (outcome != "error") & ~reached
    if reached.any():
        axes.scatter(
            steps[reached], rank[reached], s=30, color=BLUE, alpha=0.7, linewidths=0, label=f"reached ({reached.sum()})"
        )
    if missed.any():
        axes.scatter(
            np.full(missed.sum(), closing.limit), rank[missed], s=45, marker=">", facecolors="none",
            edgecolors=ORANGE, linewidths=1.2, label=f"not reached in {closing.limit:,} steps ({missed.sum()})",
        )  # fmt: skip
        axes.axvline(closing.limit, color=ORANGE, linewidth=0.8, linestyle=":")
    axes.set_xlim(0.9, closing.limit * 1.25)  # before the scale, which complains of points that all lie at the limit
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(f"Total SGD steps to a loss of {closing.epsilon:g}", fontsize=14)
    axes.set_ylabel("Universal difficulty rank (1 = easiest)", fontsize=14)
    axes.tick_params(labelsize=13)
    axes.set_title(f"{textwrap.fill(model, 60)}\nSpearman {closing.at_epsilon.correlation}", fontsize=14)
    if reached.any() or missed.any():
        # Below the axes: wherever it stood inside, it would hide points of some study.
        figure.legend(fontsize=13, loc="outside lower center", ncols=2, frameon=False)
    return figure
