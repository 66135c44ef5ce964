"""The study's picture."""

import io

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lightning_app.analysis.closing import Closing

BLUE, ORANGE = "#0072B2", "#D55E00"  # two of Okabe and Ito's colours, told apart by every kind of colour vision


def steps_vs_difficulty(frame: pd.DataFrame, closing: Closing, model: str) -> bytes:
    """Draws total SGD steps to epsilon against the universal difficulty rank.

    Args:
        frame: The results.
        closing: Their statistics.
        model: Its name, for the title.

    Returns:
        A PNG.
    """
    steps = frame["total_steps_to_epsilon"].to_numpy(dtype=np.float64)
    rank = frame["universal_difficulty_rank"].to_numpy(dtype=np.float64)
    outcome = frame["outcome"].to_numpy()
    figure = Figure(figsize=(8, 6), dpi=150, layout="constrained")
    axes = figure.subplots()
    reached = outcome == "reached"
    missed = (outcome == "censored") | (outcome == "diverged")
    axes.scatter(steps[reached], rank[reached], s=28, color=BLUE, alpha=0.7, linewidths=0, label="reached")
    if missed.any():
        axes.scatter(
            np.full(missed.sum(), closing.limit), rank[missed], s=40, marker=">", facecolors="none",
            edgecolors=ORANGE, label=f"not reached in {closing.limit} steps",
        )  # fmt: skip
        axes.axvline(closing.limit, color=ORANGE, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlim(0.9, closing.limit * 1.25)
    axes.set_xlabel(f"Total SGD steps to a loss of {closing.epsilon:g}", fontsize=13)
    axes.set_ylabel("Universal difficulty rank (1 = easiest)", fontsize=13)
    axes.tick_params(labelsize=11)
    axes.set_title(f"{model}: Spearman {closing.at_epsilon.correlation}", fontsize=12)
    if reached.any() or missed.any():
        axes.legend(fontsize=11, loc="best")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
